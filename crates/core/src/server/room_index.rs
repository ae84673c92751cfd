//! [`RoomIndex`]: rooms and their members, for servers that keep none of their own.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

use crate::model::{Room, Target};

/// Index of sockets by room and of rooms by socket. `S` identifies a socket and is cheap to clone.
///
/// A socket is a member of the namespace from [`RoomIndex::insert`] to [`RoomIndex::remove`], whatever rooms it is in.
#[derive(Clone, Debug)]
pub struct RoomIndex<S> {
    sockets: HashMap<S, HashSet<Room>>,
    rooms: HashMap<Room, HashSet<S>>,
}

impl<S: Clone + Eq + Hash> RoomIndex<S> {
    /// Index without sockets.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a socket, in no room. Returns `false` if it was there already.
    pub fn insert(&mut self, socket: S) -> bool {
        match self.sockets.entry(socket) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(HashSet::new());
                true
            }
        }
    }

    /// Removes a socket from the namespace. Returns the rooms that are empty now.
    pub fn remove(&mut self, socket: &S) -> Vec<Room> {
        let rooms = self.sockets.remove(socket).unwrap_or_default();
        rooms.into_iter().filter(|room| self.remove_member(room, socket)).collect()
    }

    /// Makes a socket join a room. Returns whether it is the room's first member. An unknown socket joins nothing.
    pub fn join(&mut self, socket: &S, room: &Room) -> bool {
        let Some(rooms) = self.sockets.get_mut(socket) else { return false };
        if !rooms.insert(room.clone()) {
            return false;
        }
        let members = self.rooms.entry(room.clone()).or_default();
        members.insert(socket.clone());
        members.len() == 1
    }

    /// Makes a socket leave a room. Returns whether it was the room's last member.
    pub fn leave(&mut self, socket: &S, room: &Room) -> bool {
        self.sockets.get_mut(socket).is_some_and(|rooms| rooms.remove(room)) && self.remove_member(room, socket)
    }

    fn remove_member(&mut self, room: &Room, socket: &S) -> bool {
        let Some(members) = self.rooms.get_mut(room) else { return false };
        members.remove(socket);
        let is_empty = members.is_empty();
        if is_empty {
            self.rooms.remove(room);
        }
        is_empty
    }

    /// Calls `visit` for every matching socket, each once.
    pub fn for_each_match(&self, target: &Target, mut visit: impl FnMut(&S)) {
        let excepted: Vec<_> = target.except.iter().filter_map(|room| self.rooms.get(room)).collect();
        let is_excepted = |socket: &S| excepted.iter().any(|members| members.contains(socket));
        let visit_one = |socket: &S| {
            if !is_excepted(socket) {
                visit(socket);
            }
        };
        match target.rooms.as_slice() {
            [] => self.sockets.keys().for_each(visit_one),
            [room] => self.rooms.get(room).into_iter().flatten().for_each(visit_one),
            rooms => self.union(rooms).into_iter().for_each(visit_one),
        }
    }

    fn union(&self, rooms: &[Room]) -> HashSet<&S> {
        rooms.iter().filter_map(|room| self.rooms.get(room)).flatten().collect()
    }

    /// The matching sockets.
    #[must_use]
    pub fn matching(&self, target: &Target) -> Vec<S> {
        let mut sockets = Vec::new();
        self.for_each_match(target, |socket| sockets.push(socket.clone()));
        sockets
    }

    /// Whether the room has a member.
    #[must_use]
    pub fn has_room(&self, room: &Room) -> bool {
        self.rooms.contains_key(room)
    }

    /// All rooms with a member.
    pub fn rooms(&self) -> impl Iterator<Item = &Room> {
        self.rooms.keys()
    }

    /// The rooms of a socket; `None` if it is unknown.
    #[must_use]
    pub fn rooms_of(&self, socket: &S) -> Option<&HashSet<Room>> {
        self.sockets.get(socket)
    }

    /// Number of sockets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sockets.len()
    }

    /// Whether there is no socket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

impl<S> Default for RoomIndex<S> {
    fn default() -> Self {
        Self { sockets: HashMap::new(), rooms: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> RoomIndex<u32> {
        let mut index = RoomIndex::new();
        for socket in 1..=3 {
            assert!(index.insert(socket));
        }
        assert!(index.join(&1, &"a".into()));
        assert!(!index.join(&2, &"a".into()));
        assert!(index.join(&2, &"b".into()));
        assert!(index.join(&3, &Room::from(42)));
        index
    }

    fn matching(target: &Target) -> Vec<u32> {
        let mut sockets = index().matching(target);
        sockets.sort_unstable();
        sockets
    }

    #[test]
    fn several_rooms_address_each_socket_once() {
        assert_eq!(matching(&Target::rooms(["a", "b", "a"])), [1, 2]);
        assert_eq!(matching(&Target::all()), [1, 2, 3]);
        assert_eq!(matching(&Target::room("nowhere")), [0; 0]);
    }

    #[test]
    fn excepted_rooms_are_left_out() {
        assert_eq!(matching(&Target::all().except("b")), [1, 3]);
        assert_eq!(matching(&Target::room("a").except("b").except("nowhere")), [1]);
    }

    #[test]
    fn number_rooms_are_compared_by_type() {
        assert_eq!(matching(&Target::room(42)), [3]);
        assert_eq!(matching(&Target::room("42")), [0; 0]);
    }

    #[test]
    fn the_last_member_closes_a_room() {
        let mut index = index();
        assert!(!index.leave(&1, &"a".into()));
        assert!(!index.leave(&1, &"a".into()), "it is no member any more");
        let mut emptied = index.remove(&2);
        emptied.sort_unstable();
        assert_eq!(emptied, [Room::from("a"), Room::from("b")]);
        assert!(!index.has_room(&"a".into()));
        assert!(!index.join(&9, &"a".into()), "an unknown socket joins nothing");
        assert!(!index.has_room(&"a".into()));
    }
}
