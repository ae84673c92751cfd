//! The faults: what each is called, what it does, and what may be lost while it lasts.

use std::time::Duration;

use clap::{ValueEnum, builder::PossibleValue};
use serde::{Deserialize, Serialize};

/// Something that goes wrong. The variants are in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Nothing goes wrong: the baseline
    None,
    /// The broker is killed (SIGKILL) and started again a second later
    BrokerKilled,
    /// The broker is shut down in good order and started again a second later
    BrokerRestarted,
    /// The broker does not run for 2 s (SIGSTOP)
    #[value(name = "broker-frozen-2s")]
    #[serde(rename = "broker-frozen-2s")]
    BrokerFrozen2,
    /// The broker does not run for 12 s (SIGSTOP)
    #[value(name = "broker-frozen-12s")]
    #[serde(rename = "broker-frozen-12s")]
    BrokerFrozen12,
    /// The broker does not run for 30 s (SIGSTOP)
    #[value(name = "broker-frozen-30s")]
    #[serde(rename = "broker-frozen-30s")]
    BrokerFrozen30,
    /// All connections of one node are reset once
    Reset,
    /// All connections of one node are reset five times, 700 ms apart
    ResetFive,
    /// All connections of one node forward nothing more and are not closed; new ones work
    HalfOpen,
    /// Everything of one node takes 300 ms more in each direction, for 5 s
    Delayed,
    /// Each connection of one node carries 64 KiB/s in each direction, for 8 s
    Throttled,
    /// Connections of one node break off in the middle of a large message, for 3 s
    CutWithin,
    /// An administrator closes all connections
    ClosedByAdmin,
    /// The broker has no room for messages, for 8 s
    Full,
    /// The broker takes no messages because its memory alarm is on, for 15 s
    Alarmed,
    /// The broker refuses everything that changes data, for 5 s
    ReadOnly,
    /// An administrator deletes the tables, streams, queues or collections of the cluster
    Deleted,
    /// The clock of one node jumps an hour ahead, and 5 s later two hours back
    ClockSteps,
    /// One node does not run for 12 s (SIGSTOP)
    NodeFrozen,
    /// One node is killed (SIGKILL) and started again 2 s later
    NodeKilled,
    /// One node is killed and started again five times
    NodeRestarting,
    /// Four clients of one node read nothing while 12 MiB are emitted to them
    SlowClients,
    /// 2,000 clients come, join a room and go, a hundred at a time
    Storm,
    /// Two of four nodes cannot reach the broker for 8 s
    Partition,
}

/// The largest pause between attempts to reconnect: `Backoff::default` of `trunkline-backend`, which all backends use,
/// and the default of Redis' `max_backoff`.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long a node may take to notice that nothing arrives any more: a ping interval and a time-out of 5 s each.
pub(crate) const DETECTION: Duration = Duration::from_secs(10);

impl Fault {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// What it does, in one sentence.
    pub(crate) fn about(self) -> String {
        let help = self.to_possible_value().as_ref().and_then(PossibleValue::get_help).map(ToString::to_string);
        help.unwrap_or_default()
    }

    /// Number of nodes of the cluster.
    pub(crate) fn nodes(self) -> usize {
        if self == Self::Partition { 4 } else { 3 }
    }

    /// Whether connections break or nodes stop, so that messages may be lost without a history.
    pub(crate) fn is_outage(self) -> bool {
        !matches!(
            self,
            Self::None
                | Self::BrokerFrozen2
                | Self::Delayed
                | Self::Throttled
                | Self::Full
                | Self::Alarmed
                | Self::ClockSteps
                | Self::SlowClients
                | Self::Storm
        )
    }

    /// Whether the history is gone afterwards.
    pub(crate) fn destroys_history(self) -> bool {
        self == Self::Deleted
    }

    /// How long everything may take to be right again after the end of the fault.
    pub(crate) fn recovery_limit(self) -> Duration {
        match self {
            // Begins when it is injected, and nobody is told.
            Self::HalfOpen => DETECTION + LONGEST_PAUSE * 2,
            _ => LONGEST_PAUSE * 2,
        }
    }
}
