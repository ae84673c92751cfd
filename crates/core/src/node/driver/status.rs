//! What a node tells of itself where another one asks: a server-side event with a name of its own.

use serde::Serialize;

use super::Driver;
use crate::{
    model::{MetricsSnapshot, NodeId},
    node::STATUS_EVENT,
    payload::Payload,
    transport::Health,
};

/// What a node tells of itself. It has no addresses, no credentials and nothing of users.
#[derive(Debug, Serialize)]
struct Status<'a> {
    node: &'a str,
    namespace: &'a str,
    /// Version of this crate.
    version: &'static str,
    backend: &'static str,
    peers: usize,
    /// Other nodes that it knows by name; not more than [`MAX_NAMES`].
    known_peers: Vec<&'a str>,
    health: Health,
    metrics: MetricsSnapshot,
    /// Settings of the node, as `Debug` writes them.
    config: String,
    /// Promises of the backend, as `Debug` writes them.
    capabilities: String,
}

/// Keeps the answer small in a large cluster: each peer is known to many nodes.
const MAX_NAMES: usize = 256;

impl Driver {
    /// Whether an event asks for the status.
    pub(super) fn is_status_request(payload: &Payload) -> bool {
        payload.event_name().as_deref() == Some(STATUS_EVENT)
    }

    pub(super) fn status(&self) -> Option<Payload> {
        let metrics = self.metrics.snapshot();
        let status = Status {
            node: self.node.id.as_str(),
            namespace: self.node.namespace.as_str(),
            version: env!("CARGO_PKG_VERSION"),
            backend: self.backend.name,
            peers: self.engine.peer_count(),
            known_peers: self.engine.members().take(MAX_NAMES).map(NodeId::as_str).collect(),
            health: self.condition.add_to(self.backend.transport.health(), metrics),
            metrics,
            config: format!("{:?}", self.config),
            capabilities: format!("{:?}", self.capabilities),
        };
        Payload::value(&status).ok()
    }
}
