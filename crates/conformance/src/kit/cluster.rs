//! A cluster of test nodes, isolated from all others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::timeout;
use trunkline_core::{
    Backend, Capabilities, ClusterNode, Emitter, LocalAbilities, MetricsSnapshot, Namespace, NodeConfig, NodeId,
    Transport, engine::EngineConfig,
};

use super::{
    emitter::TestEmitter,
    failure::{Checked, Failure},
    node::{Seat, TestNode},
    observer::Observer,
    process::Process,
};
use crate::{needs::Abilities, setup::Setup};

/// A cluster with a name of its own, and the nodes that a test starts in it. Cheap to clone.
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
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    setup: Setup,
    name: String,
    /// A backend that was made to ask what it can do; the first node gets it.
    spare: Mutex<Option<Backend>>,
    roster: Arc<Roster>,
    transports: Mutex<Vec<Weak<dyn Transport>>>,
}

/// Who is in the cluster, so that markers can be waited for everywhere.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    seats: Mutex<Vec<Arc<Seat>>>,
    /// What went wrong at nodes that are gone, a text each; also of other clusters of the same test.
    troubles: Arc<Mutex<Vec<String>>>,
}

impl Roster {
    pub(crate) fn seats(&self, namespace: &Namespace) -> Vec<Arc<Seat>> {
        let seats = lock(&self.seats);
        seats.iter().filter(|seat| seat.namespace == *namespace && seat.is_attending()).cloned().collect()
    }

    fn add(&self, seat: Arc<Seat>) {
        let mut seats = lock(&self.seats);
        seats.retain(|seat| !seat.is_gone());
        seats.push(seat);
    }

    pub(crate) fn keep_counters(&self, node: &NodeId, metrics: MetricsSnapshot) {
        let unusual = unusual(metrics);
        let unusual = unusual.iter().filter(|(_, value)| *value > 0);
        let unusual: Vec<_> = unusual.map(|(name, value)| format!("{name} {value}")).collect();
        if !unusual.is_empty() {
            lock(&self.troubles).push(format!("node {node} counted {}", unusual.join(", ")));
        }
    }
}

/// Without what is counted when all is well.
fn unusual(mut metrics: MetricsSnapshot) -> MetricsSnapshot {
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

impl TestCluster {
    /// A cluster with a random name.
    #[must_use]
    pub fn new(setup: &Setup) -> Self {
        Self::named(setup.clone(), format!("t{:010x}", fastrand::u64(..1 << 40)), Arc::default())
    }

    fn named(setup: Setup, name: String, troubles: Arc<Mutex<Vec<String>>>) -> Self {
        let roster = Arc::new(Roster { seats: Mutex::default(), troubles });
        let shared = Shared { setup, name, spare: Mutex::default(), roster, transports: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// Another cluster of the same test.
    fn beside(&self, setup: Setup, mark: char) -> Self {
        Self::named(setup, format!("{}{mark}", self.shared.name), Arc::clone(&self.shared.roster.troubles))
    }

    /// Another cluster on the same broker. Its name begins with the name of this one.
    #[must_use]
    pub fn sibling(&self) -> Self {
        self.beside(self.shared.setup.clone(), '2')
    }

    /// A cluster whose history forgets soon, see [`Setup::limited_history`].
    ///
    /// # Errors
    /// If the setup has none.
    pub fn forgetful(&self) -> Checked<Self> {
        let limited = self.shared.setup.limited();
        let setup = limited.ok_or_else(|| Failure::new("the setup has no limited_history; this backend needs one"))?;
        Ok(self.beside(setup, '3'))
    }

    /// How long to wait for what has to come.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.shared.setup.how_patient()
    }

    /// Times for tests: short intervals, so that nothing takes long, and generous time-outs, so that a busy machine is no failure.
    #[must_use]
    pub fn config(&self) -> NodeConfig {
        NodeConfig {
            engine: EngineConfig {
                heartbeat_interval: Duration::from_millis(300),
                heartbeat_timeout: Duration::from_secs(10),
                gap_grace: Duration::from_millis(500),
                count_interval: Duration::from_millis(50),
                ..EngineConfig::default()
            },
            request_timeout: self.patience() * 3 / 4,
            leave_timeout: (self.patience() / 4).min(NodeConfig::default().leave_timeout),
            ..NodeConfig::default()
        }
    }

    /// Runs an attempt that has to see a time-out pass, and everything else that comes arrive before it. A short one is enough most of
    /// the time; an attempt that fails is repeated with a longer one, so that a busy machine is no failure.
    pub async fn with_growing_time_outs<A>(&self, attempt: impl Fn(Duration) -> A) -> Checked
    where
        A: Future<Output = Checked>,
    {
        for divisor in [80, 20, 5] {
            if attempt(self.patience() / divisor).await.is_ok() {
                return Ok(());
            }
        }
        attempt(self.patience() / 2).await
    }

    /// `full`, or less in runs that are scaled down, but at least `least`.
    #[must_use]
    pub fn scaled(&self, full: usize, least: usize) -> usize {
        (full / self.shared.setup.scale()).max(least)
    }

    /// `bytes`, or less if the transport takes no message of that size.
    pub async fn allowed(&self, bytes: usize) -> Checked<usize> {
        const ENVELOPE: usize = 4096;
        let limit = self.capabilities().await?.max_message_bytes.unwrap_or(usize::MAX);
        Ok(bytes.min(limit.saturating_sub(ENVELOPE)))
    }

    /// As [`TestCluster::allowed`], or less in runs that are scaled down.
    pub async fn big(&self, bytes: usize) -> Checked<usize> {
        self.allowed(self.scaled(bytes, 1)).await
    }

    /// A new backend, with connections of its own.
    pub async fn backend(&self) -> Checked<Backend> {
        let spare = lock(&self.shared.spare).take();
        match spare {
            Some(backend) => Ok(backend),
            None => self.connect().await,
        }
    }

    async fn connect(&self) -> Checked<Backend> {
        let backend = self.connect_apart().await?;
        self.remember(&backend);
        Ok(backend)
    }

    /// For a node with a process of its own, with which its connections end.
    async fn connect_apart(&self) -> Checked<Backend> {
        Ok(self.shared.setup.connect(self.shared.name.clone()).await?)
    }

    fn remember(&self, backend: &Backend) {
        lock(&self.shared.transports).push(Arc::downgrade(&backend.transport));
    }

    /// What backend and server can do.
    pub async fn abilities(&self) -> Checked<Abilities> {
        let backend = self.backend().await?;
        let local: LocalAbilities = self.shared.setup.make_server().local().abilities();
        let abilities = Abilities::of(&backend, local);
        *lock(&self.shared.spare) = Some(backend);
        Ok(abilities)
    }

    /// What the backend promises.
    pub async fn capabilities(&self) -> Checked<Capabilities> {
        Ok(self.abilities().await?.capabilities)
    }

    /// A node of the namespace `/`.
    pub async fn node(&self) -> Checked<TestNode> {
        self.build().join().await
    }

    /// Nodes of the namespace `/` that know each other.
    pub async fn nodes<const N: usize>(&self) -> Checked<[TestNode; N]> {
        self.build().join_several().await
    }

    /// A node with options.
    #[must_use]
    pub fn build(&self) -> NodeBuilder {
        NodeBuilder {
            cluster: self.clone(),
            namespace: Namespace::new("/"),
            config: self.config(),
            backend: None,
            home: Home::Test,
        }
    }

    /// An emitter into the namespace `/`, with connections of its own.
    pub async fn emitter(&self) -> Checked<TestEmitter> {
        let backend = self.connect().await?;
        Ok(TestEmitter::new(Emitter::new(&backend), backend, Arc::clone(&self.shared.roster)))
    }

    /// What went wrong at its nodes that are gone, and at those of clusters beside it, in their own counters; empty if nothing did.
    pub(crate) fn troubles(&self) -> String {
        lock(&self.shared.roster.troubles).join("; ")
    }

    /// Closes all transports that are still there, and waits for them for a while.
    pub async fn close(&self) {
        lock(&self.shared.spare).take();
        let transports = std::mem::take(&mut *lock(&self.shared.transports));
        // Whether closing works is for cases to tell.
        let closing = transports.iter().filter_map(Weak::upgrade).map(|transport| async move {
            let _ = timeout(self.patience() / 4, transport.close()).await;
        });
        join_all(closing).await;
    }
}

/// A test node before it has joined.
#[derive(Clone, Debug)]
pub struct NodeBuilder {
    cluster: TestCluster,
    namespace: Namespace,
    config: NodeConfig,
    backend: Option<Backend>,
    home: Home,
}

/// Where a node lives.
#[derive(Clone, Debug)]
enum Home {
    /// In the test's own runtime.
    Test,
    /// In a process that is still to start.
    New,
    /// In the process of another node.
    With(Arc<Process>),
}

impl NodeBuilder {
    /// Joins this namespace instead of `/`.
    #[must_use]
    pub fn namespace(mut self, namespace: &str) -> Self {
        self.namespace = Namespace::new(namespace);
        self
    }

    /// Times and bounds; by default those of [`TestCluster::config`].
    #[must_use]
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.config = config;
        self
    }

    /// Lives with another node and uses its connections, as several namespaces of one process do.
    #[must_use]
    pub fn sharing(mut self, node: &TestNode) -> Self {
        self.backend = Some(node.backend().clone());
        self.home = node.process().map_or(Home::Test, Home::With);
        self
    }

    /// Notices the silence of other nodes soon, after at most 2.5 s, for tests in which nodes die.
    #[must_use]
    pub fn mortal(mut self) -> Self {
        let silence = (self.cluster.patience() / 8).min(Duration::from_millis(2500));
        self.config.engine.heartbeat_interval = silence / 12;
        self.config.engine.heartbeat_timeout = silence;
        self
    }

    /// Uses this backend.
    #[must_use]
    pub fn over(mut self, backend: Backend) -> Self {
        self.cluster.remember(&backend);
        self.backend = Some(backend);
        self
    }

    /// Lives in a thread and runtime of its own, so that it can be killed and frozen.
    #[must_use]
    pub fn own_process(mut self) -> Self {
        self.home = Home::New;
        self
    }

    /// Joins.
    pub async fn join(self) -> Checked<TestNode> {
        let server = self.cluster.shared.setup.make_server();
        let observer = Arc::new(Observer::new(server.local()));
        let process = match &self.home {
            Home::Test => None,
            Home::New => Some(Arc::new(Process::start()?)),
            Home::With(process) => Some(Arc::clone(process)),
        };
        let joining = self.clone().connect_and_join(Arc::clone(&observer));
        let (cluster, backend) = match &process {
            Some(process) => process.run(joining).await??,
            None => joining.await?,
        };
        let seat = Arc::new(Seat::new(self.namespace, observer, self.cluster.patience()));
        let roster = Arc::clone(&self.cluster.shared.roster);
        roster.add(Arc::clone(&seat));
        Ok(TestNode::new(cluster, backend, server, process, seat, roster))
    }

    async fn connect_and_join(self, observer: Arc<Observer>) -> Checked<(ClusterNode, Backend)> {
        let backend = match (self.backend, &self.home) {
            (Some(backend), _) => backend,
            (None, Home::Test) => self.cluster.backend().await?,
            (None, _) => self.cluster.connect_apart().await?,
        };
        let local: Arc<dyn trunkline_core::Local> = observer;
        let cluster = ClusterNode::join(backend.clone(), self.namespace, Arc::downgrade(&local), self.config).await?;
        Ok((cluster, backend))
    }

    /// Joins several nodes, and waits until they know each other.
    pub async fn join_several<const N: usize>(self) -> Checked<[TestNode; N]> {
        let nodes = self.join_many(N).await?;
        <[TestNode; N]>::try_from(nodes).map_err(|_| Failure::new("another number of nodes joined"))
    }

    /// As [`NodeBuilder::join_several`], with a number that is known only at run time.
    pub async fn join_many(self, count: usize) -> Checked<Vec<TestNode>> {
        let mut nodes = Vec::new();
        for _ in 0..count {
            nodes.push(self.clone().join().await?);
        }
        for node in &nodes {
            node.await_peers(count - 1, self.cluster.patience()).await?;
        }
        Ok(nodes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
