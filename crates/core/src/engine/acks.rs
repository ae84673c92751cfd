//! Acknowledgements of clients, counted per node.

use crate::model::{AckCounts, NodeId};

/// Announced client counts and received acknowledgements of one broadcast. A node's count and its acknowledgements may
/// come in either order.
#[derive(Debug)]
pub(super) struct Acks {
    /// Whether the count of this node's own clients is still to come.
    own_outstanding: bool,
    own: Tally,
    /// Tallies of the nodes that name themselves in their answers, unsorted: few, and mostly none.
    named: Vec<(NodeId, Tally)>,
    /// Tally of all answers without the name of a node, taken together.
    unnamed: Tally,
    /// Number of acknowledgements that have arrived without their value.
    refused: u64,
}

/// Announced and received acknowledgements of one node's clients.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    announced: Option<u64>,
    received: u64,
    /// Whether the node is gone: clients that have not answered will not.
    gone: bool,
}

impl Acks {
    /// Tallies without acknowledgements; none are waited for unless `wanted`.
    pub(super) fn new(wanted: bool) -> Self {
        Self {
            own_outstanding: wanted,
            own: Tally::default(),
            named: Vec::new(),
            unnamed: Tally::default(),
            refused: 0,
        }
    }

    /// Notes the client count that a node announced.
    pub(super) fn announced(&mut self, from: Option<&NodeId>, count: u32) {
        let tally = self.tally(from);
        tally.announced = Some(tally.announced.unwrap_or(0) + u64::from(count));
    }

    /// Notes the acknowledgement of a client. Returns `false` if more have acknowledged than were asked: it is a
    /// repeat.
    pub(super) fn received(&mut self, from: Option<&NodeId>) -> bool {
        self.tally(from).receive(from.is_none())
    }

    /// Notes the acknowledgement of a client that the broker does not take; as [`Acks::received`].
    pub(super) fn refused(&mut self, from: Option<&NodeId>) -> bool {
        let fresh = self.received(from);
        self.refused += u64::from(fresh);
        fresh
    }

    pub(super) fn own_announced(&mut self, count: u32) {
        self.own_outstanding = false;
        self.own.announced = Some(u64::from(count));
    }

    pub(super) fn own_received(&mut self) -> bool {
        self.own.receive(false)
    }

    fn tally(&mut self, from: Option<&NodeId>) -> &mut Tally {
        let Some(from) = from else { return &mut self.unnamed };
        let index = self.named.iter().position(|(node, _)| node == from).unwrap_or_else(|| {
            self.named.push((from.clone(), Tally::default()));
            self.named.len() - 1
        });
        &mut self.named[index].1
    }

    /// Stops waiting for the clients of a node that is gone.
    pub(super) fn node_gone(&mut self, node: &NodeId) {
        if let Some((_, tally)) = self.named.iter_mut().find(|(name, _)| name == node) {
            tally.gone = true;
        }
    }

    /// Whether announced clients of a node have not acknowledged.
    pub(super) fn awaits(&self, node: &NodeId) -> bool {
        self.named.iter().any(|(name, tally)| name == node && tally.received < tally.expected())
    }

    /// Whether all announced clients have acknowledged. Each node accounts for its own: one that names itself does so
    /// in all its answers.
    pub(super) fn is_complete(&self) -> bool {
        !self.own_outstanding && self.tallies().all(|tally| tally.received >= tally.expected())
    }

    /// Number of clients that were announced and are waited for, and of those whose acknowledgements have arrived.
    pub(super) fn totals(&self) -> AckCounts {
        let mut totals = self.tallies().fold(AckCounts::default(), |sum, tally| AckCounts {
            expected: sum.expected + tally.expected(),
            received: sum.received + tally.received,
        });
        totals.received -= self.refused;
        totals
    }

    pub(super) fn describe(&self) -> String {
        let AckCounts { expected, received } = self.totals();
        format!("{received} of {expected} clients acknowledged")
    }

    fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.named.iter().map(|(_, tally)| tally).chain([&self.own, &self.unnamed])
    }
}

impl Tally {
    /// A `pooled` tally is of several nodes, some of which may not have announced yet.
    fn receive(&mut self, pooled: bool) -> bool {
        if !pooled && self.announced.is_some_and(|announced| self.received >= announced) {
            return false;
        }
        self.received += 1;
        true
    }

    fn expected(&self) -> u64 {
        if self.gone { self.received } else { self.announced.unwrap_or(0) }
    }
}
