//! Rooms that sockets of other nodes were made to join a moment ago.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Keys of rooms that sockets of other nodes were made to join a moment ago.
///
/// The node that serves such a socket may not have subscribed yet when the next message for the room is published. So
/// for a grace period what is sent to these rooms goes to all nodes. A room that shares its key with a recent one only
/// travels further than it has to.
#[derive(Debug)]
pub struct RecentJoins<K> {
    grace: Duration,
    is_extended_by_use: bool,
    until: Mutex<HashMap<K, Instant>>,
    /// How many there are, to be read without a lock.
    count: AtomicUsize,
}

/// Keys that are remembered at most. Those beyond it are not: their first messages may be missed.
const MAX_KEYS: usize = 65_536;

impl<K: Eq + Hash> RecentJoins<K> {
    /// None yet.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { grace, is_extended_by_use: false, until: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// The grace period begins anew with each message: for brokers where the order between channels is not kept, so
    /// that a room in use does not change its channel.
    #[must_use]
    pub fn extended_by_use(self, is_extended_by_use: bool) -> Self {
        Self { is_extended_by_use, ..self }
    }

    /// The cluster was asked to let sockets join the rooms with these keys.
    pub fn note(&self, keys: impl IntoIterator<Item = K>) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        until.retain(|_, until| *until > now);
        for key in keys {
            if until.len() < MAX_KEYS {
                until.insert(key, now + self.grace);
            }
        }
        self.count.store(until.len(), Ordering::Release);
    }

    /// Whether a message that is published now has to go to all nodes.
    pub fn contains(&self, key: &K) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let now = Instant::now();
        let mut keys = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get_mut(key) {
            Some(until) if *until > now => {
                if self.is_extended_by_use {
                    *until = now + self.grace;
                }
                true
            }
            Some(_) => {
                keys.remove(key);
                self.count.store(keys.len(), Ordering::Release);
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
    async fn joins_are_recent_for_a_while() {
        let recent = RecentJoins::new(GRACE);
        assert!(!recent.contains(&"a"));
        recent.note(["a"]);
        assert!(recent.contains(&"a") && !recent.contains(&"b"));
        tokio::time::advance(GRACE).await;
        assert!(!recent.contains(&"a"));
        assert_eq!(recent.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_in_use_may_stay_recent() {
        let recent = RecentJoins::new(GRACE).extended_by_use(true);
        recent.note(["a"]);
        for _ in 0..5 {
            tokio::time::advance(GRACE / 2).await;
            assert!(recent.contains(&"a"));
        }
        tokio::time::advance(GRACE).await;
        assert!(!recent.contains(&"a"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let recent = RecentJoins::new(GRACE);
        recent.note(0..=MAX_KEYS);
        assert_eq!(recent.count.load(Ordering::Relaxed), MAX_KEYS);
    }
}
