//! Who is in the cluster.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::id::NodeId;

/// The other nodes that are known, and when each was last heard.
#[derive(Debug, Default)]
pub(super) struct Members {
    nodes: HashMap<NodeId, Member>,
    census: Option<usize>,
    /// Nodes that are no longer known by name, less those that the broker no longer counts. Above zero, the broker still counts nodes whose
    /// connection hangs; below, it has dropped some whose silence was not noticed yet (or foreign ones).
    ghosts: i64,
    /// When the broker last counted fewer.
    dropped: Option<Instant>,
    /// Changes whenever names or counts do.
    version: u64,
}

#[derive(Debug)]
struct Member {
    heard: Instant,
    /// Whether it numbers its messages, as our own nodes do.
    ours: bool,
}

impl Members {
    /// Notes a sign of life. Returns whether the node is new.
    pub(super) fn heard(&mut self, now: Instant, node: &NodeId, ours: bool) -> bool {
        if let Some(member) = self.nodes.get_mut(node) {
            member.heard = now;
            member.ours |= ours;
            return false;
        }
        self.nodes.insert(node.clone(), Member { heard: now, ours });
        self.version += 1;
        true
    }

    /// As [`Members::heard`], for nodes that are known already.
    pub(super) fn refresh(&mut self, now: Instant, node: &NodeId) {
        if let Some(member) = self.nodes.get_mut(node) {
            member.heard = now;
        }
    }

    /// Forgets a node that said it leaves. Returns whether it was known.
    pub(super) fn left(&mut self, node: &NodeId) -> bool {
        let known = self.nodes.remove(node).is_some();
        if known {
            self.version += 1;
            self.ghosts += i64::from(self.census.is_some());
        }
        known
    }

    /// Forgets and returns the nodes that were silent for longer than `timeout`.
    pub(super) fn take_silent(&mut self, now: Instant, timeout: Duration) -> Vec<NodeId> {
        let is_silent = |member: &Member| now.saturating_duration_since(member.heard) >= timeout;
        let mut silent: Vec<_> =
            self.nodes.iter().filter(|(_, member)| is_silent(member)).map(|(node, _)| node.clone()).collect();
        silent.sort_unstable();
        for node in &silent {
            self.left(node);
        }
        // Whoever the broker dropped that long ago and has not fallen silent was a foreign peer.
        if self.ghosts < 0 && self.dropped.is_some_and(|dropped| now.saturating_duration_since(dropped) >= timeout * 2)
        {
            self.ghosts = 0;
        }
        silent
    }

    /// When the next node would be silent for `timeout`.
    pub(super) fn next_silence(&self, timeout: Duration) -> Option<Instant> {
        self.nodes.values().map(|member| member.heard + timeout).min()
    }

    /// Takes over a count of the broker, this node included.
    pub(super) fn counted(&mut self, now: Instant, census: usize) {
        let gone = self.census.map_or(0, |before| before.saturating_sub(census));
        if gone > 0 {
            self.ghosts -= i64::try_from(gone).unwrap_or(i64::MAX);
            self.dropped = Some(now);
        }
        self.version += u64::from(self.census != Some(census));
        self.census = Some(census);
    }

    /// How many other nodes exist that only the broker's count knows of.
    pub(super) fn unnamed(&self) -> usize {
        let ghosts = usize::try_from(self.ghosts).unwrap_or(0);
        self.census.map_or(0, |census| census.saturating_sub(1 + self.nodes.len() + ghosts))
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys()
    }

    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether every other node is known by name and numbers its messages.
    pub(super) fn all_ours(&self) -> bool {
        self.unnamed() == 0 && self.nodes.values().all(|member| member.ours)
    }

    /// Whether every known node was heard since `then`.
    pub(super) fn all_heard_since(&self, then: Instant) -> bool {
        self.nodes.values().all(|member| member.heard >= then)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    const TIMEOUT: Duration = Duration::from_secs(10);

    #[test]
    fn a_silent_node_is_taken_once_and_a_heard_one_stays() {
        let start = Instant::now();
        let mut members = Members::default();
        assert!(members.heard(start, &node("a"), true));
        assert!(members.heard(start, &node("b"), true));
        members.heard(start + TIMEOUT / 2, &node("b"), true);
        assert_eq!(members.take_silent(start + TIMEOUT, TIMEOUT), [node("a")]);
        assert!(members.take_silent(start + TIMEOUT, TIMEOUT).is_empty());
        assert_eq!(members.next_silence(TIMEOUT), Some(start + TIMEOUT * 3 / 2));
    }

    #[test]
    fn a_killed_node_that_the_broker_no_longer_counts_hides_no_foreign_one() {
        let start = Instant::now();
        let mut members = Members::default();
        members.heard(start, &node("a"), true);
        members.counted(start, 3);
        assert_eq!(members.unnamed(), 1, "a foreign peer");
        members.counted(start, 2);
        members.take_silent(start + TIMEOUT, TIMEOUT);
        assert_eq!(members.unnamed(), 1);
    }

    #[test]
    fn a_hanging_node_that_the_broker_still_counts_is_no_foreign_one() {
        let start = Instant::now();
        let mut members = Members::default();
        members.heard(start, &node("a"), true);
        members.counted(start, 2);
        members.take_silent(start + TIMEOUT, TIMEOUT);
        assert_eq!(members.unnamed(), 0);
        members.counted(start, 1);
        members.counted(start, 2);
        assert_eq!(members.unnamed(), 1, "the ghost is gone, this one is new");
    }

    #[test]
    fn a_foreign_peer_that_left_does_not_hide_a_later_hanging_node() {
        let start = Instant::now();
        let mut members = Members::default();
        members.counted(start, 3);
        members.counted(start, 2);
        let later = start + TIMEOUT * 3;
        members.heard(later, &node("a"), true);
        members.take_silent(later, TIMEOUT);
        members.take_silent(later + TIMEOUT, TIMEOUT);
        assert_eq!(members.unnamed(), 0);
    }
}
