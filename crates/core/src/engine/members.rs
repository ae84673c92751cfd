//! The nodes of the cluster, as one of them knows them.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{model::NodeId, transport::NodeCount};

/// Most nodes known by name, whatever arrives. Requests of further ones are answered, but they are neither waited for
/// nor reported.
const MAX_MEMBERS: usize = 4096;

/// Most departed nodes that are remembered.
const MAX_DEPARTED: usize = 256;

/// The other nodes that are known by name, and what the broker says about the rest.
#[derive(Debug, Default)]
pub(super) struct Members {
    nodes: BTreeMap<NodeId, Member>,
    departed: VecDeque<Departed>,
    broker_count: Option<BrokerCount>,
    /// Nodes that the last count saw and that are still not known by name.
    unnamed: usize,
    /// Incremented whenever names or counts change.
    version: u64,
    /// How long messages of a node that has left count as late ones.
    leave_grace: Duration,
}

#[derive(Debug)]
struct Member {
    heard: Instant,
    /// Since when the node is suspected: it had been silent for the whole time-out then.
    suspected: Option<Instant>,
    /// Whether a misconfiguration of the node was reported.
    warned: bool,
    /// Whether it was heard again after the broker had not seen it, and the broker has not seen it since: it publishes
    /// already, and does not listen yet.
    half_back: bool,
    /// Since when the broker has not seen the node, while it was not heard, either.
    absent: Option<Instant>,
    /// Present after an outage of this node, until the broker has seen the other one since, or this time. All lose the
    /// same broker, and come back one after the other: that one is not seen yet says nothing. Nor does what is heard of
    /// it, which a history may have kept.
    awaited_until: Option<Instant>,
}

impl Member {
    fn new(now: Instant) -> Self {
        Self { heard: now, suspected: None, warned: false, half_back: false, absent: None, awaited_until: None }
    }

    fn refresh(&mut self, now: Instant) {
        self.heard = now;
        self.suspected = None;
        self.absent = None;
    }
}

/// A node that is gone.
#[derive(Debug)]
struct Departed {
    node: NodeId,
    /// When it was given up, or announced the leave.
    at: Instant,
    /// When it was heard last.
    heard: Instant,
    /// Whether it announced the leave. What arrives from it for a while is late, unless it says hello again. A node
    /// that goes on sending has not left: the leave was misdirected, or not its own.
    left: bool,
    /// Whether it went because the broker did not see it: until its silence lasts, it may only be cut off.
    is_absent: bool,
    /// Whether the broker may still see its connection: a process that hangs keeps it.
    counted: bool,
}

/// The broker's last count, less the departed nodes that it includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BrokerCount {
    others: usize,
    foreign: usize,
}

/// Evidence that a node is alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liveness {
    /// An initial heartbeat: the node has just joined and asks the others for theirs.
    Hello,
    /// Any other message.
    Sign,
}

impl Members {
    /// No nodes. What a node sends within `leave_grace` after its leave does not bring it back.
    pub(super) fn new(leave_grace: Duration) -> Self {
        Self { leave_grace, ..Self::default() }
    }

    /// Notes a sign of life. Returns whether the node was not known.
    pub(super) fn heard(&mut self, now: Instant, node: &NodeId, liveness: Liveness) -> bool {
        if self.refresh(now, node) || self.nodes.len() >= MAX_MEMBERS || !self.may_return(now, node, liveness) {
            return false;
        }
        let half_back = self.departed.iter().any(|it| it.node == *node && !it.left && !it.counted);
        self.departed.retain(|departed| departed.node != *node);
        self.nodes.insert(node.clone(), Member { half_back, ..Member::new(now) });
        self.unnamed = self.unnamed.saturating_sub(1);
        self.version += 1;
        true
    }

    /// As [`Members::heard`], but only for nodes that are known. Returns whether this one is.
    pub(super) fn refresh(&mut self, now: Instant, node: &NodeId) -> bool {
        let Some(member) = self.nodes.get_mut(node) else { return false };
        member.refresh(now);
        true
    }

    /// Gives every node the full `timeout` again, because none could be heard until now.
    pub(super) fn refresh_all(&mut self, now: Instant, timeout: Duration) {
        for member in self.nodes.values_mut() {
            member.refresh(now);
            member.awaited_until = Some(now + timeout);
        }
    }

    fn may_return(&self, now: Instant, node: &NodeId, liveness: Liveness) -> bool {
        let is_late =
            |departed: &Departed| departed.left && departed.node == *node && now < departed.at + self.leave_grace;
        liveness == Liveness::Hello || !self.departed.iter().any(is_late)
    }

    /// Removes a node that announced its leave. Returns whether it was known.
    pub(super) fn left(&mut self, now: Instant, node: &NodeId) -> bool {
        for departed in self.departed.iter_mut().filter(|departed| departed.node == *node) {
            (departed.left, departed.at) = (true, now);
        }
        let was_known = self.depart(now, node);
        if was_known {
            self.departed.back_mut().into_iter().for_each(|departed| departed.left = true);
        }
        was_known
    }

    /// Removes a node that the broker does not see. Returns whether it was known.
    pub(super) fn disappeared(&mut self, now: Instant, node: &NodeId) -> bool {
        let was_known = self.depart(now, node);
        if was_known {
            self.departed.back_mut().into_iter().for_each(|departed| departed.is_absent = true);
        }
        was_known
    }

    /// Nodes that the broker does not see, and that were heard less than `timeout` ago: cut off, or dead.
    pub(super) fn absent(&self, now: Instant, timeout: Duration) -> impl Iterator<Item = &NodeId> {
        let is_missing = move |it: &&Departed| it.is_absent && !it.left && now < it.heard + timeout;
        self.departed.iter().filter(is_missing).map(|departed| &departed.node)
    }

    fn depart(&mut self, at: Instant, node: &NodeId) -> bool {
        let Some(Member { heard, .. }) = self.nodes.remove(node) else { return false };
        self.version += 1;
        if let Some(broker_count) = &mut self.broker_count {
            broker_count.others = broker_count.others.saturating_sub(1);
        }
        if self.departed.len() >= MAX_DEPARTED {
            self.departed.pop_front();
        }
        let node = node.clone();
        self.departed.push_back(Departed { node, at, heard, left: false, is_absent: false, counted: true });
        true
    }

    /// Suspects the nodes that were silent for `timeout`. Returns whether there are any that were not suspected before.
    pub(super) fn suspect(&mut self, now: Instant, timeout: Duration) -> bool {
        let mut is_news = false;
        for member in self.nodes.values_mut() {
            if member.suspected.is_none() && now >= member.heard + timeout {
                member.suspected = Some(now);
                is_news = true;
            }
        }
        is_news
    }

    /// Since when all nodes are suspected; `None` if one is not, or there is none.
    pub(super) fn all_suspected(&self) -> Option<Instant> {
        self.nodes
            .values()
            .map(|member| member.suspected)
            .try_fold(None, |latest, since| since.map(|_| latest.max(since)))?
    }

    /// Forgets and returns the nodes that were suspected for `suspicion`.
    pub(super) fn take_silent(&mut self, now: Instant, suspicion: Duration) -> Vec<NodeId> {
        let is_silent = |member: &Member| member.suspected.is_some_and(|since| now >= since + suspicion);
        let silent = self.nodes.iter().filter(|(_, member)| is_silent(member)).map(|(node, _)| node.clone());
        let silent: Vec<_> = silent.collect();
        for node in &silent {
            self.depart(now, node);
        }
        silent
    }

    /// Takes back the nodes that fell silent after `heard`, when the last message arrived: not they were gone, but the
    /// way to them. Returns them.
    pub(super) fn take_back_silent(&mut self, now: Instant, heard: Instant) -> Vec<NodeId> {
        let (back, departed) = std::mem::take(&mut self.departed)
            .into_iter()
            .partition(|departed| !departed.left && departed.counted && departed.at > heard);
        self.departed = departed;
        let back: VecDeque<Departed> = back;
        for Departed { node, .. } in &back {
            self.nodes.insert(node.clone(), Member::new(now));
        }
        self.version += u64::from(!back.is_empty());
        back.into_iter().map(|departed| departed.node).collect()
    }

    /// Next time at which [`Members::suspect`] or [`Members::take_silent`] has something to do.
    pub(super) fn next_silence(&self, timeout: Duration, suspicion: Duration) -> Option<Instant> {
        let due = |member: &Member| member.suspected.map_or(member.heard + timeout, |since| since + suspicion);
        self.nodes.values().map(due).min()
    }

    /// Nodes to ask the broker about along with its count: those known by name that it may see.
    pub(super) fn to_count(&self) -> Vec<NodeId> {
        let departed = self.departed.iter().filter(|departed| departed.counted).map(|departed| &departed.node);
        self.nodes.keys().chain(departed).cloned().collect()
    }

    /// Takes over a count that was begun at `asked`. Removes and returns the nodes that the broker has not seen for
    /// `absence` and that were not heard since: one whose connection breaks has another one by then. A node that was
    /// removed so and is heard again has time to be seen again.
    pub(super) fn counted(&mut self, asked: Instant, node_count: &NodeCount, absence: Duration) -> Vec<NodeId> {
        let others = node_count.nodes.saturating_sub(1);
        let mut still_counted = 0;
        for departed in &mut self.departed {
            departed.counted &= !node_count.absent.contains(&departed.node);
            still_counted += usize::from(departed.counted);
        }
        let broker_count = BrokerCount {
            others: others.saturating_sub(still_counted),
            foreign: others.saturating_sub(node_count.known),
        };
        for (node, member) in &mut self.nodes {
            let is_absent = node_count.absent.contains(node);
            member.half_back &= is_absent;
            member.awaited_until = member.awaited_until.filter(|until| is_absent && asked < *until);
            member.absent = member.absent.or(Some(asked)).filter(|_| is_absent && member.awaited_until.is_none());
        }
        let grace = |member: &Member| if member.half_back { self.leave_grace } else { Duration::ZERO };
        let is_gone = |node: &&NodeId| {
            self.nodes.get(*node).is_some_and(|member| {
                let absent = member.absent.map(|since| asked.saturating_duration_since(since));
                absent.is_some_and(|absent| absent >= absence) && member.heard + grace(member) < asked
            })
        };
        let gone: Vec<_> = node_count.absent.iter().filter(is_gone).cloned().collect();
        for node in &gone {
            self.disappeared(asked, node);
            self.departed.back_mut().into_iter().for_each(|departed| departed.counted = false);
        }
        self.version += u64::from(self.broker_count != Some(broker_count));
        self.broker_count = Some(broker_count);
        self.unnamed = broker_count.foreign;
        gone
    }

    /// Number of nodes that the broker has seen and that are not known by name; official peers never will be.
    pub(super) fn unnamed(&self) -> usize {
        self.unnamed
    }

    /// Number of nodes known from the broker's count only; `None` before the first count.
    pub(super) fn foreign(&self) -> Option<usize> {
        self.broker_count.map(|broker_count| broker_count.foreign)
    }

    /// Number of other nodes, by name or by count.
    pub(super) fn count(&self) -> usize {
        self.nodes.len().max(self.broker_count.map_or(0, |broker_count| broker_count.others))
    }

    pub(super) fn is_known(&self, node: &NodeId) -> bool {
        self.nodes.contains_key(node)
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    /// The known nodes, sorted.
    pub(super) fn names(&self) -> impl Iterator<Item = &NodeId> {
        self.nodes.keys()
    }

    /// Whether the node was known and fell silent: then it is one of our own, and any message of it brings it back.
    pub(super) fn is_lost(&self, node: &NodeId) -> bool {
        self.departed.iter().any(|departed| !departed.left && departed.node == *node)
    }

    /// Returns `true` the first time for a node.
    pub(super) fn warn_once(&mut self, node: &NodeId) -> bool {
        self.nodes.get_mut(node).is_some_and(|member| !std::mem::replace(&mut member.warned, true))
    }
}

#[cfg(test)]
mod tests;
