//! The state that all namespaces of a server share: the handle that the application keeps.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use trunkline_core::{Backend, Error, ErrorKind, Namespace, NodeConfig, Result};

use crate::{
    handle::{Handle, Opened},
    handlers::{Handlers, ServerSideAnswer, ServerSideEvent},
    lanes::BacklogLimits,
};

/// A server's way into its cluster: give a clone to `with_adapter`, keep another.
///
/// One value serves one `SocketIo` with all its namespaces; a second server in the same process takes a value of its own, made from a
/// clone of the backend. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    backend: Backend,
    settings: Settings,
    namespaces: Mutex<HashMap<Namespace, Entry>>,
}

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) cluster: NodeConfig,
    pub(crate) backlog: BacklogLimits,
    pub(crate) paced_sockets: usize,
    pub(crate) append_offsets: bool,
    pub(crate) reconcile_every: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: NodeConfig::default(),
            backlog: BacklogLimits::default(),
            paced_sockets: 64,
            append_offsets: true,
            reconcile_every: Duration::from_secs(1),
        }
    }
}

/// What is known of a namespace, open or not.
#[derive(Default)]
struct Entry {
    handlers: Arc<Handlers>,
    opened: Weak<Opened>,
}

impl From<Backend> for Cluster {
    fn from(backend: Backend) -> Self {
        Self::builder(backend).build()
    }
}

impl Cluster {
    /// A cluster over `backend` whose times and bounds can be set.
    pub fn builder(backend: Backend) -> ClusterBuilder {
        ClusterBuilder { backend, settings: Settings::default() }
    }

    /// The open namespace of this name: server-side events, peers, counters and what else socketioxide has no call for.
    ///
    /// # Errors
    /// `Closed` if this server has not opened the namespace, or has closed it.
    pub fn of(&self, namespace: &str) -> Result<Handle> {
        let namespace = Namespace::new(namespace);
        let opened = self.namespaces().get(&namespace).and_then(|entry| entry.opened.upgrade());
        match opened {
            Some(opened) if !opened.is_closed() => Ok(Handle::new(opened)),
            _ => Err(Error::new(ErrorKind::Closed, format!("namespace {namespace} is not open on this server"))),
        }
    }

    /// Registers the handler of a server-side event of a namespace, which need not be open yet: so nothing can arrive before its handler
    /// is there. One handler per event; a later one takes its place. An event without a handler answers `undefined` at once.
    pub fn on_server_side_event<F, Fut>(&self, namespace: &str, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<ServerSideAnswer>> + Send + 'static,
    {
        self.handlers(&Namespace::new(namespace)).set(event, handler);
    }

    pub(crate) fn backend(&self) -> Backend {
        self.0.backend.clone()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.0.settings
    }

    pub(crate) fn handlers(&self, namespace: &Namespace) -> Arc<Handlers> {
        Arc::clone(&self.namespaces().entry(namespace.clone()).or_default().handlers)
    }

    /// A namespace has been opened, perhaps again.
    pub(crate) fn opened(&self, namespace: &Namespace, opened: &Arc<Opened>) {
        let before = {
            let mut namespaces = self.namespaces();
            std::mem::replace(&mut namespaces.entry(namespace.clone()).or_default().opened, Arc::downgrade(opened))
        };
        if let Some(before) = before.upgrade() {
            before.supersede();
        }
    }

    fn namespaces(&self) -> MutexGuard<'_, HashMap<Namespace, Entry>> {
        // The map is valid after each step.
        self.0.namespaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("backend", &self.0.backend).finish_non_exhaustive()
    }
}

/// Sets the times and bounds of a [`Cluster`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    backend: Backend,
    settings: Settings,
}

impl ClusterBuilder {
    /// Times and bounds of the protocol.
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.settings.cluster = config;
        self
    }

    /// How much may wait for sockets whose buffers are full.
    pub fn backlog(mut self, limits: BacklogLimits) -> Self {
        self.settings.backlog = limits;
        self
    }

    /// Up to how many matching sockets a packet is handed to each one by itself: what does not fit into a buffer then waits. It is encoded
    /// for each of them. Beyond this number it is encoded once, and lost for sockets whose buffer is full just then. Default 64.
    pub fn paced_sockets(mut self, count: usize) -> Self {
        self.settings.paced_sockets = count;
        self
    }

    /// Whether events carry their place in the history as last argument, so that a client can say what it has seen. On by default, as on
    /// Node.js servers with connection state recovery; without history in the backend there is nothing to append.
    pub fn append_offsets(mut self, append: bool) -> Self {
        self.settings.append_offsets = append;
        self
    }

    /// How often the broker is told about rooms that sockets have joined or left without an awaited join, where it sends messages only where
    /// a room has members. Default 1 s.
    pub fn reconcile_every(mut self, every: Duration) -> Self {
        self.settings.reconcile_every = every;
        self
    }

    /// The cluster.
    #[must_use]
    pub fn build(self) -> Cluster {
        let Self { backend, settings } = self;
        Cluster(Arc::new(Shared { backend, settings, namespaces: Mutex::default() }))
    }
}
