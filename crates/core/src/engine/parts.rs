//! Answers that arrive in parts.

use std::collections::BTreeSet;

use crate::model::{Answer, NodeId, Part};

/// Most parts of one answer.
const MAX_PARTS: u32 = 1 << 16;

/// Parts of answers that have not arrived whole, by the answering node: few, and mostly none.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<(NodeId, Arrived)>);

/// Parts of one node's answer. They may come in any order, and repeatedly.
#[derive(Debug, Default)]
struct Arrived {
    indices: BTreeSet<u32>,
    /// Number of all parts, once the last one has come.
    count: Option<u32>,
    answers: Vec<Answer>,
}

impl Parts {
    /// Adds a part. Returns `false` for a repeat, and for one that cannot be.
    pub(super) fn add(&mut self, from: &NodeId, part: Part) -> bool {
        let Part { index, is_last, answer } = part;
        let arrived = self.of(from);
        if index >= MAX_PARTS || arrived.count.is_some_and(|count| index >= count) || !arrived.indices.insert(index) {
            return false;
        }
        if is_last {
            arrived.count = Some(index + 1);
        }
        arrived.answers.push(*answer);
        true
    }

    /// Takes the parts of a node if all have come.
    pub(super) fn take_whole(&mut self, from: &NodeId) -> Option<Vec<Answer>> {
        let Arrived { indices, count, .. } = self.of(from);
        let is_whole = count.is_some_and(|count| indices.len() >= count as usize);
        is_whole.then(|| self.take(from))
    }

    /// Takes the parts of a node that have come.
    pub(super) fn take(&mut self, from: &NodeId) -> Vec<Answer> {
        match self.0.iter().position(|(node, _)| node == from) {
            Some(index) => self.0.swap_remove(index).1.answers,
            None => Vec::new(),
        }
    }

    /// Takes what has come of all answers, and their nodes.
    pub(super) fn take_all(&mut self) -> impl Iterator<Item = (NodeId, Answer)> {
        let all = std::mem::take(&mut self.0).into_iter();
        all.flat_map(|(node, arrived)| arrived.answers.into_iter().map(move |answer| (node.clone(), answer)))
    }

    fn of(&mut self, from: &NodeId) -> &mut Arrived {
        let index = self.0.iter().position(|(node, _)| node == from).unwrap_or_else(|| {
            self.0.push((from.clone(), Arrived::default()));
            self.0.len() - 1
        });
        &mut self.0[index].1
    }
}
