//! Nodes that a request waits for by their number, because their names are not known.
//!
//! Where the broker counts the nodes, official peers never tell their names, and a node of ours may have been counted
//! before its first heartbeat arrived. What is known is how many unnamed nodes the counts have seen, and which nodes
//! became known by name since.

use std::time::{Duration, Instant};

use crate::model::NodeId;

/// How long an initial heartbeat may take to arrive. A node whose one comes later has joined after the request was
/// published.
const HELLO: Duration = Duration::from_secs(1);

/// Nodes without a name from which one request expects answers.
#[derive(Debug)]
pub(super) struct UnnamedPeers {
    began: Instant,
    /// Number of counts that had begun before the request. Their results may be from before it was published.
    counts: u64,
    /// Number of unnamed nodes in the last count before the request.
    seen: usize,
    /// Number of answers waited for; not known before the first count that began after the request. Later counts only
    /// lower it: nodes that joined since were not asked.
    required: Option<usize>,
    /// Number of those answers that are expected of nodes whose initial heartbeat came since.
    newcomers: usize,
    answers: usize,
    named: Vec<Named>,
}

/// A node that became known by name during the request.
#[derive(Debug)]
struct Named {
    node: NodeId,
    /// Whether it was in the cluster when the request began. Otherwise it has joined just now, or was counted and not
    /// heard before.
    was_there: bool,
    has_answered: bool,
}

/// How a node came to be known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    /// By an initial heartbeat, at this time.
    Hello(Instant),
    /// By another message: it was there all the time, only not heard.
    Sign,
    /// It had been given up and came back.
    Return,
}

impl UnnamedPeers {
    /// Unnamed nodes for a request that began at `began`, after `counts` counts, the last of which had `seen` nodes
    /// that are still unnamed.
    pub(super) fn new(began: Instant, counts: u64, seen: usize) -> Self {
        Self { began, counts, seen, required: None, newcomers: 0, answers: 0, named: Vec::new() }
    }

    /// Notes the answer of an unnamed node; another one each time.
    pub(super) fn answered(&mut self) {
        self.answers += 1;
    }

    /// Notes the answer of a node that is known by name and was not asked by name.
    pub(super) fn named_answered(&mut self, node: &NodeId) {
        let Some(named) = self.named.iter_mut().find(|named| named.node == *node && !named.has_answered) else {
            return;
        };
        named.has_answered = true;
        self.answers += 1;
        if !std::mem::replace(&mut named.was_there, true) {
            self.newcomer_answered();
        }
    }

    /// Notes that a newcomer was in the cluster after all. Unless its answer was waited for, it must not stand for
    /// another.
    fn newcomer_answered(&mut self) {
        match (self.newcomers.checked_sub(1), &mut self.required) {
            (Some(fewer), _) => self.newcomers = fewer,
            (None, Some(required)) => *required += 1,
            (None, None) => {}
        }
    }

    /// Notes that an unnamed node that has answered is known by name now.
    pub(super) fn answerer_named(&mut self, node: &NodeId) {
        self.named.push(Named { node: node.clone(), was_there: true, has_answered: true });
    }

    /// Notes that a node that has not answered is known by name now.
    pub(super) fn named(&mut self, node: &NodeId, discovery: Discovery) {
        let was_there = match discovery {
            Discovery::Hello(now) if now < self.began + HELLO => false,
            Discovery::Sign => true,
            Discovery::Hello(_) | Discovery::Return => return,
        };
        self.named.push(Named { node: node.clone(), was_there, has_answered: false });
    }

    /// Forgets a node that is gone. Its answer must not stand for that of another.
    pub(super) fn gone(&mut self, node: &NodeId) {
        if let Some(index) = self.named.iter().position(|named| named.node == *node) {
            let named = self.named.swap_remove(index);
            self.answers -= usize::from(named.has_answered);
        }
    }

    /// Takes over the broker's `count`-th count, which saw `unnamed` nodes without a name.
    pub(super) fn counted(&mut self, count: u64, unnamed: usize) {
        if count <= self.counts {
            return;
        }
        let sure = unnamed + self.named.iter().filter(|named| named.was_there).count();
        let newcomers = unnamed + self.named.len() - sure;
        // Of the nodes whose initial heartbeat came since, as many were there as had been seen and no other node
        // accounts for.
        self.newcomers = newcomers.min(self.seen.saturating_sub(sure));
        let there = sure + self.newcomers;
        self.required = Some(self.required.map_or(there, |required| required.min(there)));
    }

    pub(super) fn are_counted(&self) -> bool {
        self.required.is_some()
    }

    /// Number of answers that are still waited for.
    pub(super) fn missing(&self) -> usize {
        self.required.unwrap_or(0).saturating_sub(self.answers)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.are_counted() && self.missing() == 0
    }

    pub(super) fn answers(&self) -> usize {
        self.answers
    }
}
