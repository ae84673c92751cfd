//! How the suite connects to a backend.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use trunkline_core::{Backend, Result};

use super::server::{RoomServer, Server};

type Connect = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Backend>> + Send + Sync>;
type MakeServer = Arc<dyn Fn() -> Arc<dyn Server> + Send + Sync>;

/// Configuration of a test run: how to connect to the backend, which server to put under it, how long to wait.
///
/// ```
/// use trunkline_conformance::Setup;
/// use trunkline_core::memory::{self, MemoryConfig};
///
/// let setup = Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) });
/// ```
#[derive(Clone)]
pub struct Setup {
    connect: Connect,
    connect_with_limited_history: Option<Connect>,
    make_server: MakeServer,
    timeout: Duration,
    scale: usize,
}

impl Setup {
    /// Creates a setup from a function that connects a backend.
    ///
    /// `connect` returns a new backend with connections of its own, as one process of the cluster with the given name
    /// has them. Backends of one name form one cluster. Clusters of different names must not receive each other's
    /// messages, even if one name is a prefix of the other. A name is a letter followed by at most 15 lower-case
    /// letters and digits, and is never used twice.
    ///
    /// `connect` is called within the Tokio runtime of the node, which is not the same for all nodes: connections must
    /// not be shared.
    #[must_use]
    pub fn new<F, C>(connect: F) -> Self
    where
        F: Fn(String) -> C + Send + Sync + 'static,
        C: Future<Output = Result<Backend>> + Send + 'static,
    {
        Self {
            connect: boxed(connect),
            connect_with_limited_history: None,
            make_server: Arc::new(|| Arc::new(RoomServer::default())),
            timeout: Duration::from_secs(20),
            scale: 1,
        }
    }

    /// Adds a second way to connect, to a history that is short: sessions expire after at most one second, and messages
    /// are trimmed when a few thousand small ones have followed. A backend with history does not pass without it.
    #[must_use]
    pub fn limited_history<F, C>(mut self, connect: F) -> Self
    where
        F: Fn(String) -> C + Send + Sync + 'static,
        C: Future<Output = Result<Backend>> + Send + 'static,
    {
        self.connect_with_limited_history = Some(boxed(connect));
        self
    }

    /// Puts another server than [`RoomServer`] under the nodes, to test its `Local`.
    #[must_use]
    pub fn server<S: Server>(mut self, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        self.make_server = Arc::new(move || Arc::new(make()));
        self
    }

    /// Sets how long a case waits for something that must happen, 20 s by default. Only failing cases take that long.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Divides the numbers of messages and nodes of the big cases by `factor`, for suites that run in many variants.
    #[must_use]
    pub fn scaled_down_by(mut self, factor: usize) -> Self {
        self.scale = factor.max(1);
        self
    }

    /// Applies `change` to every backend after it is connected, for example to wrap its transport.
    #[must_use]
    pub fn map(mut self, change: impl Fn(Backend) -> Backend + Send + Sync + 'static) -> Self {
        let change = Arc::new(change);
        self.connect = mapped(&self.connect, &change);
        self.connect_with_limited_history =
            self.connect_with_limited_history.as_ref().map(|connect| mapped(connect, &change));
        self
    }

    pub(super) fn connect(&self, cluster: String) -> BoxFuture<'static, Result<Backend>> {
        (self.connect)(cluster)
    }

    /// The same setup, connecting to the limited history.
    pub(super) fn with_limited_history(&self) -> Option<Self> {
        self.connect_with_limited_history.clone().map(|connect| Self { connect, ..self.clone() })
    }

    pub(super) fn make_server(&self) -> Arc<dyn Server> {
        (self.make_server)()
    }

    pub(super) fn wait_timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn scale(&self) -> usize {
        self.scale
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("timeout", &self.timeout).field("scale", &self.scale).finish_non_exhaustive()
    }
}

fn boxed<F, C>(connect: F) -> Connect
where
    F: Fn(String) -> C + Send + Sync + 'static,
    C: Future<Output = Result<Backend>> + Send + 'static,
{
    Arc::new(move |cluster| Box::pin(connect(cluster)))
}

fn mapped<F: Fn(Backend) -> Backend + Send + Sync + 'static>(connect: &Connect, change: &Arc<F>) -> Connect {
    let (connect, change) = (Arc::clone(connect), Arc::clone(change));
    Arc::new(move |cluster| {
        let (connecting, change) = (connect(cluster), Arc::clone(&change));
        Box::pin(async move { Ok(change(connecting.await?)) })
    })
}
