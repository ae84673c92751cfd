//! Rooms into which sockets of other nodes were moved a moment ago.
//!
//! The node that serves such a socket may not have subscribed yet when the next message for the room is published. So for a grace period
//! what is sent to these rooms goes to all nodes, which every official adapter understands in every mode.

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

/// Keys that are remembered at most. Those beyond it are not: their first messages may be missed.
const MAX_KEYS: usize = 65_536;

/// The keys of these rooms, and until when.
#[derive(Debug)]
pub(super) struct RecentJoins<K> {
    grace: Duration,
    /// The time begins anew with each message. On a cluster channels do not wait for each other: a room in use must not change its channel.
    extends: bool,
    until: Mutex<HashMap<K, Instant>>,
    /// How many there are, to be read without a lock.
    count: AtomicUsize,
}

impl<K: Eq + Hash> RecentJoins<K> {
    pub(super) fn new(grace: Duration, extends: bool) -> Self {
        Self { grace, extends, until: Mutex::default(), count: AtomicUsize::new(0) }
    }

    /// The cluster is asked to let sockets join the rooms with these keys.
    pub(super) fn note(&self, keys: impl Iterator<Item = K>) {
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
    pub(super) fn contains(&self, key: &K) -> bool {
        if self.count.load(Ordering::Acquire) == 0 {
            return false;
        }
        let now = Instant::now();
        let mut keys = self.until.lock().unwrap_or_else(PoisonError::into_inner);
        match keys.get_mut(key) {
            Some(until) if *until > now => {
                if self.extends {
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

    fn note(recent: &RecentJoins<String>, key: &str) {
        recent.note([key.to_owned()].into_iter());
    }

    fn contains(recent: &RecentJoins<String>, key: &str) -> bool {
        recent.contains(&key.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn joins_are_recent_for_a_while() {
        let recent = RecentJoins::new(GRACE, false);
        assert!(!contains(&recent, "a"));
        note(&recent, "a");
        assert!(contains(&recent, "a") && !contains(&recent, "b"));
        tokio::time::advance(GRACE).await;
        assert!(!contains(&recent, "a"));
        assert_eq!(recent.count.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn on_a_cluster_a_room_in_use_stays_recent() {
        let recent = RecentJoins::new(GRACE, true);
        note(&recent, "a");
        for _ in 0..5 {
            tokio::time::advance(GRACE / 2).await;
            assert!(contains(&recent, "a"));
        }
        tokio::time::advance(GRACE).await;
        assert!(!contains(&recent, "a"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let recent = RecentJoins::new(GRACE, false);
        recent.note(0..=MAX_KEYS);
        assert_eq!(recent.count.load(Ordering::Relaxed), MAX_KEYS);
    }
}
