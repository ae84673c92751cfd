//! Counters of one node.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

macro_rules! metrics {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one node's messages and requests, incremented by its transport, engine and driver.
        #[derive(Debug, Default)]
        pub struct NodeMetrics {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl NodeMetrics {
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
    sent_to_sockets,
    /// Packets that local sockets could not take because their buffer was full.
    dropped_by_sockets,
    /// Own messages that came back.
    own_echoes,
    /// Messages for rooms without a local member, dropped before decoding.
    unwanted,
    /// Repeats of numbered messages.
    repeats,
    /// Messages of other namespaces.
    foreign_namespace,
    /// Messages of a type this version does not know.
    unknown_type,
    /// Messages of unknown nodes that did not become known, because too many did a moment ago.
    newcomers_ignored,
    /// Messages that could not be understood.
    malformed,
    /// Messages lost because this node's inbox was full.
    inbox_overflow,
    /// Answers, heartbeats and requests not sent because the driver's queue was full.
    outgoing_overflow,
    /// Publishes that failed.
    publish_errors,
    /// Answers, or entries of answers, that were not sent because the broker does not take messages of their size.
    answers_too_large,
    /// Gaps reported.
    gaps,
    /// Messages known to be missed, over all gaps.
    missed,
    /// Times the broker connection was lost.
    connections_lost,
    /// Times the broker connection came back.
    reconnects,
    /// Times the broker took nothing for a while, because of an alarm of its own (RabbitMQ: memory, disk).
    blocked,
    /// Requests started.
    requests,
    /// Requests that ended by their timeout.
    requests_timed_out,
    /// Requests that ended without an answer of every node.
    requests_partial,
    /// Answers to requests that are over.
    late_answers,
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Value now.
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
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
