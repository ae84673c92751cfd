//! The page's namespace.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use serde_json::{Value, json};
use socketioxide::{extract::TryData, handler::ConnectHandler, socket::Socket};
use tokio::{
    select,
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval},
};
use trunkline_socketioxide::{
    Cluster, ClusterIo, ClusterSocket, NamespaceHandle, Payload, RequestError, Result, SocketIoError, Target, Trunkline,
};

use crate::{
    auth::{Credentials, Gate, NewSession},
    commands,
    config::AdminConfig,
    looking::{Known, Shown},
    shown::{shown, value},
    stats::Counter,
    time::timestamp,
    watched::WatchedSocket,
    watchers::{EVENT, Watchers},
};

/// Opens the namespace of the official admin page, `@socket.io/admin-ui`, on this server.
///
/// The page shows all servers of the cluster on which it is open, those of Node.js with `instrument()` included. It ends
/// with the server (`io.close()`) or the cluster. The server is attached to the cluster
/// ([`Cluster::attach`]).
///
/// # Errors
/// As of opening any namespace; `Config` if the configuration cannot be used.
pub async fn admin(io: &ClusterIo, cluster: &Cluster, config: AdminConfig) -> Result<Admin, SocketIoError> {
    let gate = Arc::new(Gate::new(&config)?);
    let hostname = gethostname::gethostname().to_string_lossy().into_owned();
    let server_id = config.server_id.clone().unwrap_or_else(|| unique(&hostname));
    cluster.attach(io);
    if config.development {
        cluster.show_connections();
    }
    let (events, told) = mpsc::channel(MAX_EVENTS);
    let admin = Admin(Arc::new(Shared {
        server_id: server_id.clone(),
        io: Mutex::new(Some(io.clone())),
        cluster: cluster.clone(),
        namespace: config.namespace.clone(),
        is_development: config.development,
        is_writable: config.writable,
        max_sockets: config.max_sockets,
        known: Mutex::new(Known::new(config.max_sockets)),
        events,
        watchers: Watchers::new(),
    }));
    let listening = admin.clone();
    cluster.on_server_side_event(&config.namespace, EVENT, move |event| {
        let admin = listening.clone();
        async move {
            if let Ok(handle) = admin.handle() {
                admin.0.watchers.heard(&handle, event).await;
            }
        }
    });
    let connected = {
        let admin = admin.clone();
        async move |socket: ClusterSocket| admin.page_connected(&socket).await
    };
    let admitted = async move |socket: ClusterSocket, TryData(credentials): TryData<Credentials>| {
        if let Some(session) = gate.admit(credentials.unwrap_or_default()).await? {
            socket.extensions.insert(session);
        }
        Ok::<_, crate::auth::InvalidCredentials>(())
    };
    io.ns(config.namespace, connected.with(admitted)).await?;
    let handle = admin.handle()?;
    let publisher =
        Publisher { admin: admin.clone(), handle, counter: Counter::new(server_id, hostname), counted: None };
    tokio::spawn(publisher.run(told));
    Ok(admin)
}

/// The admin page's side of a server. Cheap to clone.
#[derive(Clone)]
pub struct Admin(Arc<Shared>);

struct Shared {
    server_id: String,
    /// Until the namespace is closed: the server holds this, and this the server.
    io: Mutex<Option<ClusterIo>>,
    cluster: Cluster,
    namespace: String,
    is_development: bool,
    is_writable: bool,
    max_sockets: usize,
    known: Mutex<Known>,
    /// What handlers have to tell, in order: filled under the lock of `known`.
    events: mpsc::Sender<Shown>,
    watchers: Watchers,
}

impl Admin {
    /// The name under which the page lists this server.
    #[must_use]
    pub fn server_id(&self) -> &str {
        &self.0.server_id
    }

    /// Lets the page show, in development mode, why a socket has disconnected and which events it has received and sent. Call
    /// it first in the connect handler, and use what it returns in place of the socket.
    pub fn watch(&self, socket: ClusterSocket) -> WatchedSocket {
        WatchedSocket::new(socket, self.clone())
    }

    /// Tells the pages of an event, if there are any that know the socket. The payload is its name and arguments.
    pub(crate) fn event(
        &self,
        name: &'static str,
        socket: &Socket<Trunkline>,
        payload: impl FnOnce() -> Option<Payload>,
    ) {
        let key = (socket.ns().to_owned(), socket.id);
        let known = self.known();
        if !self.shows_events() || !known.has(&key) {
            return;
        }
        // An event too many is not shown: handlers cannot wait.
        let Ok(place) = self.0.events.try_reserve() else { return };
        let Some(payload) = payload() else { return };
        let arguments = if payload.len() > MAX_EVENT_BYTES {
            json!([payload.event_name(), format!("{} bytes", payload.len())])
        } else {
            value(&payload)
        };
        place.send((name, json!([key.0, key.1, arguments, timestamp()])));
    }

    pub(crate) fn socket_connected(&self, socket: &Socket<Trunkline>) {
        if !self.shows_events() {
            return;
        }
        let Some(info) = self.0.cluster.of(socket.ns()).ok().and_then(|handle| handle.describe(socket.id)) else {
            return;
        };
        let mut known = self.known();
        // Otherwise the next look finds it.
        let Ok(place) = self.0.events.try_reserve() else { return };
        if let Some(event) = known.connected((socket.ns().to_owned(), socket.id), &info) {
            place.send(event);
        }
    }

    pub(crate) fn socket_disconnected(&self, socket: &Socket<Trunkline>, reason: &str) {
        let mut known = self.known();
        let Ok(place) = self.0.events.try_reserve() else { return };
        if let Some(event) = known.disconnected(&(socket.ns().to_owned(), socket.id), reason) {
            place.send(event);
        }
    }

    fn shows_events(&self) -> bool {
        self.0.is_development && self.0.watchers.is_watched()
    }

    async fn page_connected(&self, socket: &ClusterSocket) {
        let Ok(handle) = self.handle() else { return };
        let leaving = (self.clone(), handle.clone());
        socket.on_disconnect(async move || {
            let (admin, handle) = leaving;
            admin.0.watchers.page_disconnected(&handle).await;
        });
        if let Some(NewSession(session)) = socket.extensions.remove() {
            socket.emit("session", &session).ok();
        }
        if self.0.is_writable {
            commands::register(socket, &self.0.cluster);
        }
        socket.emit("config", &json!({ "supportedFeatures": self.features() })).ok();
        self.0.watchers.page_connected(&handle).await;
        if self.0.is_development {
            // What happens from here on is told.
            if let Some(io) = self.io() {
                self.known().begin(&io, &self.0.cluster);
            }
            socket.emit("all_sockets", &[self.all_sockets().await]).ok();
        }
    }

    fn features(&self) -> Vec<&'static str> {
        let writing = ["EMIT", "JOIN", "LEAVE", "DISCONNECT", "MJOIN", "MLEAVE", "MDISCONNECT"];
        let mut features = if self.0.is_writable { writing.to_vec() } else { Vec::new() };
        features.push("AGGREGATED_EVENTS");
        if self.0.is_development {
            features.push("ALL_EVENTS");
        }
        features
    }

    /// The sockets of all servers in the namespaces of this one. What does not answer in time is missing.
    async fn all_sockets(&self) -> Vec<Value> {
        let mut all = Vec::new();
        let mut handles = self.0.cluster.namespaces();
        handles.sort_by_cached_key(|handle| handle.node().namespace.to_string());
        for handle in handles {
            let name = handle.node().namespace.to_string();
            let fetched = handle.fetch_sockets(Target::all().partial()).await.or_else(RequestError::into_received);
            let left = self.0.max_sockets - all.len();
            all.extend(fetched.unwrap_or_default().iter().take(left).map(|socket| shown(&name, socket)));
        }
        all
    }

    fn look(&self) -> Vec<Shown> {
        let Some(io) = self.io() else { return Vec::new() };
        self.known().look(&io, &self.0.cluster)
    }

    fn handle(&self) -> Result<NamespaceHandle> {
        self.0.cluster.of(&self.0.namespace)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn io(&self) -> Option<ClusterIo> {
        self.0.io.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn let_go(&self) {
        let server = self.0.io.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Without the lock: it may be the last one.
        drop(server);
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("server_id", &self.0.server_id).finish_non_exhaustive()
    }
}

/// Publishes to all pages of the cluster while there are any.
struct Publisher {
    admin: Admin,
    handle: NamespaceHandle,
    counter: Counter,
    /// When the counts were last published.
    counted: Option<Instant>,
}

impl Publisher {
    /// Runs until the namespace is closed.
    async fn run(mut self, mut events: mpsc::Receiver<Shown>) {
        let Self { admin, handle, .. } = &self;
        let (admin, handle) = (admin.clone(), handle.clone());
        select! {
            () = handle.closed() => {}
            () = admin.0.watchers.keep_known(&handle) => {}
            () = self.publish(&mut events) => {}
        }
        admin.let_go();
    }

    async fn publish(&mut self, events: &mut mpsc::Receiver<Shown>) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let admin = self.admin.clone();
        loop {
            select! {
                Some(event) = events.recv() => {
                    self.tell(event).await;
                    continue;
                }
                _ = looks.tick() => {}
                () = admin.0.watchers.changed.notified() => {}
            }
            if admin.0.watchers.is_watched() {
                self.look(events).await;
                self.count().await;
            } else if self.counted.take().is_some() {
                self.counter.pause();
                admin.known().clear();
            }
        }
    }

    async fn look(&self, events: &mut mpsc::Receiver<Shown>) {
        if !self.admin.0.is_development {
            return;
        }
        let looked = self.admin.look();
        // What the look builds on is told before.
        while let Ok(event) = events.try_recv() {
            self.tell(event).await;
        }
        for event in looked {
            self.tell(event).await;
        }
    }

    async fn count(&mut self) {
        // A little less, because a look may come early.
        if self.counted.is_some_and(|counted| counted.elapsed() + LOOK_EVERY / 2 < COUNT_EVERY) {
            return;
        }
        self.counted = Some(Instant::now());
        let Some(io) = self.admin.io() else { return };
        if let Ok(stats) = serde_json::to_value([self.counter.count(&io)]) {
            self.tell(("server_stats", stats)).await;
        }
    }

    /// To all pages of the cluster.
    async fn tell(&self, (name, arguments): Shown) {
        let Value::Array(arguments) = arguments else { return };
        let mut event = vec![Value::from(name)];
        event.extend(arguments);
        let told = match Payload::from_json(Value::Array(event).to_string()) {
            Ok(payload) => self.handle.cluster_node().broadcast(Target::all(), payload).await,
            Err(error) => Err(error),
        };
        if let Err(error) = told {
            tracing::debug!(%error, name, "the admin pages are not told");
        }
    }
}

/// A name for the page's list of servers; several servers of one process get a number each.
fn unique(hostname: &str) -> String {
    static SERVERS: AtomicU32 = AtomicU32::new(0);
    let process = std::process::id();
    match SERVERS.fetch_add(1, Ordering::Relaxed) {
        0 => format!("{hostname}#{process}"),
        more => format!("{hostname}#{process}.{more}"),
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The page counts a server as unhealthy when it is silent for ten seconds.
const COUNT_EVERY: Duration = Duration::from_secs(2);

/// What waits to be told.
const MAX_EVENTS: usize = 1024;

/// Events that are larger are shown by their names.
const MAX_EVENT_BYTES: usize = 16 * 1024;
