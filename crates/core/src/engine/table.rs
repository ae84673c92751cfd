//! Table of the own requests, by id and by deadline.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Instant,
};

use super::pending::Pending;
use crate::model::RequestId;

/// Most ended requests that are remembered.
const MAX_ENDED: usize = 256;

/// The pending requests. The engine bounds their number.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: HashMap<RequestId, Pending>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    ended: Ended,
}

/// Requests that ended lately, so that late answers to them are told from answers meant for others.
#[derive(Debug, Default)]
struct Ended {
    ids: HashSet<RequestId>,
    order: VecDeque<RequestId>,
}

impl Requests {
    pub(super) fn insert(&mut self, id: RequestId, pending: Pending) {
        self.deadlines.insert((pending.deadline, id.clone()));
        self.pending.insert(id, pending);
    }

    pub(super) fn contains(&self, id: &RequestId) -> bool {
        self.pending.contains_key(id)
    }

    pub(super) fn get_mut(&mut self, id: &RequestId) -> Option<&mut Pending> {
        self.pending.get_mut(id)
    }

    /// Takes a request out, and remembers that it was there.
    pub(super) fn end(&mut self, id: &RequestId) -> Option<Pending> {
        let pending = self.pending.remove(id)?;
        let (_, id) = self.deadlines.take(&(pending.deadline, id.clone()))?;
        self.ended.remember(id);
        Some(pending)
    }

    /// Whether the request ended lately.
    pub(super) fn has_ended(&self, id: &RequestId) -> bool {
        self.ended.ids.contains(id)
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.pending.values_mut()
    }

    /// Earliest deadline of a request.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Next request whose deadline is reached.
    pub(super) fn next_due(&self, now: Instant) -> Option<RequestId> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, id)| id.clone())
    }

    /// The requests that wait for nothing more, in the order of their ids.
    pub(super) fn complete(&self) -> Vec<RequestId> {
        let complete = self.pending.iter().filter(|(_, pending)| pending.is_complete());
        let mut ids: Vec<_> = complete.map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// All requests, in the order of their deadlines.
    pub(super) fn all(&self) -> Vec<RequestId> {
        self.deadlines.iter().map(|(_, id)| id.clone()).collect()
    }
}

impl Ended {
    fn remember(&mut self, id: RequestId) {
        if self.order.len() >= MAX_ENDED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        self.ids.insert(id.clone());
        self.order.push_back(id);
    }
}
