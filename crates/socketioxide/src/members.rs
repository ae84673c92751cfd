//! Whether a room has members, without collecting them.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockWriteGuard},
};

use socketioxide_core::{
    Sid,
    adapter::{BroadcastOptions, CoreLocalAdapter, SocketEmitter},
};

/// One member of each large room of a namespace.
///
/// socketioxide tells an adapter all members of a room or nothing, and `socket.join` passes the adapter by, so that
/// members cannot be counted here. But whether one socket is still in a room is told by that socket's rooms, whatever
/// the size of the room.
#[derive(Debug, Default)]
pub(crate) struct KnownMembers(RwLock<State>);

#[derive(Debug, Default)]
struct State {
    /// By room.
    members: HashMap<String, Sid>,
    /// From this many on, those that have left are looked for: rooms may disappear without another look at them.
    sweep_at: usize,
}

impl KnownMembers {
    /// Whether `room` has a member. Collects the members only if the known one has left.
    pub(crate) fn has_members<E: SocketEmitter>(&self, local: &CoreLocalAdapter<E>, room: &str) -> bool {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).members.get(room).copied();
        if known.is_some_and(|member| is_member(local, member, room)) {
            return true;
        }
        let mut opts = BroadcastOptions::default();
        opts.rooms.push(Cow::Owned(room.to_owned()));
        let members = local.sockets(opts);
        match members.first() {
            Some(first) if members.len() > (local.socket_rooms(*first).len() * PER_ROOM).max(FEW) => {
                self.remember(local, room, *first);
            }
            _ if known.is_some() => drop(self.write().members.remove(room)),
            _ => {}
        }
        !members.is_empty()
    }

    fn remember<E: SocketEmitter>(&self, local: &CoreLocalAdapter<E>, room: &str, member: Sid) {
        let mut state = self.write();
        if state.members.len() >= state.sweep_at {
            state.members.retain(|room, member| is_member(local, *member, room));
            state.sweep_at = (state.members.len() * 2).max(SWEEP_MIN);
        }
        state.members.insert(room.to_owned(), member);
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        // The map is valid after each step.
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_member<E: SocketEmitter>(local: &CoreLocalAdapter<E>, socket: Sid, room: &str) -> bool {
    local.socket_rooms(socket).contains(room)
}

/// Collecting so many members costs no more than a look at one.
const FEW: usize = 32;

/// Copying one room of a socket costs as much as collecting so many members.
const PER_ROOM: usize = 8;

/// Few enough to be kept although they may have left.
const SWEEP_MIN: usize = 64;
