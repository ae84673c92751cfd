//! Joining and leaving rooms so that the cluster knows.

use socketioxide::{adapter::Adapter, socket::Socket};
use socketioxide_core::adapter::RoomParam;

/// Joins and leaves that can be awaited.
///
/// `socket.join(…)` changes only this server's own list. That is enough where every message reaches every node. Where the backend sends a
/// room's messages only to the nodes with a member in it, they may pass by until the cluster has noticed the join (see *rooms* in the
/// [crate documentation](crate)); after an awaited join they do not.
pub trait AwaitedRooms<A: Adapter> {
    /// Joins rooms. On return, what any node sends to them afterwards arrives.
    fn join_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send;

    /// Leaves rooms.
    fn leave_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send;
}

impl<A: Adapter> AwaitedRooms<A> for Socket<A> {
    fn join_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send {
        // Without a room, the operators of a socket mean the socket itself.
        self.local().join(rooms)
    }

    fn leave_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send {
        self.local().leave(rooms)
    }
}
