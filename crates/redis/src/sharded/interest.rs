//! Which rooms have members here, by the key to subscribe to. No I/O and no clock: the transport subscribes and tells the time.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

use trunkline_core::Room;

/// What a room's messages are published on: one of some buckets, or a channel of its own.
pub(crate) trait RoomKeys: fmt::Debug + Send + Sync + 'static {
    /// A bucket or a channel.
    type Key: Clone + Eq + Hash + fmt::Debug + Send + Sync;

    /// The key of a room; `None` if its messages go to all nodes.
    fn key_of(&self, room: &Room) -> Option<Self::Key>;
}

/// The rooms of one node that have local members, by key, and which keys the broker delivers.
///
/// A key without rooms lingers for a while before it is given up, so that a room that flaps costs nothing. Entering a room twice counts once.
#[derive(Debug)]
pub(crate) struct Interest<R: RoomKeys> {
    keys: R,
    linger: Duration,
    states: HashMap<R::Key, State>,
    /// Keys without rooms, each once, in the order in which they are to be looked at.
    empty: VecDeque<(Instant, R::Key)>,
}

#[derive(Debug, Default)]
struct State {
    /// Often one: a vector is smaller than a set, and as fast.
    rooms: Vec<Room>,
    /// The broker delivers the key here.
    active: bool,
    /// Without rooms, when to give it up.
    expires: Option<Instant>,
    /// It is one of the empty ones.
    is_listed: bool,
}

impl<R: RoomKeys> Interest<R> {
    /// No rooms yet. `linger` is how long a key without rooms stays.
    pub(crate) fn new(keys: R, linger: Duration) -> Self {
        Self { keys, linger, states: HashMap::new(), empty: VecDeque::new() }
    }

    /// Notes that a room has local members. Returns the key that has to be subscribed to, or whose subscription is still on its way;
    /// `None` if messages for the room arrive already.
    pub(crate) fn enter(&mut self, room: &Room) -> Option<R::Key> {
        let key = self.keys.key_of(room)?;
        let state = self.states.entry(key.clone()).or_default();
        state.expires = None;
        if !state.rooms.contains(room) {
            state.rooms.push(room.clone());
        }
        (!state.active).then_some(key)
    }

    /// Notes that a room has no local members any more.
    pub(crate) fn leave(&mut self, now: Instant, room: &Room) {
        let Some(key) = self.keys.key_of(room) else { return };
        let Some(state) = self.states.get_mut(&key) else { return };
        state.rooms.retain(|other| other != room);
        if !state.rooms.is_empty() || state.expires.is_some() {
            return;
        }
        let expires = now + self.linger;
        state.expires = Some(expires);
        if !std::mem::replace(&mut state.is_listed, true) {
            self.empty.push_back((expires, key));
        }
    }

    /// The broker delivers the key here from now on.
    pub(crate) fn activate(&mut self, key: &R::Key) {
        if let Some(state) = self.states.get_mut(key) {
            state.active = true;
        }
    }

    pub(crate) fn is_active(&self, key: &R::Key) -> bool {
        self.states.get(key).is_some_and(|state| state.active)
    }

    /// When there is something to look at next.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.empty.front().map(|(due, _)| *due)
    }

    /// The keys to unsubscribe from: their last room is gone for long enough.
    pub(crate) fn take_expired(&mut self, now: Instant) -> Vec<R::Key> {
        let mut expired = Vec::new();
        while let Some((_, key)) = self.empty.pop_front_if(|(due, _)| *due <= now) {
            let Some(state) = self.states.get_mut(&key) else { continue };
            match state.expires {
                None => state.is_listed = false,
                // It had rooms meanwhile.
                Some(expires) if expires > now => self.empty.push_back((expires, key)),
                Some(_) => {
                    self.states.remove(&key);
                    expired.push(key);
                }
            }
        }
        expired
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);

    /// A number and its text share a key.
    #[derive(Debug)]
    struct Texts;

    impl RoomKeys for Texts {
        type Key = String;

        fn key_of(&self, room: &Room) -> Option<String> {
            Some(room.to_text().into())
        }
    }

    fn interest() -> Interest<Texts> {
        Interest::new(Texts, LINGER)
    }

    #[test]
    fn a_key_is_subscribed_to_once() {
        let mut interest = interest();
        let key = interest.enter(&"42".into()).unwrap();
        assert_eq!(interest.enter(&42.into()).as_ref(), Some(&key), "still on its way");
        interest.activate(&key);
        assert_eq!(interest.enter(&"42".into()), None);
    }

    #[test]
    fn it_lingers_when_its_last_room_is_gone() {
        let (mut interest, start) = (interest(), Instant::now());
        let key = interest.enter(&"42".into()).unwrap();
        interest.enter(&42.into());
        interest.leave(start, &"42".into());
        assert_eq!(interest.deadline(), None);
        interest.leave(start, &42.into());
        assert_eq!(interest.deadline(), Some(start + LINGER));
        assert!(interest.take_expired(start + LINGER / 2).is_empty());
        assert_eq!(interest.take_expired(start + LINGER), [key.clone()]);
        assert_eq!(interest.enter(&42.into()), Some(key));
    }

    #[test]
    fn a_room_that_flaps_is_looked_at_once() {
        let (mut interest, start) = (interest(), Instant::now());
        interest.enter(&42.into());
        for _ in 0..100 {
            interest.leave(start, &42.into());
            interest.enter(&42.into());
        }
        assert_eq!(interest.empty.len(), 1);
        interest.leave(start + LINGER, &42.into());
        assert!(interest.take_expired(start + LINGER).is_empty(), "it had members a moment ago");
        assert_eq!(interest.take_expired(start + LINGER * 2), ["42"]);
        assert_eq!((interest.deadline(), interest.states.len()), (None, 0));
    }

    #[test]
    fn a_room_that_was_never_entered_is_not_left() {
        let mut interest = interest();
        interest.leave(Instant::now(), &42.into());
        assert_eq!(interest.deadline(), None);
    }
}
