//! The nodes of a test cluster as their test observes them.

use std::{
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use trunkline_core::{Local, MetricsSnapshot, Namespace, NodeId, Room};

use super::{client::TestSocket, failure::Checked, marker::Marker, observer::Observer};

/// Observes one node: the markers that reach it and its clients, and whether it runs.
#[derive(Debug)]
pub(super) struct NodeProbe {
    pub(super) namespace: Namespace,
    pub(super) observer: Arc<Observer>,
    sockets: Mutex<Vec<TestSocket>>,
    state: Mutex<NodeState>,
    /// How long to wait for something that must arrive.
    pub(super) timeout: Duration,
}

/// Whether a node receives messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NodeState {
    Running,
    /// Stopped by the test; it will receive what was sent meanwhile.
    Frozen,
    /// It has left, was killed or was dropped.
    Gone,
}

impl NodeProbe {
    pub(super) fn new(namespace: Namespace, observer: Arc<Observer>, timeout: Duration) -> Self {
        Self { namespace, observer, sockets: Mutex::default(), state: Mutex::new(NodeState::Running), timeout }
    }

    pub(super) fn state(&self) -> NodeState {
        *lock(&self.state)
    }

    pub(super) fn set_state(&self, state: NodeState) {
        *lock(&self.state) = state;
    }

    pub(super) fn add_socket(&self, socket: TestSocket) {
        lock(&self.sockets).push(socket);
    }

    pub(super) fn rooms(&self) -> Vec<Room> {
        self.observer.rooms()
    }

    pub(super) fn has_room(&self, room: &Room) -> bool {
        self.observer.has_room(room)
    }

    /// Waits until a marker has reached the node and each of its clients.
    pub(super) async fn wait_for(&self, at: &'static Location<'static>, marker: Marker) -> Checked {
        self.observer.wait_for_marker(at, self.timeout, marker).await?;
        let sockets = lock(&self.sockets).clone();
        for socket in sockets {
            socket.wait_for_marker(at, marker).await?;
        }
        Ok(())
    }
}

/// The nodes of a test cluster, and the anomalies of those that are gone.
#[derive(Debug, Default)]
pub(super) struct NodeList {
    probes: Mutex<Vec<Arc<NodeProbe>>>,
    /// Shared with the other clusters of the same test.
    anomalies: Arc<Mutex<Vec<String>>>,
}

impl NodeList {
    /// An empty list that reports anomalies together with this one.
    pub(super) fn beside(&self) -> Self {
        Self { probes: Mutex::default(), anomalies: Arc::clone(&self.anomalies) }
    }

    pub(super) fn add(&self, probe: Arc<NodeProbe>) {
        let mut probes = lock(&self.probes);
        probes.retain(|probe| probe.state() != NodeState::Gone);
        probes.push(probe);
    }

    /// The running nodes of a namespace.
    pub(super) fn running(&self, namespace: &Namespace) -> Vec<Arc<NodeProbe>> {
        let is_running = |probe: &&Arc<NodeProbe>| probe.namespace == *namespace && probe.state() == NodeState::Running;
        lock(&self.probes).iter().filter(is_running).cloned().collect()
    }

    /// Keeps what a node counted that is not counted when all is well.
    pub(super) fn keep_anomalies(&self, node: &NodeId, metrics: MetricsSnapshot) {
        let anomalies = without_ordinary(metrics);
        let texts: Vec<_> =
            anomalies.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name} {count}")).collect();
        if !texts.is_empty() {
            lock(&self.anomalies).push(format!("node {node} counted {}", texts.join(", ")));
        }
    }

    /// The anomalies of nodes that are gone as one line; empty without any.
    pub(super) fn anomalies(&self) -> String {
        lock(&self.anomalies).join("; ")
    }
}

fn without_ordinary(mut metrics: MetricsSnapshot) -> MetricsSnapshot {
    for ordinary in [
        &mut metrics.published,
        &mut metrics.delivered,
        &mut metrics.sent_to_sockets,
        &mut metrics.own_echoes,
        &mut metrics.unwanted,
        &mut metrics.foreign_namespace,
        &mut metrics.requests,
    ] {
        *ordinary = 0;
    }
    metrics
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
