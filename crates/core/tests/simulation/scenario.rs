//! What is to happen in one run: everything follows from the seed.

use std::fmt;

use fastrand::Rng;
use trunkline_core::{Membership, engine::Gather};

/// Microseconds of simulated time.
pub(crate) type Micros = u64;

pub(crate) const MILLI: Micros = 1000;
pub(crate) const SECOND: Micros = 1_000_000;

/// Channels of a sender: the one to all, and two room buckets.
pub(crate) const CHANNELS: usize = 3;

/// One run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) faults: Faults,
    /// In the order of time.
    pub(crate) acts: Vec<(Micros, Act)>,
    /// From here on the network is faultless and nobody does anything.
    pub(crate) quiet: Micros,
}

/// The backend that is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) membership: Membership,
    pub(crate) numbered: bool,
    /// Each channel keeps its own order only; heartbeats overtake messages of other channels.
    pub(crate) split: bool,
    /// Foreign peers name themselves when they answer.
    pub(crate) named: bool,
    /// The broker hands a sender its own messages back.
    pub(crate) echo: bool,
    /// Requests a node may have pending.
    pub(crate) max_pending: usize,
}

/// What the network does to single messages, in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplication: u64,
    pub(crate) reorder: u64,
    /// How much later a message may come than the fastest.
    pub(crate) jitter: Micros,
    /// Clocks differ, and run up to 2 % fast or slow.
    pub(crate) drift: bool,
}

/// Something that happens. Peers are named by their place in the order in which they came; what concerns one that is not there any more
/// does not happen, so that any subset of a scenario is a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Join,
    Leave(usize),
    Crash {
        node: usize,
        /// How long the broker takes to notice.
        lingers: Micros,
    },
    Freeze {
        node: usize,
        time: Micros,
        /// Messages that its inbox takes meanwhile.
        inbox: usize,
        /// On return its timer is faster than its inbox.
        ticks_first: bool,
    },
    /// The broker connection is away.
    Cut {
        node: usize,
        time: Micros,
    },
    /// Messages between two groups get lost without anybody noticing.
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
        /// The message cannot be published.
        refused: bool,
    },
    Cancel(usize),
    Subscribe(usize, usize),
    Unsubscribe(usize, usize),
    ForeignJoin,
    ForeignLeave(usize),
    /// From a process that is no node.
    Emitter,
}

impl Act {
    /// Whether there is one peer more after it.
    pub(crate) fn adds_peer(self) -> bool {
        matches!(self, Self::Join | Self::ForeignJoin)
    }

    /// Whom it concerns.
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
        let kind = Kind::random(&mut rng);
        let faults = Faults::random(&mut rng, kind);
        let quiet = rng.u64(10..40) * SECOND;
        let mut acts: Vec<_> = (0..rng.usize(2..7)).map(|_| (rng.u64(0..SECOND), Act::Join)).collect();
        let weights = Weights::random(&mut rng, kind);
        acts.extend((0..rng.usize(20..120)).map(|_| (rng.u64(0..quiet), weights.act(&mut rng))));
        acts.sort_by_key(|(at, _)| *at);
        Self { seed, kind, faults, acts, quiet }
    }
}

impl Kind {
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
    fn random(rng: &mut Rng, kind: Kind) -> Self {
        let mut rate = |one_in: u8, most: u64| if rng.u8(0..one_in) == 0 { rng.u64(1..most) } else { 0 };
        Self {
            loss: rate(3, 200),
            // Repeats cannot be told where nobody numbers.
            duplication: if kind.numbered { rate(3, 200) } else { 0 },
            reorder: if kind.numbered { rate(5, 200) } else { 0 },
            jitter: MILLI + rate(2, 300) * MILLI,
            drift: rate(2, 2) > 0,
        }
    }
}

/// How often what happens in a run.
#[derive(Debug)]
struct Weights {
    kind: Kind,
    /// Faults of nodes and connections, in percent of all acts.
    faults: u8,
    /// Nodes that come and go.
    churn: u8,
    foreign: u8,
}

impl Weights {
    fn random(rng: &mut Rng, kind: Kind) -> Self {
        let mut percent = |one_in: u8, most: u8| if rng.u8(0..one_in) == 0 { 0 } else { rng.u8(0..most) };
        Self { kind, faults: percent(3, 25), churn: percent(3, 25), foreign: percent(2, 15) }
    }

    fn act(&self, rng: &mut Rng) -> Act {
        let node = rng.usize(0..10);
        let mut dice = rng.u8(0..100);
        for (weight, act) in [
            (self.faults, Self::fault as fn(&mut Rng, usize) -> Act),
            (self.churn, Self::come_or_go),
            (self.foreign, Self::foreign),
        ] {
            if dice < weight {
                return act(rng, node);
            }
            dice -= weight;
        }
        self.ordinary(rng, node)
    }

    fn fault(rng: &mut Rng, node: usize) -> Act {
        match rng.u8(0..4) {
            0 => Act::Crash { node, lingers: if rng.bool() { 0 } else { rng.u64(0..30) * SECOND } },
            1 => {
                let inbox = if rng.bool() { 10 } else { 10_000 };
                Act::Freeze { node, time: rng.u64(0..20) * SECOND, inbox, ticks_first: rng.bool() }
            }
            2 => Act::Cut { node, time: rng.u64(10..15_000) * MILLI },
            _ => Act::Partition { group: rng.u64(1..64), time: rng.u64(10..20_000) * MILLI },
        }
    }

    fn come_or_go(rng: &mut Rng, node: usize) -> Act {
        if rng.bool() { Act::Join } else { Act::Leave(node) }
    }

    fn foreign(rng: &mut Rng, node: usize) -> Act {
        match rng.u8(0..3) {
            0 => Act::ForeignLeave(node),
            _ => Act::ForeignJoin,
        }
    }

    fn ordinary(&self, rng: &mut Rng, node: usize) -> Act {
        let channel = rng.usize(0..CHANNELS);
        match rng.u8(0..20) {
            0..8 => Act::Emit { node, channel, count: if rng.u8(0..8) == 0 { 40 } else { 1 } },
            8..16 => Act::Ask {
                node,
                gather: [Gather::Sockets, Gather::Rooms, Gather::Values, Gather::Acks][rng.usize(0..4)],
                timeout: if rng.u8(0..10) == 0 { 0 } else { rng.u64(10..6000) * MILLI },
                refused: rng.u8(0..20) == 0,
            },
            16 => Act::Cancel(node),
            17 => Act::Emitter,
            18 if self.kind.numbered => Act::Subscribe(node, channel.max(1)),
            19 if self.kind.numbered => Act::Unsubscribe(node, channel.max(1)),
            _ => Act::Emit { node, channel: 0, count: 1 },
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {:?}", self.seed, self.kind)?;
        writeln!(f, "{:?}, quiet from {}", self.faults, seconds(self.quiet))?;
        self.acts.iter().try_for_each(|(at, act)| writeln!(f, "  {} {act:?}", seconds(*at)))
    }
}

/// Simulated time as people read it.
pub(crate) fn seconds(time: Micros) -> String {
    format!("{:>10.6}", time as f64 / SECOND as f64)
}
