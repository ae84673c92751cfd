//! Who is in the cluster.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{model::NodeId, transport::NodeCount};

/// How many nodes are known at most, whatever the network says. Others are served, but neither waited for nor reported.
const MAX_MEMBERS: usize = 4096;

/// Nodes that are gone and remembered.
const MAX_DEPARTED: usize = 256;

/// The other nodes that are known by name, and what the broker says about the rest.
#[derive(Debug, Default)]
pub(super) struct Members {
    nodes: BTreeMap<NodeId, Member>,
    departed: VecDeque<Departed>,
    broker_count: Option<BrokerCount>,
    /// How many of those that the last count saw have still not told their name.
    unnamed: usize,
    /// Changes whenever names or counts do.
    version: u64,
}

#[derive(Debug)]
struct Member {
    heard: Instant,
    /// Silent for the whole time-out when looked at, at this moment.
    suspected: Option<Instant>,
    /// Whether its configuration was complained about.
    warned: bool,
}

/// A node that is gone.
#[derive(Debug)]
struct Departed {
    node: NodeId,
    /// It said so. What arrives from it afterwards is late, unless it says hello again.
    left: bool,
    /// The broker may still see its connection: a process that hangs keeps it.
    counted: bool,
}

/// What the last count says, less the departed nodes that it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BrokerCount {
    others: usize,
    foreign: usize,
}

/// Evidence that a node is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// It has just joined, and asks who else is there.
    Hello,
    /// Some other message.
    Sign,
}

impl Members {
    /// Notes a sign of life. Returns whether the node was not known.
    pub(super) fn heard(&mut self, now: Instant, node: &NodeId, liveness: Liveness) -> bool {
        if self.refresh(now, node) || self.nodes.len() >= MAX_MEMBERS || !self.may_return(node, liveness) {
            return false;
        }
        self.departed.retain(|departed| departed.node != *node);
        self.nodes.insert(node.clone(), Member { heard: now, suspected: None, warned: false });
        self.unnamed = self.unnamed.saturating_sub(1);
        self.version += 1;
        true
    }

    /// As [`Members::heard`], but strangers stay strangers. Returns whether the node is known.
    pub(super) fn refresh(&mut self, now: Instant, node: &NodeId) -> bool {
        let Some(member) = self.nodes.get_mut(node) else { return false };
        member.heard = now;
        member.suspected = None;
        true
    }

    /// Nobody could be heard until now: everybody gets the full time to give a sign of life.
    pub(super) fn refresh_all(&mut self, now: Instant) {
        for member in self.nodes.values_mut() {
            member.heard = now;
            member.suspected = None;
        }
    }

    fn may_return(&self, node: &NodeId, liveness: Liveness) -> bool {
        liveness == Liveness::Hello || !self.departed.iter().any(|departed| departed.left && departed.node == *node)
    }

    /// Forgets a node that said it leaves. Returns whether it was known.
    pub(super) fn left(&mut self, node: &NodeId) -> bool {
        self.depart(node, true)
    }

    fn depart(&mut self, node: &NodeId, left: bool) -> bool {
        if self.nodes.remove(node).is_none() {
            return false;
        }
        self.version += 1;
        if let Some(broker_count) = &mut self.broker_count {
            broker_count.others = broker_count.others.saturating_sub(1);
        }
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        self.departed.push_back(Departed { node: node.clone(), left, counted: true });
        true
    }

    /// Suspects the nodes that were silent for `timeout`; forgets and returns those that were suspected for `suspicion`.
    pub(super) fn take_silent(&mut self, now: Instant, timeout: Duration, suspicion: Duration) -> Vec<NodeId> {
        let mut silent = Vec::new();
        for (node, member) in &mut self.nodes {
            match member.suspected {
                Some(since) if now >= since + suspicion => silent.push(node.clone()),
                None if now >= member.heard + timeout => member.suspected = Some(now),
                _ => {}
            }
        }
        for node in &silent {
            self.depart(node, false);
        }
        silent
    }

    /// When [`Members::take_silent`] is next to be called.
    pub(super) fn next_silence(&self, timeout: Duration, suspicion: Duration) -> Option<Instant> {
        let due = |member: &Member| member.suspected.map_or(member.heard + timeout, |since| since + suspicion);
        self.nodes.values().map(due).min()
    }

    /// Whom to ask the broker about along with its count: whoever it may see and that is no stranger.
    pub(super) fn to_count(&self) -> Vec<NodeId> {
        let departed = self.departed.iter().filter(|departed| departed.counted).map(|departed| &departed.node);
        self.nodes.keys().chain(departed).cloned().collect()
    }

    /// Takes over a count that was begun at `asked`. Forgets and returns the nodes that the broker does not see and that were not heard
    /// since.
    pub(super) fn counted(&mut self, asked: Instant, node_count: &NodeCount) -> Vec<NodeId> {
        let others = node_count.nodes.saturating_sub(1);
        let mut ghosts = 0;
        for departed in &mut self.departed {
            departed.counted &= !node_count.absent.contains(&departed.node);
            ghosts += usize::from(departed.counted);
        }
        let broker_count =
            BrokerCount { others: others.saturating_sub(ghosts), foreign: others.saturating_sub(node_count.known) };
        let is_gone = |node: &&NodeId| self.nodes.get(*node).is_some_and(|member| member.heard < asked);
        let gone: Vec<_> = node_count.absent.iter().filter(is_gone).cloned().collect();
        for node in &gone {
            self.depart(node, false);
            self.departed.back_mut().into_iter().for_each(|departed| departed.counted = false);
        }
        self.version += u64::from(self.broker_count != Some(broker_count));
        self.broker_count = Some(broker_count);
        self.unnamed = broker_count.foreign;
        gone
    }

    /// How many nodes the broker has seen that have not told their name since: some are foreign and never will.
    pub(super) fn unnamed(&self) -> usize {
        self.unnamed
    }

    /// How many nodes there are that only the broker's count knows of; `None` before the first count.
    pub(super) fn foreign(&self) -> Option<usize> {
        self.broker_count.map(|broker_count| broker_count.foreign)
    }

    /// How many other nodes there are, by name or by count.
    pub(super) fn count(&self) -> usize {
        self.nodes.len().max(self.broker_count.map_or(0, |broker_count| broker_count.others))
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The known nodes, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys()
    }

    /// Whether it was known and fell silent: then it is one of our kind, and whatever it says brings it back.
    pub(super) fn is_lost(&self, node: &NodeId) -> bool {
        self.departed.iter().any(|departed| !departed.left && departed.node == *node)
    }

    /// Returns `true` the first time for a node.
    pub(super) fn warn_once(&mut self, node: &NodeId) -> bool {
        self.nodes.get_mut(node).is_some_and(|member| !std::mem::replace(&mut member.warned, true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    const TIMEOUT: Duration = Duration::from_secs(10);
    const SUSPICION: Duration = Duration::from_secs(1);

    fn members(now: Instant, names: &[&str]) -> Members {
        let mut members = Members::default();
        for name in names {
            assert!(members.heard(now, &node(name), Liveness::Hello));
        }
        members
    }

    #[test]
    fn a_silent_node_is_suspected_and_then_taken_once() {
        let start = Instant::now();
        let mut members = members(start, &["a", "b"]);
        members.refresh(start + TIMEOUT / 2, &node("b"));
        assert!(members.take_silent(start + TIMEOUT, TIMEOUT, SUSPICION).is_empty());
        assert_eq!(members.next_silence(TIMEOUT, SUSPICION), Some(start + TIMEOUT + SUSPICION));
        assert_eq!(members.take_silent(start + TIMEOUT + SUSPICION, TIMEOUT, SUSPICION), [node("a")]);
        assert!(members.take_silent(start + TIMEOUT + SUSPICION, TIMEOUT, SUSPICION).is_empty());
        assert_eq!(members.next_silence(TIMEOUT, SUSPICION), Some(start + TIMEOUT * 3 / 2));
    }

    #[test]
    fn a_node_that_left_comes_back_only_with_a_hello() {
        let now = Instant::now();
        let mut members = members(now, &["a"]);
        assert!(members.left(&node("a")));
        assert!(!members.heard(now, &node("a"), Liveness::Sign), "a late message");
        assert!(members.heard(now, &node("a"), Liveness::Hello));
    }

    #[test]
    fn a_hanging_node_that_the_broker_still_counts_is_no_foreign_one() {
        let start = Instant::now();
        let mut members = members(start, &["a"]);
        members.take_silent(start + TIMEOUT, TIMEOUT, SUSPICION);
        members.take_silent(start + TIMEOUT * 2, TIMEOUT, SUSPICION);
        assert_eq!(members.to_count(), [node("a")]);
        members.counted(start, &NodeCount { nodes: 3, known: 1, absent: vec![] });
        assert_eq!((members.foreign(), members.count()), (Some(1), 1));
        members.counted(start, &NodeCount { nodes: 2, known: 0, absent: vec![node("a")] });
        assert_eq!((members.foreign(), members.count()), (Some(1), 1));
        assert_eq!(members.to_count(), []);
    }

    #[test]
    fn a_node_that_the_broker_does_not_see_is_gone_unless_it_was_heard_since() {
        let start = Instant::now();
        let mut members = members(start, &["a", "b"]);
        let asked = start + SUSPICION;
        members.refresh(asked, &node("b"));
        let gone = members.counted(asked, &NodeCount { nodes: 2, known: 0, absent: vec![node("a"), node("b")] });
        assert_eq!(gone, [node("a")]);
        assert!(members.is_lost(&node("a")));
    }

    #[test]
    fn a_node_is_not_counted_twice_when_its_name_becomes_known() {
        let now = Instant::now();
        let mut members = Members::default();
        members.counted(now, &NodeCount { nodes: 2, known: 0, absent: vec![] });
        assert_eq!(members.count(), 1);
        members.heard(now, &node("a"), Liveness::Hello);
        assert_eq!(members.count(), 1);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let mut members = Members::default();
        for number in 0..=MAX_MEMBERS {
            members.heard(now, &node(&number.to_string()), Liveness::Hello);
        }
        assert_eq!(members.nodes.len(), MAX_MEMBERS);
        members.take_silent(now + TIMEOUT, TIMEOUT, SUSPICION);
        members.take_silent(now + TIMEOUT * 2, TIMEOUT, SUSPICION);
        assert_eq!((members.nodes.len(), members.departed.len()), (0, MAX_DEPARTED));
    }
}
