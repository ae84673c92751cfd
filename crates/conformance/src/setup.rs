//! What the suite has to know of a backend: how to connect to it.

use std::{fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use trunkline_core::{Backend, Result};

use crate::kit::{RoomServer, Server};

type Connect = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Backend>> + Send + Sync>;
type MakeServer = Arc<dyn Fn() -> Arc<dyn Server> + Send + Sync>;

/// How to reach the broker under test.
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
    limited: Option<Connect>,
    server: MakeServer,
    patience: Duration,
    scale: usize,
}

impl Setup {
    /// `connect` makes a backend, as one process of the cluster with this name would: with connections of its own. Called several times
    /// with one name, the backends form one cluster; clusters of different names, even if one name begins with the other, do not hear
    /// each other. A name is a letter followed by at most 15 lower-case letters and digits, and never used twice.
    ///
    /// It is called within the Tokio runtime in which the node lives, which is not always the same: connections must not be shared.
    #[must_use]
    pub fn new<F, C>(connect: F) -> Self
    where
        F: Fn(String) -> C + Send + Sync + 'static,
        C: Future<Output = Result<Backend>> + Send + 'static,
    {
        Self {
            connect: boxed(connect),
            limited: None,
            server: Arc::new(|| Arc::new(RoomServer::default())),
            patience: Duration::from_secs(20),
            scale: 1,
        }
    }

    /// The same with a history that forgets soon: sessions after at most one second, and messages when a few thousand small ones have
    /// followed. Without it a backend with history does not pass.
    #[must_use]
    pub fn limited_history<F, C>(mut self, connect: F) -> Self
    where
        F: Fn(String) -> C + Send + Sync + 'static,
        C: Future<Output = Result<Backend>> + Send + 'static,
    {
        self.limited = Some(boxed(connect));
        self
    }

    /// Another server than [`RoomServer`], to test its `Local`.
    #[must_use]
    pub fn server<S: Server>(mut self, make: impl Fn() -> S + Send + Sync + 'static) -> Self {
        self.server = Arc::new(move || Arc::new(make()));
        self
    }

    /// How long to wait for what has to come, 20 s by default. Only failures take that long.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Divides the numbers of messages and nodes of the big cases, for runs that are many.
    #[must_use]
    pub fn scaled_down_by(mut self, factor: usize) -> Self {
        self.scale = factor.max(1);
        self
    }

    /// The same with every transport changed, for example wrapped.
    #[must_use]
    pub fn map(mut self, change: impl Fn(Backend) -> Backend + Send + Sync + 'static) -> Self {
        let change = Arc::new(change);
        self.connect = mapped(&self.connect, &change);
        self.limited = self.limited.as_ref().map(|limited| mapped(limited, &change));
        self
    }

    pub(crate) fn connect(&self, cluster: String) -> BoxFuture<'static, Result<Backend>> {
        (self.connect)(cluster)
    }

    /// The setup of clusters whose history forgets soon.
    pub(crate) fn limited(&self) -> Option<Self> {
        self.limited.clone().map(|connect| Self { connect, ..self.clone() })
    }

    pub(crate) fn make_server(&self) -> Arc<dyn Server> {
        (self.server)()
    }

    pub(crate) fn how_patient(&self) -> Duration {
        self.patience
    }

    pub(crate) fn scale(&self) -> usize {
        self.scale
    }
}

impl fmt::Debug for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Setup").field("patience", &self.patience).field("scale", &self.scale).finish_non_exhaustive()
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
