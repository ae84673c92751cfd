//! Settings of a node.

use std::time::Duration;

use crate::{engine::EngineConfig, model::setters, transport::InboxLimits};

/// Times and bounds of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeConfig {
    /// Times and bounds of the protocol.
    pub engine: EngineConfig,
    /// How long answers are waited for when the caller does not say. Default 5 s, as the official adapters.
    pub request_timeout: Duration,
    /// Bounds of the inbox.
    pub inbox: InboxLimits,
    /// Answers, heartbeats and requests that may wait for the transport's queue. Default 10,000. Beyond it answers and
    /// heartbeats are dropped and counted, and requests fail with `QueueFull`.
    pub max_outgoing: usize,
    /// How long leaving may take when the broker does not answer. Default 1 s.
    pub leave_timeout: Duration,
    /// Label of the node's metrics in place of its namespace: one for all namespaces of a pattern.
    pub metrics_namespace: Option<&'static str>,
}

setters!(NodeConfig {
    with_engine(engine: EngineConfig),
    with_request_timeout(request_timeout: Duration),
    with_inbox(inbox: InboxLimits),
    with_max_outgoing(max_outgoing: usize),
    with_leave_timeout(leave_timeout: Duration),
    with_metrics_namespace(metrics_namespace: Option<&'static str>),
});

/// Longest time that is kept: what is longer no clock can reach.
pub(super) const FAR_FUTURE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Shortest interval that is kept: without any, nothing else would be done.
const SHORTEST: Duration = Duration::from_millis(1);

impl NodeConfig {
    /// The same, with times that a clock can keep.
    pub(super) fn clamped(mut self) -> Self {
        let EngineConfig { heartbeat_interval, heartbeat_timeout, gap_grace, count_interval, .. } = &mut self.engine;
        for time in [heartbeat_timeout, gap_grace] {
            *time = (*time).min(FAR_FUTURE);
        }
        for pause in [heartbeat_interval, count_interval] {
            *pause = (*pause).clamp(SHORTEST, FAR_FUTURE);
        }
        self
    }
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            request_timeout: Duration::from_secs(5),
            inbox: InboxLimits::default(),
            max_outgoing: 10_000,
            leave_timeout: Duration::from_secs(1),
            metrics_namespace: None,
        }
    }
}
