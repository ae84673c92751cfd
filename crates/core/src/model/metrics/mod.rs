//! Counters of one node, and what it gives to the recorder of the `metrics` crate.

#[cfg(feature = "metrics")]
mod exported;
#[cfg(not(feature = "metrics"))]
#[path = "silent.rs"]
mod exported;
mod server;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use serde::{Deserialize, Serialize};

pub(crate) use self::exported::Exported;
pub use self::server::{DisconnectReason, ServerLevels, ServerMetrics};
use super::Message;
use crate::error::{Error, ErrorKind};

/// Upper bounds in seconds of the buckets that suit the histograms of a node, from 50 µs to 10 s.
pub const METRICS_BUCKETS: [f64; 16] =
    [50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 0.1, 0.25, 0.5, 1.0, 5.0, 10.0];

/// Kind of what travels between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Broadcast,
    Join,
    Leave,
    Disconnect,
    FetchSockets,
    AllRooms,
    ServerSideEmit,
    Heartbeat,
    Leaving,
    Answer,
}

impl MessageKind {
    pub(crate) fn of(message: &Message) -> Self {
        match message {
            Message::Broadcast { .. } => Self::Broadcast,
            Message::Join { .. } => Self::Join,
            Message::Leave { .. } => Self::Leave,
            Message::Disconnect { .. } => Self::Disconnect,
            Message::FetchSockets { .. } => Self::FetchSockets,
            Message::AllRooms { .. } => Self::AllRooms,
            Message::ServerSideEmit { .. } => Self::ServerSideEmit,
            Message::Heartbeat(_) => Self::Heartbeat,
            Message::Leaving => Self::Leaving,
        }
    }
}

/// Kind of a request to the other nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Sockets,
    Rooms,
    Values,
    Acks,
    Probe,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    Complete,
    /// A node did not answer.
    Partial,
    /// All nodes have answered, but not all their clients.
    TimedOut,
    Failed,
    /// The caller was gone before.
    Cancelled,
}

/// Kind of a request to the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryKind {
    Persist,
    Restore,
    Replay,
}

/// How a request to the history ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HistoryOutcome {
    Complete,
    /// There is no such session.
    Unknown,
    /// The history does not reach back that far.
    Lost,
    Failed,
}

impl HistoryOutcome {
    /// Outcome of a request that has failed with this error.
    pub(crate) fn of(error: &Error) -> Self {
        if error.kind() == ErrorKind::HistoryLost { Self::Lost } else { Self::Failed }
    }
}

/// What a node has now, taken now and then.
#[derive(Debug, Default)]
#[cfg_attr(not(feature = "metrics"), expect(dead_code, reason = "nothing is exported"))]
pub(crate) struct Levels {
    /// For how long the connection has been lost; `None` while connected.
    pub(crate) lost: Option<Duration>,
    pub(crate) outbox_messages: usize,
    pub(crate) outbox_bytes: usize,
    pub(crate) outbox_oldest: Duration,
    pub(crate) inbox_messages: usize,
    pub(crate) room_subscriptions: usize,
    pub(crate) named_peers: usize,
    pub(crate) counted_peers: usize,
}

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident $(=> $exported:literal $($label:literal = $value:literal)?)?,)*) => {
        /// Counters of one node's messages and requests, incremented by its transport, engine and driver.
        #[derive(Debug, Default)]
        pub struct NodeMetrics {
            $($(#[$doc])* pub $name: Counter,)*
            pub(crate) exported: Exported,
        }

        impl NodeMetrics {
            /// Counters that are also those of the global recorder of the `metrics` crate, with these labels; it is
            /// given what has been counted once a second. Without the feature `metrics`, or before a recorder is installed, they are the node's own only.
            #[must_use]
            pub fn exported(backend: &'static str, namespace: &str) -> Self {
                let exported = Exported::new(backend, namespace);
                Self {
                    $($name: Counter::exported(exported.counter(
                        None::<&str>$(.or(Some($exported)))?,
                        &[$($(($label, $value))?)?],
                    )),)*
                    exported,
                }
            }

            /// Gives the recorder what was counted since the last time.
            pub(crate) fn give(&self) {
                $(self.$name.give();)*
                self.exported.give_traffic();
            }

            /// Values of all counters now.
            #[must_use]
            pub fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.value(),)* }
            }
        }

        /// Values of [`NodeMetrics`] at one moment. Serializable, for an endpoint that reports them.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
        #[serde(default)]
        #[non_exhaustive]
        pub struct MetricsSnapshot {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl MetricsSnapshot {
            /// Every counter with its name, in the order of their declaration.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> + use<> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }
    };
}

metrics! {
    /// Messages and answers handed to the transport.
    published,
    /// Messages of other nodes and emitters applied here.
    delivered,
    /// Packets handed to local sockets, own emits included.
    sent_to_sockets => "trunkline_socket_packets_total",
    /// Packets that local sockets could not take because their buffer was full.
    dropped_by_sockets => "trunkline_dropped_total" "reason" = "socket_buffer",
    /// Own messages that came back.
    own_echoes => "trunkline_own_echoes_total",
    /// Messages for rooms without a local member, dropped before decoding.
    unwanted => "trunkline_dropped_total" "reason" = "unwanted_room",
    /// Repeats of numbered messages.
    repeats => "trunkline_dropped_total" "reason" = "repeat",
    /// Messages of other namespaces.
    foreign_namespace => "trunkline_dropped_total" "reason" = "foreign",
    /// Messages of a type this version does not know.
    unknown_type => "trunkline_dropped_total" "reason" = "unknown_type",
    /// Messages of unknown nodes that did not become known, because too many did a moment ago.
    newcomers_ignored => "trunkline_dropped_total" "reason" = "newcomer",
    /// Messages that could not be understood.
    malformed => "trunkline_dropped_total" "reason" = "malformed",
    /// Messages lost because this node's inbox was full.
    inbox_overflow => "trunkline_dropped_total" "reason" = "inbox_full",
    /// Answers, heartbeats and requests not sent because the driver's queue was full.
    outgoing_overflow => "trunkline_dropped_total" "reason" = "outgoing_full",
    /// Publishes that failed.
    publish_errors => "trunkline_publish_errors_total",
    /// Answers, or entries of answers, that were not sent because the broker does not take messages of their size.
    answers_too_large => "trunkline_dropped_total" "reason" = "answer_too_large",
    /// Gaps reported.
    gaps,
    /// Messages known to be missed, over all gaps.
    missed => "trunkline_missed_messages_total",
    /// Times the broker connection was lost.
    connections_lost => "trunkline_connections_lost_total",
    /// Times the broker connection came back.
    reconnects => "trunkline_reconnects_total",
    /// Times the broker took nothing for a while, because of an alarm of its own (RabbitMQ: memory, disk).
    blocked => "trunkline_broker_blocked_total",
    /// Times the node turned to a pattern because it had too many rooms to subscribe to each (Redis).
    subscription_fallbacks => "trunkline_subscription_fallbacks_total",
    /// Requests started.
    requests,
    /// Requests that ended by their timeout.
    requests_timed_out,
    /// Requests that ended without an answer of every node.
    requests_partial,
    /// Answers to requests that are over.
    late_answers => "trunkline_late_answers_total",
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter {
    value: AtomicU64,
    exported: exported::Handle,
}

impl Counter {
    fn exported(exported: exported::Handle) -> Self {
        Self { value: AtomicU64::new(0), exported }
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.value.fetch_add(count, Ordering::Relaxed);
    }

    /// Gives the recorder what has been added since the last time.
    fn give(&self) {
        self.exported.give(self.value());
    }

    /// Value now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_names_every_counter() {
        let metrics = NodeMetrics::default();
        metrics.repeats.add(2);
        metrics.repeats.increment();
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.repeats, 3);
        assert!(snapshot.iter().any(|(name, value)| name == "repeats" && value == 3));
    }
}
