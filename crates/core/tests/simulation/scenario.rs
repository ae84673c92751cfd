//! The scenario of one run, generated from a seed.

use std::fmt;

use fastrand::Rng;
use trunkline_core::{Membership, engine::Gather};

/// Microseconds of simulated time.
pub(crate) type Micros = u64;

pub(crate) const MILLI: Micros = 1000;
pub(crate) const SECOND: Micros = 1_000_000;

/// Number of channels of a sender: the one to all, and two room buckets.
pub(crate) const CHANNELS: usize = 3;

/// The scenario of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) kind: BackendKind,
    pub(crate) faults: Faults,
    /// Actions in the order of time.
    pub(crate) actions: Vec<(Micros, Action)>,
    /// From this time on there are neither faults nor actions.
    pub(crate) quiet: Micros,
}

/// The simulated backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BackendKind {
    pub(crate) membership: Membership,
    pub(crate) numbered: bool,
    /// Only messages of one channel keep their order; heartbeats overtake messages of other channels.
    pub(crate) split: bool,
    /// Answers of foreign peers carry their id.
    pub(crate) named: bool,
    /// The broker delivers a sender's own messages to it.
    pub(crate) echo: bool,
    /// Maximum number of pending requests of a node.
    pub(crate) max_pending: usize,
}

/// Faults of single messages, as probabilities in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) reorder: u64,
    /// Maximum delay beyond the minimum latency.
    pub(crate) jitter: Micros,
    /// Clocks have a skew, and run up to 2 % fast or slow.
    pub(crate) drift: bool,
}

/// One action. Peers are identified by their index in the order of joining. An action on a peer that is not present has
/// no effect, so that any subset of a scenario is a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Join,
    Leave(usize),
    Crash {
        node: usize,
        /// Time until the broker stops counting the node.
        lingers: Micros,
    },
    Freeze {
        node: usize,
        time: Micros,
        /// Capacity of its inbox in messages.
        inbox: usize,
        /// Whether the timer fires before the inbox is read when it continues.
        ticks_first: bool,
    },
    /// Loses the broker connection for a while.
    Cut {
        node: usize,
        time: Micros,
    },
    /// Drops messages between two groups of peers, unnoticed by either.
    Partition {
        group: u64,
        time: Micros,
    },
    Emit {
        node: usize,
        channel: usize,
        count: usize,
    },
    Ask {
        node: usize,
        gather: Gather,
        timeout: Micros,
        /// Whether publishing the request fails.
        refused: bool,
    },
    Cancel(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    ForeignJoin,
    ForeignLeave(usize),
    /// Broadcasts from a process that is no node.
    Emitter,
}

impl Action {
    /// Whether the action adds a peer.
    pub(crate) fn adds_peer(self) -> bool {
        matches!(self, Self::Join | Self::ForeignJoin)
    }

    /// The node that the action is about.
    pub(crate) fn node_mut(&mut self) -> Option<&mut usize> {
        match self {
            Self::Leave(node)
            | Self::Cancel(node)
            | Self::Subscribe(node, _)
            | Self::Unsubscribe(node, _)
            | Self::ForeignLeave(node)
            | Self::Crash { node, .. }
            | Self::Freeze { node, .. }
            | Self::Cut { node, .. }
            | Self::Emit { node, .. }
            | Self::Ask { node, .. } => Some(node),
            Self::Join | Self::ForeignJoin | Self::Partition { .. } | Self::Emitter => None,
        }
    }
}

impl Scenario {
    pub(crate) fn from_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let kind = BackendKind::random(&mut rng);
        let faults = Faults::random(&mut rng, kind);
        let quiet = rng.u64(10..40) * SECOND;
        let mut actions: Vec<_> = (0..rng.usize(2..7)).map(|_| (rng.u64(0..SECOND), Action::Join)).collect();
        let weights = Weights::random(&mut rng, kind);
        actions.extend((0..rng.usize(20..120)).map(|_| (rng.u64(0..quiet), weights.action(&mut rng))));
        actions.sort_by_key(|(at, _)| *at);
        Self { seed, kind, faults, actions, quiet }
    }
}

impl BackendKind {
    fn random(rng: &mut Rng) -> Self {
        Self {
            membership: if rng.bool() { Membership::Heartbeats } else { Membership::BrokerCount },
            numbered: rng.u8(0..5) > 0,
            split: rng.u8(0..3) == 0,
            named: rng.bool(),
            echo: rng.bool(),
            max_pending: if rng.u8(0..4) == 0 { 3 } else { 1000 },
        }
    }
}

impl Faults {
    fn random(rng: &mut Rng, kind: BackendKind) -> Self {
        let mut rate = |one_in: u8, most: u64| if rng.u8(0..one_in) == 0 { rng.u64(1..most) } else { 0 };
        Self {
            loss: rate(3, 200),
            // Without numbers, repeats cannot be detected.
            duplication: if kind.numbered { rate(3, 200) } else { 0 },
            reorder: if kind.numbered { rate(5, 200) } else { 0 },
            jitter: MILLI + rate(2, 300) * MILLI,
            drift: rate(2, 2) > 0,
        }
    }
}

/// Frequencies of the kinds of actions in a run.
#[derive(Debug)]
struct Weights {
    kind: BackendKind,
    /// Faults of nodes and connections, in percent of all actions.
    faults: u8,
    /// Joins and leaves.
    churn: u8,
    foreign: u8,
}

impl Weights {
    fn random(rng: &mut Rng, kind: BackendKind) -> Self {
        let mut percent = |one_in: u8, most: u8| if rng.u8(0..one_in) == 0 { 0 } else { rng.u8(0..most) };
        Self { kind, faults: percent(3, 25), churn: percent(3, 25), foreign: percent(2, 15) }
    }

    fn action(&self, rng: &mut Rng) -> Action {
        let node = rng.usize(0..10);
        let mut dice = rng.u8(0..100);
        for (weight, action) in [
            (self.faults, Self::fault as fn(&mut Rng, usize) -> Action),
            (self.churn, Self::come_or_go),
            (self.foreign, Self::foreign),
        ] {
            if dice < weight {
                return action(rng, node);
            }
            dice -= weight;
        }
        self.ordinary(rng, node)
    }

    fn fault(rng: &mut Rng, node: usize) -> Action {
        match rng.u8(0..4) {
            0 => Action::Crash { node, lingers: if rng.bool() { 0 } else { rng.u64(0..30) * SECOND } },
            1 => {
                let inbox = if rng.bool() { 10 } else { 10_000 };
                Action::Freeze { node, time: rng.u64(0..20) * SECOND, inbox, ticks_first: rng.bool() }
            }
            2 => Action::Cut { node, time: rng.u64(10..15_000) * MILLI },
            _ => Action::Partition { group: rng.u64(1..64), time: rng.u64(10..20_000) * MILLI },
        }
    }

    fn come_or_go(rng: &mut Rng, node: usize) -> Action {
        if rng.bool() { Action::Join } else { Action::Leave(node) }
    }

    fn foreign(rng: &mut Rng, node: usize) -> Action {
        match rng.u8(0..3) {
            0 => Action::ForeignLeave(node),
            _ => Action::ForeignJoin,
        }
    }

    fn ordinary(&self, rng: &mut Rng, node: usize) -> Action {
        let channel = rng.usize(0..CHANNELS);
        match rng.u8(0..20) {
            0..8 => Action::Emit { node, channel, count: if rng.u8(0..8) == 0 { 40 } else { 1 } },
            8..16 => Action::Ask {
                node,
                gather: [Gather::Sockets, Gather::Rooms, Gather::Values, Gather::Acks][rng.usize(0..4)],
                timeout: if rng.u8(0..10) == 0 { 0 } else { rng.u64(10..6000) * MILLI },
                refused: rng.u8(0..20) == 0,
            },
            16 => Action::Cancel(node),
            17 => Action::Emitter,
            18 if self.kind.numbered => Action::Subscribe(node, channel.max(1)),
            19 if self.kind.numbered => Action::Unsubscribe(node, channel.max(1)),
            _ => Action::Emit { node, channel: 0, count: 1 },
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {:?}", self.seed, self.kind)?;
        writeln!(f, "{:?}, quiet from {}", self.faults, seconds(self.quiet))?;
        self.actions.iter().try_for_each(|(at, action)| writeln!(f, "  {} {action:?}", seconds(*at)))
    }
}

/// Formats simulated time as seconds.
pub(crate) fn seconds(time: Micros) -> String {
    format!("{:>10.6}", time as f64 / SECOND as f64)
}
