//! Rooms with local members, for brokers that deliver only what a node has subscribed to. No I/O and no clock: the
//! transport subscribes and tells the time.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    hash::Hash,
    time::{Duration, Instant},
};

use crate::rooms::Buckets;
use trunkline_core::model::Room;

/// How rooms map to the keys that a node subscribes to: [`Buckets`], or a channel per room.
pub trait RoomKeys: fmt::Debug + Send + Sync + 'static {
    /// A bucket or the name of a channel. Several rooms may share one.
    type Key: Clone + Eq + Hash + fmt::Debug + Send + Sync + 'static;

    /// Key of a room; `None` if its messages go to all nodes.
    fn key_of(&self, room: &Room) -> Option<Self::Key>;
}

/// Rooms of one node that have local members, by key, and which keys the broker delivers.
///
/// A key without rooms lingers for a while before it is given up, so that a room that flaps costs nothing. Entering a
/// room twice counts once.
#[derive(Debug)]
pub struct Interest<R: RoomKeys = Buckets> {
    keys: R,
    linger: Duration,
    states: HashMap<R::Key, State>,
    /// Keys without rooms, each once, in the order in which they are to be looked at.
    empty: VecDeque<(Instant, R::Key)>,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashSet<Room>,
    /// The broker delivers the key here.
    active: bool,
    /// Without rooms, when to give it up.
    expires: Option<Instant>,
    /// It is one of the empty ones.
    is_listed: bool,
}

impl<R: RoomKeys> Interest<R> {
    /// No rooms yet. `linger` is how long a key without rooms stays.
    #[must_use]
    pub fn new(keys: R, linger: Duration) -> Self {
        Self { keys, linger, states: HashMap::new(), empty: VecDeque::new() }
    }

    /// Notes that a room has local members. Returns the key that has to be subscribed to, or whose subscription is
    /// still on its way; `None` if messages for the room arrive already.
    pub fn enter(&mut self, room: &Room) -> Option<R::Key> {
        let key = self.keys.key_of(room)?;
        let state = self.states.entry(key.clone()).or_default();
        state.expires = None;
        if !state.rooms.contains(room) {
            state.rooms.insert(room.clone());
        }
        (!state.active).then_some(key)
    }

    /// Notes that a room has no local members any more.
    pub fn leave(&mut self, now: Instant, room: &Room) {
        let Some(key) = self.keys.key_of(room) else { return };
        let Some(state) = self.states.get_mut(&key) else { return };
        if !state.rooms.remove(room) || !state.rooms.is_empty() {
            return;
        }
        // The capacity of many thousand rooms is not kept for the next few.
        state.rooms = HashSet::new();
        let expires = now + self.linger;
        state.expires = Some(expires);
        if !std::mem::replace(&mut state.is_listed, true) {
            self.empty.push_back((expires, key));
        }
    }

    /// The broker delivers the key here from now on, or no longer.
    pub fn set_active(&mut self, key: &R::Key, active: bool) {
        if let Some(state) = self.states.get_mut(key) {
            state.active = active;
        }
    }

    /// Whether the broker delivers the key here.
    #[must_use]
    pub fn is_active(&self, key: &R::Key) -> bool {
        self.states.get(key).is_some_and(|state| state.active)
    }

    /// Whether messages for a room arrive, and will go on to as long as it has local members.
    #[must_use]
    pub fn is_entered(&self, room: &Room) -> bool {
        let Some(key) = self.keys.key_of(room) else { return true };
        self.states.get(&key).is_some_and(|state| state.active && state.rooms.contains(room))
    }

    /// The connection is gone: the broker delivers nothing.
    pub fn deactivate_all(&mut self) {
        self.states.values_mut().for_each(|state| state.active = false);
    }

    /// Keys to subscribe to on a new connection: those that have rooms, or had some a moment ago.
    pub fn wanted(&self) -> impl Iterator<Item = R::Key> {
        self.states.keys().cloned()
    }

    /// Whether the key has rooms, or had some a moment ago.
    #[must_use]
    pub fn is_wanted(&self, key: &R::Key) -> bool {
        self.states.contains_key(key)
    }

    /// When the next key may have to be given up.
    pub fn deadline(&mut self) -> Option<Instant> {
        while let Some((due, key)) = self.empty.front() {
            match self.states.get_mut(key) {
                Some(state) if state.expires.is_none() => state.is_listed = false,
                _ => return Some(*due),
            }
            self.empty.pop_front();
        }
        None
    }

    /// Keys to unsubscribe from: their last room is gone for long enough.
    pub fn take_expired(&mut self, now: Instant) -> Vec<R::Key> {
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

    /// Number of keys that the broker delivers here.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.states.values().filter(|state| state.active).count()
    }

    /// How many rooms have members.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.states.values().map(|state| state.rooms.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);

    fn interest() -> Interest {
        Interest::new(Buckets::DEFAULT, LINGER)
    }

    /// A channel per room. A number and its text share one.
    #[derive(Debug)]
    struct Channels;

    impl RoomKeys for Channels {
        type Key = String;

        fn key_of(&self, room: &Room) -> Option<String> {
            Some(room.to_text().to_string())
        }
    }

    #[test]
    fn a_bucket_is_to_be_subscribed_until_it_is_active() {
        let mut interest = interest();
        let bucket = interest.enter(&"a".into()).unwrap();
        assert_eq!(interest.enter(&"a".into()), Some(bucket), "still on its way");
        interest.set_active(&bucket, true);
        assert_eq!(interest.enter(&"a".into()), None);
        interest.deactivate_all();
        assert_eq!(interest.wanted().collect::<Vec<_>>(), [bucket]);
        assert_eq!(interest.enter(&"a".into()), Some(bucket));
    }

    #[test]
    fn a_bucket_lingers_after_its_last_room_and_a_room_that_flaps_costs_nothing() {
        let start = Instant::now();
        let mut interest = interest();
        let bucket = interest.enter(&"a".into()).unwrap();
        interest.set_active(&bucket, true);
        interest.leave(start, &"a".into());
        assert_eq!(interest.deadline(), Some(start + LINGER));
        assert!(interest.is_wanted(&bucket));
        assert_eq!(interest.enter(&"a".into()), None);
        assert_eq!(interest.deadline(), None);
        interest.leave(start, &"a".into());
        assert!(interest.take_expired(start + LINGER / 2).is_empty());
        assert_eq!(interest.take_expired(start + LINGER), [bucket]);
        assert!(!interest.is_wanted(&bucket));
    }

    #[test]
    fn a_channel_lingers_until_the_last_room_that_shares_it_is_gone() {
        let (mut interest, start) = (Interest::new(Channels, LINGER), Instant::now());
        let channel = interest.enter(&"42".into()).unwrap();
        assert_eq!(interest.enter(&42.into()).as_ref(), Some(&channel));
        interest.leave(start, &"42".into());
        assert_eq!(interest.deadline(), None);
        interest.leave(start, &42.into());
        assert_eq!(interest.take_expired(start + LINGER), std::slice::from_ref(&channel));
        assert_eq!(interest.enter(&42.into()), Some(channel));
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
        assert_eq!(interest.take_expired(start + LINGER * 2).len(), 1);
        assert_eq!((interest.deadline(), interest.states.len()), (None, 0));
    }

    #[test]
    fn entering_a_room_twice_counts_once() {
        let mut interest = interest();
        interest.enter(&"a".into());
        interest.enter(&"a".into());
        assert_eq!(interest.rooms(), 1);
        interest.leave(Instant::now(), &"a".into());
        interest.leave(Instant::now(), &"a".into());
        assert_eq!(interest.rooms(), 0);
    }

    #[test]
    fn a_room_that_was_never_entered_is_not_left() {
        let mut interest = interest();
        interest.leave(Instant::now(), &42.into());
        assert_eq!(interest.deadline(), None);
    }

    #[test]
    fn fifty_thousand_rooms_need_no_more_subscriptions_than_there_are_buckets() {
        let mut interest = interest();
        for number in 0..50_000 {
            interest.enter(&Room::new(format!("room:{number}")));
        }
        assert_eq!(interest.wanted().count(), 256);
    }
}
