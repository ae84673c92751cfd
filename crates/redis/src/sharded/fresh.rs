//! Rooms into which sockets of other nodes were moved a moment ago.
//!
//! The node that serves such a socket may not have subscribed to the room's channel yet when the next message for the room is published. So for
//! a while what is sent to these rooms goes to everybody, which every official adapter understands in every mode.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use trunkline_core::{Namespace, Room};

/// Rooms that are remembered at most. Those beyond it are not: their first messages may be missed.
const MAX_ROOMS: usize = 65_536;

#[derive(Debug)]
pub(super) struct Fresh {
    grace: Duration,
    /// The time begins anew with each message. On a cluster channels do not wait for each other: a room in use must not change its channel.
    extends: bool,
    until: Mutex<HashMap<(Namespace, Room), Instant>>,
    /// How many there are, to be read without a lock.
    count: AtomicUsize,
}

impl Fresh {
    pub(super) fn new(grace: Duration, extends: bool) -> Self {
        Self { grace, extends, until: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// Somebody asks the cluster to let sockets join these rooms.
    pub(super) fn note(&self, namespace: &Namespace, rooms: &[Room]) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > now);
        for room in rooms {
            if until.len() < MAX_ROOMS {
                until.insert((namespace.clone(), room.clone()), now + self.grace);
            }
        }
        self.count.store(until.len(), Ordering::Release);
    }

    /// Whether a message for the room that is published now has to go to everybody.
    pub(super) fn contains(&self, namespace: &Namespace, room: &Room) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let now = Instant::now();
        let mut rooms = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (namespace.clone(), room.clone());
        match rooms.get_mut(&key) {
            Some(until) if *until > now => {
                if self.extends {
                    *until = now + self.grace;
                }
                true
            }
            Some(_) => {
                rooms.remove(&key);
                self.count.store(rooms.len(), Ordering::Release);
                false
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn rooms_are_fresh_for_a_while() {
        let (fresh, nsp) = (Fresh::new(GRACE, false), Namespace::new("/"));
        assert!(!fresh.contains(&nsp, &"a".into()));
        fresh.note(&nsp, &["a".into()]);
        assert!(fresh.contains(&nsp, &"a".into()));
        assert!(!fresh.contains(&nsp, &"b".into()) && !fresh.contains(&Namespace::new("/x"), &"a".into()));
        tokio::time::advance(GRACE).await;
        assert!(!fresh.contains(&nsp, &"a".into()));
        assert_eq!(fresh.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_cluster_a_room_in_use_stays_fresh() {
        let (fresh, nsp) = (Fresh::new(GRACE, true), Namespace::new("/"));
        fresh.note(&nsp, &["a".into()]);
        for _ in 0..5 {
            tokio::time::advance(GRACE / 2).await;
            assert!(fresh.contains(&nsp, &"a".into()));
        }
        tokio::time::advance(GRACE).await;
        assert!(!fresh.contains(&nsp, &"a".into()));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (fresh, nsp) = (Fresh::new(GRACE, false), Namespace::new("/"));
        let rooms: Vec<_> = (0..=MAX_ROOMS).map(|number| Room::from(number as i32)).collect();
        fresh.note(&nsp, &rooms);
        assert_eq!(fresh.count.load(Ordering::Relaxed), MAX_ROOMS);
    }
}
