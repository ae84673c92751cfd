//! A cluster of test nodes, isolated from all others.

use std::{sync::Arc, time::Duration};

use trunkline_core::{Backend, Capabilities, Emitter, NodeConfig, engine::EngineConfig};

use super::{
    abilities::Abilities,
    builder::NodeBuilder,
    context::ClusterContext,
    emitter::TestEmitter,
    failure::{Checked, Failure},
    node::TestNode,
    node_list::NodeList,
    setup::Setup,
};

/// A test cluster with a random name, and the nodes that a test joins to it. Cheap to clone.
///
/// ```
/// # tokio_test(async {
/// use trunkline_conformance::{Setup, kit::TestCluster};
/// use trunkline_core::{Target, memory::{self, MemoryConfig}};
///
/// let setup = Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) });
/// let cluster = TestCluster::new(&setup);
/// let [a, b] = cluster.nodes().await?;
/// let (inside, outside) = (b.socket(["lobby"]).await?, b.socket([""; 0]).await?);
/// a.emit(Target::room("lobby"), "hello").await?;
/// a.settle().await?;
/// inside.got(&["hello"])?;
/// outside.got(&[])?;
/// # Ok::<(), trunkline_conformance::kit::Failure>(()) }).unwrap();
/// # fn tokio_test<T>(future: impl Future<Output = T>) -> T {
/// #     tokio::runtime::Runtime::new().unwrap().block_on(future)
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TestCluster {
    context: Arc<ClusterContext>,
}

impl TestCluster {
    /// Creates a cluster with a random name.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self::named(setup.clone(), format!("t{:010x}", fastrand::u64(..1 << 40)), NodeList::default())
    }

    fn named(setup: Setup, name: String, nodes: NodeList) -> Self {
        Self { context: Arc::new(ClusterContext::new(setup, name, nodes)) }
    }

    /// Another cluster of the same test.
    fn beside(&self, setup: Setup, suffix: char) -> Self {
        Self::named(setup, format!("{}{suffix}", self.context.name), self.context.nodes.beside())
    }

    /// Creates another cluster on the same broker, whose name begins with the name of this one.
    #[must_use]
    pub fn sibling(&self) -> Self {
        self.beside(self.context.setup.clone(), '2')
    }

    /// Creates another cluster, whose history is short, see [`Setup::limited_history`].
    ///
    /// # Errors
    /// If the setup has none.
    pub fn with_limited_history(&self) -> Checked<Self> {
        let setup = self.context.setup.with_limited_history();
        let setup = setup.ok_or_else(|| Failure::new("the setup has no limited_history; this backend needs one"))?;
        Ok(self.beside(setup, '3'))
    }

    /// How long to wait for something that must happen, see [`Setup::timeout`].
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.context.setup.wait_timeout()
    }

    /// Configuration of test nodes: short intervals, so that nothing takes long, and generous timeouts, so that a busy
    /// machine does not fail a test.
    #[must_use]
    pub fn config(&self) -> NodeConfig {
        NodeConfig::default()
            .with_engine(
                EngineConfig::default()
                    .with_heartbeat_interval(Duration::from_millis(300))
                    .with_heartbeat_timeout(Duration::from_secs(10))
                    .with_gap_grace(Duration::from_millis(500))
                    .with_count_interval(Duration::from_millis(50)),
            )
            .with_request_timeout(self.timeout() * 3 / 4)
            .with_leave_timeout((self.timeout() / 4).min(NodeConfig::default().leave_timeout))
    }

    /// Runs an attempt that passes only if everything else arrives before its timeout expires. A short timeout is
    /// enough most of the time; an attempt that fails is repeated with a longer one, so that a busy machine does not
    /// fail a test, and the output says so.
    pub async fn with_growing_time_outs<A>(&self, attempt: impl Fn(Duration) -> A) -> Checked
    where
        A: Future<Output = Checked>,
    {
        for divisor in [80, 20, 5] {
            let timeout = self.timeout() / divisor;
            match attempt(timeout).await {
                Ok(()) => return Ok(()),
                Err(failure) => println!("failed with a timeout of {timeout:?}, trying a longer one: {failure}"),
            }
        }
        attempt(self.timeout() / 2).await
    }

    /// Returns `full` divided by the scale of [`Setup::scaled_down_by`], but at least `least`.
    #[must_use]
    pub fn scaled(&self, full: usize, least: usize) -> usize {
        (full / self.context.setup.scale()).max(least)
    }

    /// Returns `bytes`, or the size of a payload that the transport takes if that is less.
    pub async fn within_limit(&self, bytes: usize) -> Checked<usize> {
        const ENVELOPE: usize = 4096;
        let limit = self.capabilities().await?.max_message_bytes.unwrap_or(usize::MAX);
        Ok(bytes.min(limit.saturating_sub(ENVELOPE)))
    }

    /// Returns `bytes` scaled as by [`TestCluster::scaled`] and limited as by [`TestCluster::within_limit`].
    pub async fn scaled_within_limit(&self, bytes: usize) -> Checked<usize> {
        self.within_limit(self.scaled(bytes, 1)).await
    }

    /// Connects a backend, with connections of its own.
    pub async fn backend(&self) -> Checked<Backend> {
        self.context.backend().await
    }

    /// Connects a backend for a runtime that stands for a process of its own, with which the connections end.
    pub(crate) async fn backend_of_another_process(&self) -> Checked<Backend> {
        self.context.connect_untracked().await
    }

    /// Declared abilities of backend and server.
    pub async fn abilities(&self) -> Checked<Abilities> {
        self.context.abilities().await
    }

    /// Declared capabilities of the transport.
    pub async fn capabilities(&self) -> Checked<Capabilities> {
        Ok(self.abilities().await?.capabilities)
    }

    /// Joins a node of the namespace `/`.
    pub async fn node(&self) -> Checked<TestNode> {
        self.build().join().await
    }

    /// Joins several nodes of the namespace `/`, and waits until they know each other.
    pub async fn nodes<const N: usize>(&self) -> Checked<[TestNode; N]> {
        self.build().join_several().await
    }

    /// Returns a builder, for a node with options.
    #[must_use]
    pub fn build(&self) -> NodeBuilder {
        NodeBuilder::new(Arc::clone(&self.context), self.config())
    }

    /// Creates an emitter into the namespace `/`, with connections of its own.
    pub async fn emitter(&self) -> Checked<TestEmitter> {
        let backend = self.context.connect().await?;
        Ok(TestEmitter::new(Emitter::new(&backend), backend, Arc::clone(&self.context.nodes)))
    }

    /// What the nodes that are gone, also those of sibling clusters, counted that is not counted when all is well;
    /// empty without any.
    pub(crate) fn anomalies(&self) -> String {
        self.context.nodes.anomalies()
    }

    /// Closes all transports that are still in use.
    pub async fn close(&self) {
        self.context.close().await;
    }
}
