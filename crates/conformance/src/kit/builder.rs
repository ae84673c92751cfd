//! Joining test nodes to a cluster.

use std::{sync::Arc, time::Duration};

use trunkline_core::{Backend, ClusterNode, Local, Namespace, NodeConfig};

use super::{
    context::ClusterContext,
    failure::{Checked, Failure},
    node::TestNode,
    node_list::NodeProbe,
    observer::Observer,
    process::Process,
};

/// Builder of a [`TestNode`].
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    context: Arc<ClusterContext>,
    namespace: Namespace,
    config: NodeConfig,
    backend: Option<Backend>,
    placement: Placement,
}

/// Runtime in which a node's tasks run.
#[derive(Clone, Debug)]
enum Placement {
    /// The test's own runtime.
    TestRuntime,
    /// A process that is started for this node.
    NewProcess,
    /// The process of another node.
    SameProcess(Arc<Process>),
}

impl NodeBuilder {
    pub(super) fn new(context: Arc<ClusterContext>, config: NodeConfig) -> Self {
        let namespace = Namespace::new("/");
        Self { context, namespace, config, backend: None, placement: Placement::TestRuntime }
    }

    /// Sets the namespace, `/` by default.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Namespace::new(namespace);
        self
    }

    /// Sets time limits and bounds, by default [`TestCluster::config`](super::TestCluster::config).
    #[must_use]
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.config = config;
        self
    }

    /// Shares the process and connections of another node, as several namespaces of one server do.
    #[must_use]
    pub fn sharing(mut self, node: &TestNode) -> Self {
        self.backend = Some(node.backend().clone());
        self.placement = node.process().map_or(Placement::TestRuntime, Placement::SameProcess);
        self
    }

    /// Detects silent nodes after at most 2.5 s instead of 10 s, for tests in which nodes die.
    #[must_use]
    pub fn fast_failure_detection(mut self) -> Self {
        let silence = (self.context.setup.wait_timeout() / 8).min(Duration::from_millis(2500));
        self.config.engine.heartbeat_interval = silence / 12;
        self.config.engine.heartbeat_timeout = silence;
        self
    }

    /// Uses this backend instead of connecting one.
    #[must_use]
    pub fn over(mut self, backend: Backend) -> Self {
        self.context.track(&backend);
        self.backend = Some(backend);
        self
    }

    /// Runs in a thread and runtime of its own, so that the node can be killed and frozen.
    #[must_use]
    pub fn own_process(mut self) -> Self {
        self.placement = Placement::NewProcess;
        self
    }

    /// Joins one node.
    pub async fn join(self) -> Checked<TestNode> {
        let server = self.context.setup.make_server();
        let observer = Arc::new(Observer::new(server.local()));
        let process = match &self.placement {
            Placement::TestRuntime => None,
            Placement::NewProcess => Some(Arc::new(Process::start()?)),
            Placement::SameProcess(process) => Some(Arc::clone(process)),
        };
        let joining = self.clone().connect_and_join(Arc::clone(&observer));
        let (node, backend) = match &process {
            Some(process) => process.run(joining).await??,
            None => joining.await?,
        };
        let probe = Arc::new(NodeProbe::new(self.namespace, observer, self.context.setup.wait_timeout()));
        let nodes = Arc::clone(&self.context.nodes);
        nodes.add(Arc::clone(&probe));
        Ok(TestNode::new(node, backend, server, process, probe, nodes))
    }

    async fn connect_and_join(self, observer: Arc<Observer>) -> Checked<(ClusterNode, Backend)> {
        let backend = match (self.backend, &self.placement) {
            (Some(backend), _) => backend,
            (None, Placement::TestRuntime) => self.context.backend().await?,
            (None, _) => self.context.connect_untracked().await?,
        };
        let local: Arc<dyn Local> = observer;
        let node = ClusterNode::join(backend.clone(), self.namespace, Arc::downgrade(&local), self.config).await?;
        Ok((node, backend))
    }

    /// Joins several nodes, and waits until they know each other.
    pub async fn join_several<const N: usize>(self) -> Checked<[TestNode; N]> {
        let nodes = self.join_many(N).await?;
        <[TestNode; N]>::try_from(nodes).map_err(|_| Failure::new("another number of nodes joined"))
    }

    /// Joins as many nodes as are known only at run time, and waits until they know each other.
    pub async fn join_many(self, count: usize) -> Checked<Vec<TestNode>> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.clone().join().await?);
        }
        for node in &nodes {
            node.await_peers(count - 1, self.context.setup.wait_timeout()).await?;
        }
        Ok(nodes)
    }
}
