//! The room that is named by the id of a socket. On Node.js servers each socket is in it; here, only one that the
//! application made join it, or that was addressed by its id.

use std::{
    collections::HashSet,
    str::FromStr,
    sync::{Mutex, PoisonError},
};

use socketioxide_core::Sid;
use trunkline_core::{Room, SocketInfo};

/// The sockets that are in their own room because they were addressed by it, and not because the application joined it.
#[derive(Debug, Default)]
pub(crate) struct OwnRooms(Mutex<Joined>);

#[derive(Debug, Default)]
struct Joined {
    sockets: HashSet<Sid>,
    /// How many there were after closed ones were last removed.
    connected: usize,
}

impl OwnRooms {
    /// Notes a socket that is to join its own room, and did not before.
    pub(crate) fn add(&self, socket: Sid, is_connected: impl Fn(Sid) -> bool) {
        // The set is valid after each step.
        let mut joined = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        joined.sockets.insert(socket);
        if joined.sockets.len() > 2 * joined.connected + 64 {
            joined.sockets.retain(|socket| is_connected(*socket));
            joined.connected = joined.sockets.len();
        }
    }

    pub(crate) fn has(&self, socket: Sid) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).sockets.contains(&socket)
    }
}

/// The rooms that the application made a fetched socket join. Its own room stands behind them in the description of a
/// socket of a server like this; Node.js servers list it once, somewhere.
pub(crate) fn joined_rooms(socket: &SocketInfo) -> impl Iterator<Item = &Room> {
    let is_own = |room: &Room| room.as_text() == Some(socket.id.as_str());
    let (joined, keeps_own) = match socket.rooms.split_last() {
        Some((last, joined)) if is_own(last) && Sid::from_str(socket.id.as_str()).is_ok() => (joined, true),
        _ => (&*socket.rooms, false),
    };
    joined.iter().filter(move |room| keeps_own || !is_own(room))
}
