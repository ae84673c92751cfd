//! Which rooms have members here, for brokers that deliver only what somebody wants.
//!
//! A broker must never hold one subscription per room: tearing down tens of thousands of them at once has frozen brokers. So a room hashes
//! into one of a few hundred *buckets*, and a node subscribes to a bucket while any of its rooms has a local member. No I/O and no clock:
//! the transport subscribes and tells the time.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use trunkline_core::{
    error::{Error, ErrorKind, Result},
    model::{Room, SeqChannel},
};

/// How rooms are spread over buckets. All nodes of a cluster must use the same number; heartbeats carry it, so that a difference is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buckets(u16);

impl Buckets {
    /// The default number.
    pub const DEFAULT: Self = Self(256);

    /// The largest number: more would be what buckets are meant to avoid, and more channels than the engine keeps track of.
    pub const MAX: u16 = 1023;

    /// So many buckets.
    ///
    /// # Errors
    /// `Config` unless there are 1 to [`Buckets::MAX`].
    pub fn new(count: u16) -> Result<Self> {
        if (1..=Self::MAX).contains(&count) {
            return Ok(Self(count));
        }
        Err(Error::new(ErrorKind::Config, format!("{count} room buckets; allowed are 1 to {}", Self::MAX)))
    }

    /// How many there are.
    #[must_use]
    pub fn count(self) -> u16 {
        self.0
    }

    /// The bucket of a room: the 32-bit FNV-1a hash of its UTF-8 text, modulo the number of buckets.
    ///
    /// A room that is a whole number is hashed as its decimal text. Other numbers have no bucket: languages print them differently, so what
    /// is sent to them goes to everybody.
    #[must_use]
    pub fn of(self, room: &Room) -> Option<Bucket> {
        let hash = match room {
            Room::Text(name) => fnv1a(name.as_bytes()),
            Room::Number(number) => fnv1a(number.as_integer()?.to_string().as_bytes()),
        };
        u16::try_from(hash % u32::from(self.0)).ok().map(Bucket)
    }

    /// All of them.
    pub fn iter(self) -> impl ExactSizeIterator<Item = Bucket> + use<> {
        (0..self.0).map(Bucket)
    }
}

impl Default for Buckets {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// Small, stable and the same in every language, which the hashes of the standard library are not.
fn fnv1a(bytes: &[u8]) -> u32 {
    const OFFSET: u32 = 0x811c_9dc5;
    const PRIME: u32 = 0x0100_0193;
    bytes.iter().fold(OFFSET, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(PRIME))
}

/// One of the [`Buckets`], counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket(u16);

impl Bucket {
    /// Its number.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }

    /// The channel on which its messages are numbered: those after [`SeqChannel::ALL`].
    #[must_use]
    pub fn channel(self) -> SeqChannel {
        SeqChannel(self.0 + 1)
    }

    fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// The rooms of one node that have local members, by bucket, and which buckets the broker delivers.
///
/// A bucket without rooms lingers for a while before it is given up, so that a room that flaps costs nothing. Entering a room twice counts once.
#[derive(Debug)]
pub struct Interest {
    buckets: Buckets,
    linger: Duration,
    states: Vec<State>,
}

#[derive(Debug, Default)]
struct State {
    rooms: HashSet<Room>,
    /// The broker delivers the bucket here.
    active: bool,
    /// Without rooms, when to give it up.
    expires: Option<Instant>,
}

impl State {
    fn is_wanted(&self) -> bool {
        !self.rooms.is_empty() || self.expires.is_some()
    }
}

impl Interest {
    /// No rooms yet. `linger` is how long a bucket without rooms stays.
    #[must_use]
    pub fn new(buckets: Buckets, linger: Duration) -> Self {
        let states = (0..buckets.count()).map(|_| State::default()).collect();
        Self { buckets, linger, states }
    }

    /// Notes that a room has local members. Returns the bucket that has to be subscribed to, or whose subscription is still on its way;
    /// `None` if messages for the room arrive already.
    pub fn enter(&mut self, room: &Room) -> Option<Bucket> {
        let bucket = self.buckets.of(room)?;
        let state = &mut self.states[bucket.index()];
        state.expires = None;
        if !state.rooms.contains(room) {
            state.rooms.insert(room.clone());
        }
        (!state.active).then_some(bucket)
    }

    /// Notes that a room has no local members any more.
    pub fn leave(&mut self, now: Instant, room: &Room) {
        let Some(bucket) = self.buckets.of(room) else { return };
        let state = &mut self.states[bucket.index()];
        if state.rooms.remove(room) && state.rooms.is_empty() {
            // The capacity of many thousand rooms is not kept for the next few.
            state.rooms = HashSet::new();
            state.expires = Some(now + self.linger);
        }
    }

    /// The broker delivers the bucket here from now on, or no longer.
    pub fn set_active(&mut self, bucket: Bucket, active: bool) {
        if let Some(state) = self.states.get_mut(bucket.index()) {
            state.active = active;
        }
    }

    /// Whether the broker delivers the bucket here.
    #[must_use]
    pub fn is_active(&self, bucket: Bucket) -> bool {
        self.states.get(bucket.index()).is_some_and(|state| state.active)
    }

    /// The connection is gone: the broker delivers nothing.
    pub fn deactivate_all(&mut self) {
        for state in &mut self.states {
            state.active = false;
        }
    }

    /// The buckets to subscribe to on a new connection.
    pub fn wanted(&self) -> impl Iterator<Item = Bucket> {
        self.buckets.iter().zip(&self.states).filter(|(_, state)| state.is_wanted()).map(|(bucket, _)| bucket)
    }

    /// Whether the bucket has rooms, or had some a moment ago.
    #[must_use]
    pub fn wants(&self, bucket: Bucket) -> bool {
        self.states.get(bucket.index()).is_some_and(State::is_wanted)
    }

    /// When the next bucket is to be given up.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.states.iter().filter_map(|state| state.expires).min()
    }

    /// The buckets to unsubscribe from: their last room is gone for long enough. They count as inactive from here on.
    pub fn take_expired(&mut self, now: Instant) -> Vec<Bucket> {
        let mut expired = Vec::new();
        for (bucket, state) in self.buckets.iter().zip(&mut self.states) {
            if state.expires.is_some_and(|expires| expires <= now) {
                state.expires = None;
                state.active = false;
                expired.push(bucket);
            }
        }
        expired
    }

    /// How many rooms have members.
    #[must_use]
    pub fn rooms(&self) -> usize {
        self.states.iter().map(|state| state.rooms.len()).sum()
    }
}

/// Rooms into which sockets of other nodes were moved a moment ago.
///
/// The node that serves such a socket may not have subscribed yet when the next message for the room is published. So for a grace period
/// what is sent to these rooms goes to everybody.
#[derive(Debug)]
pub struct RecentJoins {
    buckets: Buckets,
    grace: Duration,
    /// Per bucket: bounded, and a room that shares the bucket of a fresh one only travels further than it has to.
    until: Vec<Option<Instant>>,
}

impl RecentJoins {
    /// None yet.
    #[must_use]
    pub fn new(buckets: Buckets, grace: Duration) -> Self {
        Self { buckets, grace, until: vec![None; usize::from(buckets.count())] }
    }

    /// Somebody has asked the cluster to let sockets join these rooms.
    pub fn note(&mut self, now: Instant, rooms: &[Room]) {
        for bucket in rooms.iter().filter_map(|room| self.buckets.of(room)) {
            self.until[bucket.index()] = Some(now + self.grace);
        }
    }

    /// The bucket on which a message for the room is to be published; `None` if it has to go to everybody.
    #[must_use]
    pub fn route(&self, now: Instant, room: &Room) -> Option<Bucket> {
        let bucket = self.buckets.of(room)?;
        let is_fresh = self.until[bucket.index()].is_some_and(|until| now < until);
        (!is_fresh).then_some(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);

    fn interest() -> Interest {
        Interest::new(Buckets::DEFAULT, LINGER)
    }

    #[test]
    fn the_hash_is_fnv_1a_as_documented() {
        assert_eq!(fnv1a(b""), 0x811c_9dc5);
        assert_eq!(fnv1a(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a(b"foobar"), 0xbf9c_f968);
    }

    #[test]
    fn whole_numbers_share_the_bucket_of_their_text_and_other_numbers_have_none() {
        let buckets = Buckets::DEFAULT;
        assert_eq!(buckets.of(&Room::from(42)), buckets.of(&Room::from("42")));
        assert_eq!(buckets.of(&Room::number(1.5).unwrap()), None);
        assert_eq!(buckets.of(&Room::number(1e300).unwrap()), None);
    }

    #[test]
    fn rooms_spread_evenly() {
        let buckets = Buckets::DEFAULT;
        let mut counts = vec![0_u32; 256];
        for number in 0..50_000 {
            counts[buckets.of(&Room::new(format!("room:{number}"))).unwrap().index()] += 1;
        }
        let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
        assert!(*least > 100 && *most < 300, "from {least} to {most}, 195 on average");
    }

    #[test]
    fn a_number_of_buckets_out_of_range_is_refused() {
        assert!(Buckets::new(0).unwrap_err().to_string().contains("1 to 1023"));
        assert!(Buckets::new(1024).is_err());
        assert_eq!(Buckets::new(1).unwrap().of(&"any".into()), Some(Bucket(0)));
    }

    #[test]
    fn a_bucket_is_to_be_subscribed_until_it_is_active() {
        let mut interest = interest();
        let bucket = interest.enter(&"a".into()).unwrap();
        assert_eq!(interest.enter(&"a".into()), Some(bucket), "still on its way");
        interest.set_active(bucket, true);
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
        interest.set_active(bucket, true);
        interest.leave(start, &"a".into());
        assert_eq!(interest.deadline(), Some(start + LINGER));
        assert!(interest.wants(bucket));
        assert_eq!(interest.enter(&"a".into()), None);
        assert_eq!(interest.deadline(), None);
        interest.leave(start, &"a".into());
        assert!(interest.take_expired(start + LINGER / 2).is_empty());
        assert_eq!(interest.take_expired(start + LINGER), [bucket]);
        assert!(!interest.wants(bucket));
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
    fn fifty_thousand_rooms_need_no_more_subscriptions_than_there_are_buckets() {
        let mut interest = interest();
        for number in 0..50_000 {
            interest.enter(&Room::new(format!("room:{number}")));
        }
        assert_eq!(interest.wanted().count(), 256);
    }

    #[test]
    fn messages_for_a_fresh_room_go_to_everybody_for_a_while() {
        let start = Instant::now();
        let grace = Duration::from_secs(1);
        let mut fresh = RecentJoins::new(Buckets::DEFAULT, grace);
        let bucket = fresh.route(start, &"a".into());
        assert!(bucket.is_some());
        fresh.note(start, &["a".into()]);
        assert_eq!(fresh.route(start, &"a".into()), None);
        assert_eq!(fresh.route(start + grace, &"a".into()), bucket);
    }
}
