//! The membership of a server, with all its namespaces, in its cluster.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use socketioxide_core::Sid;
use trunkline_core::{Backend, Emitter, Error, ErrorKind, Namespace, NodeConfig, Payload, Result, transport::Health};

use crate::{
    adapter::ClusterIo,
    backlog::BacklogLimits,
    details::with_connection,
    dynamic::{Dynamic, DynamicNamespaces},
    handle::NamespaceHandle,
    handlers::{Handlers, ServerSideAnswer, ServerSideEvent},
    handshake::Handshake,
    namespace::OpenNamespace,
    patterns,
};

/// The membership of one `SocketIo` server in a cluster: a clone goes to `with_adapter`, another stays with the
/// application.
///
/// Each namespace that the server opens is a node of the cluster. A second server in the same process takes a `Cluster`
/// of its own, made from a clone of the backend. Cheap to clone.
#[derive(Clone)]
pub struct Cluster(Arc<Shared>);

struct Shared {
    backend: Backend,
    settings: Settings,
    patterns: Vec<&'static str>,
    entries: Mutex<HashMap<Namespace, Entry>>,
    server: Mutex<Option<ClusterIo>>,
    shows_connections: AtomicBool,
    dynamic: Arc<DynamicNamespaces>,
}

/// What a [`ClusterBuilder`] sets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) cluster: NodeConfig,
    pub(crate) backlog: BacklogLimits,
    pub(crate) paced_sockets: usize,
    pub(crate) append_offsets: bool,
    pub(crate) reconcile_every: Duration,
    pub(crate) marks: Option<(&'static str, Duration)>,
    pub(crate) ready_grace: Duration,
    pub(crate) empty_for: Duration,
    pub(crate) max_dynamic_namespaces: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster: NodeConfig::default(),
            backlog: BacklogLimits::default(),
            paced_sockets: 64,
            append_offsets: false,
            reconcile_every: Duration::from_secs(1),
            marks: None,
            ready_grace: Duration::from_secs(10),
            empty_for: Duration::from_secs(30),
            max_dynamic_namespaces: 4096,
        }
    }
}

/// The handlers of a namespace, open or not, and the namespace if it is open.
#[derive(Default)]
struct Entry {
    handlers: Arc<Handlers>,
    open: Weak<OpenNamespace>,
    /// A dynamic one, open or not.
    dynamic: Option<Weak<dyn Dynamic>>,
}

impl Entry {
    fn new(handlers: &Arc<Handlers>) -> Self {
        Self { handlers: Arc::clone(handlers), ..Self::default() }
    }

    fn is_dynamic(&self) -> bool {
        self.dynamic.as_ref().is_some_and(|dynamic| dynamic.strong_count() > 0)
    }

    fn handle(&self) -> Option<NamespaceHandle> {
        let open = self.open.upgrade().filter(|namespace| !namespace.is_closed());
        open.map(NamespaceHandle::new)
    }
}

impl From<Backend> for Cluster {
    fn from(backend: Backend) -> Self {
        Self::builder(backend).build()
    }
}

impl Cluster {
    /// Sets times and bounds before the cluster is built.
    pub fn builder(backend: Backend) -> ClusterBuilder {
        ClusterBuilder { backend, settings: Settings::default(), patterns: Vec::new() }
    }

    /// Lets other nodes see the handshakes of the server's sockets: headers, URL, query and address of their requests. An
    /// adapter cannot look into sockets by itself. Call it once, with what `build_layer` returns; without it other nodes see
    /// handshakes without values, unless [`NamespaceHandle::set_handshake`] sets one.
    ///
    /// The server is kept until its last namespace or the cluster is closed: end it by `io.close()` or [`Cluster::close`],
    /// since dropping it does not.
    pub fn attach(&self, io: &ClusterIo) {
        *self.server() = Some(io.clone());
    }

    /// The handshake of a socket's request, if the server is attached and has the socket.
    pub(crate) fn handshake(&self, namespace: &str, socket: Sid) -> Option<Payload> {
        let io = self.server().clone()?;
        let socket = io.of(namespace)?.get_socket(socket)?;
        Handshake::of(&socket).payload().ok()
    }

    /// Adds the client's id and transport, as `_admin`, to the data that other nodes get of the sockets of an attached
    /// server. So do Node.js servers with `instrument()` of the admin UI in development mode, and they show what others add.
    pub fn show_connections(&self) {
        self.0.shows_connections.store(true, Ordering::Relaxed);
    }

    /// The data of a socket, with its connection if connections are shown.
    pub(crate) fn with_connection(&self, namespace: &str, socket: Sid, data: Payload) -> Payload {
        if !self.0.shows_connections.load(Ordering::Relaxed) {
            return data;
        }
        let Some(io) = self.server().clone() else { return data };
        match io.of(namespace).and_then(|namespace| namespace.get_socket(socket)) {
            Some(socket) => with_connection(&data, &socket).unwrap_or(data),
            None => data,
        }
    }

    /// An emitter into the same cluster, for namespaces that this server has not opened.
    #[must_use]
    pub fn emitter(&self) -> Emitter {
        Emitter::new(&self.0.backend)
    }

    /// Lets go of the server when no namespace is open any more: each would keep the other for ever.
    pub(crate) fn detach_if_closed(&self) {
        if self.namespaces().is_empty() {
            // Dropped without the lock: it may be the last one.
            let server = self.server().take();
            drop(server);
        }
    }

    fn server(&self) -> MutexGuard<'_, Option<ClusterIo>> {
        self.0.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handle of an open namespace, for what socketioxide has no call for: server-side events, replay, peers,
    /// metrics and more.
    ///
    /// # Errors
    /// `Closed` if this server has not opened the namespace, or has closed it, and if it is a dynamic one that has left the
    /// cluster: see [`Cluster::join`].
    pub fn of(&self, namespace: &str) -> Result<NamespaceHandle> {
        let namespace = Namespace::new(namespace);
        let entries = self.entries();
        let entry = entries.get(&namespace);
        entry.and_then(Entry::handle).ok_or_else(|| {
            Error::new(
                ErrorKind::Closed,
                match entry.is_some_and(Entry::is_dynamic) {
                    true => format!("dynamic namespace {namespace} has left while it was empty; `join` opens it again"),
                    false => format!("namespace {namespace} is not open on this server"),
                },
            )
        })
    }

    /// The handle of a namespace of this server. A dynamic namespace that has left the cluster, because no client was in
    /// it, joins again first. As a connect middleware of a dynamic namespace it refuses clients beyond the
    /// [limit](ClusterBuilder::max_dynamic_namespaces) with an error, and connects the others when they hear the cluster:
    ///
    /// ```
    /// # use socketioxide::handler::ConnectHandler;
    /// # use trunkline_socketioxide::{Cluster, ClusterIo, ClusterSocket};
    /// # fn example(io: ClusterIo, cluster: Cluster) -> Result<(), Box<dyn std::error::Error>> {
    /// let open = async move |socket: ClusterSocket| cluster.join(socket.ns()).await.map(drop);
    /// let connected = async |socket: ClusterSocket| socket.join("lobby");
    /// io.dyn_ns("/tenant-{name}", connected.with(open))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Closed` if this server has no such namespace or has left the cluster, `Limit` if too many dynamic ones are in use,
    /// or what the broker says.
    pub async fn join(&self, namespace: &str) -> Result<NamespaceHandle> {
        let name = Namespace::new(namespace);
        let dynamic = self.entries().get(&name).and_then(|entry| entry.dynamic.as_ref()?.upgrade());
        let Some(dynamic) = dynamic else { return self.of(namespace) };
        dynamic.join_again().await.map(NamespaceHandle::new)
    }

    /// The names of the dynamic namespaces that are not in the cluster because no client is in them. What socketioxide
    /// keeps of one, 2 to 3 KB, is freed by `io.delete_ns(…)`.
    #[must_use]
    pub fn empty_namespaces(&self) -> Vec<String> {
        let is_empty = |entry: &Entry| entry.is_dynamic() && entry.handle().is_none();
        self.entries().iter().filter(|(_, entry)| is_empty(entry)).map(|(name, _)| name.to_string()).collect()
    }

    /// The handles of all open namespaces of this server, in no particular order.
    #[must_use]
    pub fn namespaces(&self) -> Vec<NamespaceHandle> {
        self.entries().values().filter_map(Entry::handle).collect()
    }

    /// State of the connection to the broker, also before a namespace is open; and, as
    /// [`degraded`](Health::degraded), whether clients were refused within the last minute because too many dynamic
    /// namespaces are in use.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = self.0.backend.transport.health();
        health.degraded.extend(self.0.dynamic.fault());
        health
    }

    /// Registers the handler of a server-side event of a namespace, open or not. Registered before the namespace is
    /// opened, it misses no event. There is one handler per event: a later one replaces it. An event without a handler
    /// is answered with `undefined` at once.
    pub fn on_server_side_event<F, Fut>(&self, namespace: &str, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<ServerSideAnswer>> + Send + 'static,
    {
        self.handlers(&Namespace::new(namespace)).set(event, handler);
    }

    /// Begins to leave the cluster in all open namespaces, at once and from any thread. Clients stay connected to this
    /// server, where operations on the cluster fail with `Closed` from now on; `io.close()` disconnects them and leaves
    /// the cluster too. The connection to the broker stays open for other users of the backend.
    pub fn close(&self) {
        self.0.dynamic.close();
        self.namespaces().iter().for_each(NamespaceHandle::close);
        self.detach_if_closed();
    }

    /// Waits until the nodes of all namespaces that have been opened have left the cluster and all their tasks have
    /// ended.
    pub async fn closed(&self) {
        let namespaces: Vec<_> = self.entries().values().filter_map(|entry| entry.open.upgrade()).collect();
        for namespace in namespaces {
            namespace.closed().await;
        }
        self.0.dynamic.closed().await;
    }

    pub(crate) fn backend(&self) -> Backend {
        self.0.backend.clone()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.0.settings
    }

    /// The pattern of a dynamic namespace, if the application has told it.
    pub(crate) fn pattern_of(&self, namespace: &Namespace) -> Option<&'static str> {
        self.0.patterns.iter().copied().find(|pattern| patterns::matches(pattern, namespace.as_str()))
    }

    pub(crate) fn dynamic(&self) -> &Arc<DynamicNamespaces> {
        &self.0.dynamic
    }

    /// Registers a namespace that a client has named.
    pub(crate) fn named(&self, namespace: &Namespace, handlers: &Arc<Handlers>, dynamic: Weak<dyn Dynamic>) {
        self.entries().entry(namespace.clone()).or_insert_with(|| Entry::new(handlers)).dynamic = Some(dynamic);
    }

    /// Forgets a namespace that was dropped, unless its name is in use again or has handlers.
    pub(crate) fn dropped(&self, namespace: &Namespace) {
        let is_over = |entry: &Entry| !entry.is_dynamic() && entry.handle().is_none() && entry.handlers.is_empty();
        let mut entries = self.entries();
        if entries.get(namespace).is_some_and(is_over) {
            entries.remove(namespace);
        }
    }

    pub(crate) fn handlers(&self, namespace: &Namespace) -> Arc<Handlers> {
        Arc::clone(&self.entries().entry(namespace.clone()).or_default().handlers)
    }

    /// Registers a namespace that has been opened, perhaps for the second time.
    pub(crate) fn opened(&self, namespace: &Namespace, open: &Arc<OpenNamespace>) {
        let before = {
            let mut entries = self.entries();
            let entry = entries.entry(namespace.clone()).or_insert_with(|| Entry::new(&open.handlers));
            std::mem::replace(&mut entry.open, Arc::downgrade(open))
        };
        if let Some(before) = before.upgrade() {
            before.supersede();
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Namespace, Entry>> {
        // The map is valid after each step.
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("backend", &self.0.backend).finish_non_exhaustive()
    }
}

/// Builds a [`Cluster`] with its own times and bounds.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    backend: Backend,
    settings: Settings,
    patterns: Vec<&'static str>,
}

impl ClusterBuilder {
    /// Times and bounds of the cluster protocol: heartbeats, time-outs, pending requests.
    pub fn config(mut self, config: NodeConfig) -> Self {
        self.settings.cluster = config;
        self
    }

    /// How much may wait for sockets whose buffers are full; see [`BacklogLimits`].
    pub fn backlog(mut self, limits: BacklogLimits) -> Self {
        self.settings.backlog = limits;
        self
    }

    /// The largest number of matching sockets that are served one by one, each from its backlog if its buffer is full.
    /// A packet for more sockets is encoded once for all of them, and lost for those whose buffer is full. Default 64.
    pub fn paced_sockets(mut self, count: usize) -> Self {
        self.settings.paced_sockets = count;
        self
    }

    /// Whether broadcast events carry their offset in the history as last argument, for clients that reconnect and ask
    /// for what they missed. Off by default, so that the arguments of an event do not depend on the backend; without
    /// history in the backend there is nothing to append.
    pub fn append_offsets(mut self, append: bool) -> Self {
        self.settings.append_offsets = append;
        self
    }

    /// Sends every client an event with the present offset as its only argument, about every `every`, so that one to
    /// which nothing else is sent still knows how far it is. Choose a time well below that for which the history keeps
    /// messages. Off by default, and without effect where the backend has no history.
    pub fn marks(mut self, event: &'static str, every: Duration) -> Self {
        self.settings.marks = Some((event, every));
        self
    }

    /// The interval at which rooms that sockets have joined or left without an awaited call are reported to a broker
    /// that routes by room. Default 1 s.
    pub fn reconcile_every(mut self, every: Duration) -> Self {
        self.settings.reconcile_every = every;
        self
    }

    /// A pattern of dynamic namespaces, as given to `io.dyn_ns`: `/dynamic/{name}`. It is the label `namespace` of the
    /// metrics of all namespaces that match it. Namespaces that match several get the first.
    pub fn namespace_pattern(mut self, pattern: &'static str) -> Self {
        self.patterns.push(pattern);
        self
    }

    /// How long this server counts as [ready](Cluster::readyz) after the connection to the broker was lost: its clients
    /// are served meanwhile, and what is sent to others is held. Default 10 s.
    pub fn ready_grace(mut self, grace: Duration) -> Self {
        self.settings.ready_grace = grace;
        self
    }

    /// How long a dynamic namespace is empty before it leaves the cluster. It joins again with its next client, or the
    /// next operation on it. Default 30 s.
    pub fn close_empty_after(mut self, time: Duration) -> Self {
        self.settings.empty_for = time;
        self
    }

    /// How many dynamic namespaces may be in the cluster at a time. Clients that name further ones are disconnected; see
    /// [`Cluster::join`]. Default 4,096.
    pub fn max_dynamic_namespaces(mut self, count: usize) -> Self {
        self.settings.max_dynamic_namespaces = count;
        self
    }

    /// Builds the cluster.
    #[must_use]
    pub fn build(self) -> Cluster {
        let Self { backend, settings, patterns } = self;
        let dynamic = Arc::new(DynamicNamespaces::new(settings.empty_for, settings.max_dynamic_namespaces));
        Cluster(Arc::new(Shared {
            backend,
            settings,
            patterns,
            entries: Mutex::default(),
            server: Mutex::default(),
            shows_connections: AtomicBool::new(false),
            dynamic,
        }))
    }
}
