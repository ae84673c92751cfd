//! Settings of the protocol engine.

use std::time::Duration;

use crate::model::setters;

/// Times and bounds of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineConfig {
    /// How long after its last request-like message a node sends a heartbeat. Default 5 s, as the official adapters.
    pub heartbeat_interval: Duration,
    /// How long a node may be silent before it is suspected to be gone. Default 10 s, as the official adapters. A
    /// suspect that stays silent for a tenth of that counts as gone: a node whose messages wait here because this
    /// process stood still is not given up.
    pub heartbeat_timeout: Duration,
    /// How long a high-water mark in a heartbeat may be ahead of the messages it counts, and how long peers have after
    /// a reconnect to tell what was missed. Default 1 s.
    pub gap_grace: Duration,
    /// How often the broker is asked for its count while a request waits on it. Default 500 ms. A node that the broker
    /// does not see for twice that counts as gone.
    pub count_interval: Duration,
    /// Own requests that may be pending at a time. Default 10,000.
    pub max_pending_requests: usize,
    /// Number of room buckets of this node's transport, to be checked against that of other nodes.
    pub buckets: Option<u16>,
}

setters!(EngineConfig {
    with_heartbeat_interval(heartbeat_interval: Duration),
    with_heartbeat_timeout(heartbeat_timeout: Duration),
    with_gap_grace(gap_grace: Duration),
    with_count_interval(count_interval: Duration),
    with_max_pending_requests(max_pending_requests: usize),
    with_buckets(buckets: Option<u16>),
});

impl EngineConfig {
    /// How long a suspected node has to send something before it counts as gone.
    pub(super) fn suspicion(&self) -> Duration {
        self.heartbeat_timeout / 10
    }

    /// How long the broker must not have seen a node that is not heard, either, until it counts as gone.
    pub(super) fn absence(&self) -> Duration {
        self.count_interval * 2
    }

    /// Shortest time between two heartbeats that answer newcomers: nodes that join at the same time share an answer.
    pub(super) fn heartbeat_spacing(&self) -> Duration {
        self.heartbeat_interval / 100
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(10),
            gap_grace: Duration::from_secs(1),
            count_interval: Duration::from_millis(500),
            max_pending_requests: 10_000,
            buckets: None,
        }
    }
}
