//! Nodes that a request waits for by their number, because their names are not known.
//!
//! Where the broker counts the nodes, official peers never tell their names, and a node of ours may have been counted before its first
//! heartbeat arrived. What is known is: how many strangers the counts have seen, and who told its name since.

use std::time::{Duration, Instant};

use crate::model::NodeId;

/// How long a hello may take to arrive. Who says hello later has joined after the request was published.
const HELLO: Duration = Duration::from_secs(1);

/// The strangers of one request.
#[derive(Debug)]
pub(super) struct UnnamedPeers {
    began: Instant,
    /// Counts that had begun by then. What they say may be from before the request was published.
    counts: u64,
    /// How many the last count before the request had seen.
    seen: usize,
    /// How many answers are waited for; not known before the first count that began after the request. Later counts only lower it:
    /// whoever joined since was not asked.
    required: Option<usize>,
    /// How many of them are expected of nodes that have said hello since.
    newcomers: usize,
    answers: usize,
    named: Vec<Named>,
}

/// A stranger that has told its name.
#[derive(Debug)]
struct Named {
    node: NodeId,
    /// Whether it was there when the request began. Otherwise it has joined just now, or was counted and has just not been heard before.
    was_there: bool,
    has_answered: bool,
}

/// How a node came to be known by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Discovery {
    /// It has just joined, at this moment as far as can be told.
    Hello(Instant),
    /// It was there all the time, only not heard.
    Sign,
    /// It was given up before.
    Return,
}

impl UnnamedPeers {
    /// For a request that began at `began`, after so many counts, the last of which has seen so many nodes that have not told their names
    /// since.
    pub(super) fn new(began: Instant, counts: u64, seen: usize) -> Self {
        Self { began, counts, seen, required: None, newcomers: 0, answers: 0, named: Vec::new() }
    }

    /// A stranger has answered; another one each time.
    pub(super) fn answered(&mut self) {
        self.answers += 1;
    }

    /// A node that is known by name has answered, and was not expected to.
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

    /// A newcomer was there after all. Unless its answer was waited for, it must not stand for another.
    fn newcomer_answered(&mut self) {
        match (self.newcomers.checked_sub(1), &mut self.required) {
            (Some(fewer), _) => self.newcomers = fewer,
            (None, Some(required)) => *required += 1,
            (None, None) => {}
        }
    }

    /// A stranger that has answered tells its name.
    pub(super) fn answerer_named(&mut self, node: &NodeId) {
        self.named.push(Named { node: node.clone(), was_there: true, has_answered: true });
    }

    /// A node that has not answered tells its name.
    pub(super) fn named(&mut self, node: &NodeId, discovery: Discovery) {
        let was_there = match discovery {
            Discovery::Hello(now) if now < self.began + HELLO => false,
            Discovery::Sign => true,
            Discovery::Hello(_) | Discovery::Return => return,
        };
        self.named.push(Named { node: node.clone(), was_there, has_answered: false });
    }

    /// A node is gone. Its answer must not stand for that of another.
    pub(super) fn gone(&mut self, node: &NodeId) {
        if let Some(index) = self.named.iter().position(|named| named.node == *node) {
            let named = self.named.swap_remove(index);
            self.answers -= usize::from(named.has_answered);
        }
    }

    /// The broker has counted for the `count`-th time: so many nodes have no name yet.
    pub(super) fn counted(&mut self, count: u64, unnamed: usize) {
        if count <= self.counts {
            return;
        }
        let sure = unnamed + self.named.iter().filter(|named| named.was_there).count();
        let newcomers = unnamed + self.named.len() - sure;
        // Of those that said hello since, as many were there as had been seen and nobody else accounts for.
        self.newcomers = newcomers.min(self.seen.saturating_sub(sure));
        let there = sure + self.newcomers;
        self.required = Some(self.required.map_or(there, |required| required.min(there)));
    }

    pub(super) fn are_counted(&self) -> bool {
        self.required.is_some()
    }

    /// How many answers are still waited for.
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
