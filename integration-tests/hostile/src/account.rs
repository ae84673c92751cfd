//! What a node has missed, compared with what it says of it.

use std::fmt;

/// Losses of one node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Account {
    /// Events of the valid traffic that its client did not get.
    pub(crate) lost: u64,
    /// Requests of other nodes, which it may have missed besides.
    pub(crate) requests: u64,
    /// Messages that it has reported as missed, in gaps of a known size.
    pub(crate) missed: u64,
    /// Gaps of unknown size.
    pub(crate) unknown: u64,
    /// How often it has lost its connection.
    pub(crate) outages: u64,
    /// Messages that it took for repeats.
    pub(crate) repeats: u64,
}

impl Account {
    /// What has come since an earlier moment.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            lost: self.lost - before.lost,
            requests: self.requests - before.requests,
            missed: self.missed - before.missed,
            unknown: self.unknown - before.unknown,
            outages: self.outages - before.outages,
            repeats: self.repeats - before.repeats,
        }
    }

    /// Whether gaps tell at least of what was lost to forged numbers. Where a forged message came first, the true one is
    /// a repeat of its number.
    pub(crate) fn tells_all(&self) -> bool {
        self.unknown > 0 || self.missed + self.repeats >= self.lost
    }

    /// Whether gaps tell of what was lost, and of nothing else.
    fn tells_the_truth(&self) -> bool {
        self.unknown > 0 || (self.lost..=self.lost + self.requests).contains(&self.missed)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lost, requests, missed, unknown, outages, repeats } = self;
        write!(
            f,
            "{lost} events lost, {missed} messages and {unknown} gaps of unknown size reported, {requests} requests, \
             {outages} connections lost, {repeats} repeats"
        )
    }
}

/// What is wrong with losses for which nothing that was sent is a reason: they are those of an outage, and each node
/// that has missed something reports as much. A history misses nothing.
pub(crate) fn unexplained(nodes: &[Account], has_history: bool) -> Option<String> {
    let outages: u64 = nodes.iter().map(|node| node.outages).sum();
    let is_explained = |node: &Account| {
        let is_whole = node.lost == 0 && node.missed == 0;
        is_whole || (!has_history && outages > 0 && node.tells_the_truth())
    };
    (!nodes.iter().all(is_explained)).then(|| shown(nodes))
}

pub(crate) fn shown(nodes: &[Account]) -> String {
    let shown: Vec<_> = nodes.iter().enumerate().map(|(number, node)| format!("node {number}: {node}")).collect();
    shown.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(lost: u64, missed: u64, unknown: u64, outages: u64) -> Account {
        Account { lost, requests: 2, missed, unknown, outages, repeats: 0 }
    }

    #[test]
    fn a_loss_is_explained_by_an_outage_and_a_gap_of_its_size() {
        let explained = |node, has_history| unexplained(&[account(0, 0, 0, 0), node], has_history).is_none();
        for node in [account(0, 0, 0, 0), account(0, 0, 1, 1), account(5, 5, 0, 1), account(5, 7, 0, 1)] {
            assert!(explained(node.clone(), false), "{node}");
        }
        assert!(explained(account(5, 0, 1, 1), false), "peers that do not answer leave the size unknown");
        for node in [account(5, 0, 0, 1), account(5, 4, 0, 1), account(5, 8, 0, 1), account(0, 3, 0, 1)] {
            assert!(!explained(node.clone(), false), "{node}");
        }
        assert!(!explained(account(5, 5, 0, 0), false), "a gap without an outage");
        assert!(!explained(account(5, 5, 0, 1), true), "a history misses nothing");
        assert!(!explained(account(0, 3, 0, 0), false), "a gap without a loss");
    }

    #[test]
    fn what_forged_numbers_cost_is_a_gap_or_a_repeat() {
        let told = |lost, missed, repeats| Account { repeats, ..account(lost, missed, 0, 0) }.tells_all();
        assert!(told(33, 33, 0) && told(33, 32, 1) && told(0, 0, 5));
        assert!(!told(33, 32, 0) && !told(33, 0, 32));
    }

    #[test]
    fn an_outage_of_one_node_explains_the_losses_of_another() {
        assert_eq!(unexplained(&[account(0, 0, 0, 1), account(1, 1, 0, 0)], false), None);
    }
}
