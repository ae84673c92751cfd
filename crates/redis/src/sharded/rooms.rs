//! The rooms of one node that have channels.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;
use trunkline_core::Room;

/// Which rooms have local members, by channel. A number and its text share one. A channel without rooms lingers, so that a room that flaps
/// costs nothing.
#[derive(Debug)]
pub(super) struct Rooms {
    linger: Duration,
    channels: HashMap<Bytes, State>,
    /// Channels without rooms, each once, in the order in which they are to be looked at.
    empty: VecDeque<(Instant, Bytes)>,
    /// The node has left.
    is_closed: bool,
}

#[derive(Debug, Default)]
struct State {
    /// At most two.
    rooms: Vec<Room>,
    /// The server has confirmed the subscription.
    is_active: bool,
    /// Without rooms, when to give it up.
    expires: Option<Instant>,
    /// It stands among the empty ones.
    is_listed: bool,
}

/// What a room that is entered needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// A subscription.
    New,
    /// To wait for the subscription, which is on its way.
    Coming,
    /// Nothing.
    Open,
}

impl Rooms {
    pub(super) fn new(linger: Duration) -> Self {
        Self { linger, channels: HashMap::new(), empty: VecDeque::new(), is_closed: false }
    }

    pub(super) fn enter(&mut self, channel: &Bytes, room: &Room) -> Entrance {
        if self.is_closed {
            return Entrance::Open;
        }
        let Some(state) = self.channels.get_mut(channel) else {
            let state = State { rooms: vec![room.clone()], ..State::default() };
            self.channels.insert(channel.clone(), state);
            return Entrance::New;
        };
        state.expires = None;
        if !state.rooms.contains(room) {
            state.rooms.push(room.clone());
        }
        if state.is_active { Entrance::Open } else { Entrance::Coming }
    }

    pub(super) fn confirm(&mut self, channel: &Bytes) {
        if let Some(state) = self.channels.get_mut(channel) {
            state.is_active = true;
        }
    }

    /// Returns whether something new has to be looked at later.
    pub(super) fn leave(&mut self, now: Instant, channel: &Bytes, room: &Room) -> bool {
        let Some(state) = self.channels.get_mut(channel) else { return false };
        state.rooms.retain(|other| other != room);
        if !state.rooms.is_empty() || state.expires.is_some() {
            return false;
        }
        let expires = now + self.linger;
        state.expires = Some(expires);
        let is_new = !std::mem::replace(&mut state.is_listed, true);
        if is_new {
            self.empty.push_back((expires, channel.clone()));
        }
        is_new
    }

    /// When there is something to look at next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.empty.front().map(|(due, _)| *due)
    }

    /// The channels to unsubscribe from: their last room is gone for long enough.
    pub(super) fn take_expired(&mut self, now: Instant) -> Vec<Bytes> {
        let mut expired = Vec::new();
        while let Some((_, channel)) = self.empty.pop_front_if(|(due, _)| *due <= now) {
            let Some(state) = self.channels.get_mut(&channel) else { continue };
            match state.expires {
                None => state.is_listed = false,
                // It had rooms meanwhile.
                Some(expires) if expires > now => self.empty.push_back((expires, channel)),
                Some(_) => {
                    self.channels.remove(&channel);
                    expired.push(channel);
                }
            }
        }
        expired
    }

    /// All channels, for good.
    pub(super) fn take_all(&mut self) -> Vec<Bytes> {
        self.is_closed = true;
        self.empty.clear();
        self.channels.drain().map(|(channel, _)| channel).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(5);

    fn channel() -> Bytes {
        Bytes::from_static(b"socket.io#/#42#")
    }

    #[test]
    fn a_channel_is_subscribed_to_once() {
        let mut rooms = Rooms::new(LINGER);
        assert_eq!(rooms.enter(&channel(), &"42".into()), Entrance::New);
        assert_eq!(rooms.enter(&channel(), &42.into()), Entrance::Coming);
        rooms.confirm(&channel());
        assert_eq!(rooms.enter(&channel(), &"42".into()), Entrance::Open);
    }

    #[test]
    fn it_lingers_when_its_last_room_is_gone() {
        let (mut rooms, start) = (Rooms::new(LINGER), Instant::now());
        rooms.enter(&channel(), &"42".into());
        rooms.enter(&channel(), &42.into());
        rooms.leave(start, &channel(), &"42".into());
        assert_eq!(rooms.deadline(), None);
        rooms.leave(start, &channel(), &42.into());
        assert_eq!(rooms.deadline(), Some(start + LINGER));
        assert!(rooms.take_expired(start + LINGER / 2).is_empty());
        assert_eq!(rooms.take_expired(start + LINGER), [channel()]);
        assert_eq!(rooms.enter(&channel(), &42.into()), Entrance::New);
    }

    #[test]
    fn a_room_that_flaps_is_looked_at_once() {
        let (mut rooms, start) = (Rooms::new(LINGER), Instant::now());
        rooms.enter(&channel(), &42.into());
        for _ in 0..100 {
            rooms.leave(start, &channel(), &42.into());
            rooms.enter(&channel(), &42.into());
        }
        assert_eq!(rooms.empty.len(), 1);
        rooms.leave(start + LINGER, &channel(), &42.into());
        assert!(rooms.take_expired(start + LINGER).is_empty(), "it had members a moment ago");
        assert_eq!(rooms.take_expired(start + LINGER * 2), [channel()]);
        assert_eq!((rooms.deadline(), rooms.take_all().len()), (None, 0));
    }

    #[test]
    fn what_was_never_entered_is_not_left() {
        let mut rooms = Rooms::new(LINGER);
        assert!(!rooms.leave(Instant::now(), &channel(), &42.into()));
        assert_eq!(rooms.deadline(), None);
    }
}
