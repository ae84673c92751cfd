//! Joining and leaving rooms with confirmation by the broker.

use socketioxide::{adapter::Adapter, socket::Socket};
use socketioxide_core::adapter::RoomParam;

/// Joins and leaves that complete when the broker knows of them.
///
/// `socket.join(…)` changes only this server's own list. That is enough where every message reaches every node. Where
/// the backend sends a room's messages only to the nodes with a member in it, they may be missed until the next report
/// of rooms to the broker (see *rooms* in the [crate documentation](crate)); after an awaited join they are not.
pub trait AwaitedRooms<A: Adapter> {
    /// Joins rooms. What any node emits to them after the return arrives.
    fn join_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send;

    /// Leaves rooms.
    fn leave_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send;
}

impl<A: Adapter> AwaitedRooms<A> for Socket<A> {
    fn join_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send {
        // Without a room, a socket's operators select the socket itself.
        self.local().join(rooms)
    }

    fn leave_awaited(&self, rooms: impl RoomParam) -> impl Future<Output = Result<(), A::Error>> + Send {
        self.local().leave(rooms)
    }
}
