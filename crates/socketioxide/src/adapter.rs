//! The adapter that socketioxide calls.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use socketioxide::{SocketIo, adapter::Emitter, extract::SocketRef};
use socketioxide_core::{
    Sid,
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, RemoteSocketData, Room,
        RoomParam, SocketEmitter, errors::BroadcastError,
    },
    packet::Packet,
    parser::Parse,
};
use tokio::{
    sync::{Mutex as AsyncMutex, OwnedSemaphorePermit},
    task::coop::consume_budget,
    time::Instant,
};
use trunkline_core::{self as core, ErrorKind, Local, Namespace};

use crate::{
    ack::ClusterAckStream,
    backlog::Backlogs,
    cluster::{Cluster, Settings},
    convert::{Encoding, event_payload},
    details::SocketDetails,
    error::SocketIoError,
    handlers::Handlers,
    handshake::Handshake,
    identity::remote_socket,
    init::InitRes,
    interest::Interest,
    maintenance,
    marks::{self, Marks},
    members::KnownMembers,
    metrics,
    namespace::{OpenNamespace, Sockets},
    own_rooms::{OwnRooms, joined_rooms},
};

/// The adapter of one namespace, for any backend: `with_adapter::<Trunkline>(cluster)`. `E` is always socketioxide's
/// emitter, and need not be named: see [`ClusterIo`] and [`ClusterSocket`].
pub struct Trunkline<E: SocketEmitter = Emitter> {
    pub(crate) local: CoreLocalAdapter<E>,
    pub(crate) encoding: Encoding,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) known_members: KnownMembers,
    pub(crate) own_rooms: OwnRooms,
    /// A socket that was in the namespace a moment ago.
    pub(crate) known_socket: Mutex<Option<Sid>>,
    /// Set when a client has opened the namespace.
    pub(crate) is_dynamic: AtomicBool,
    /// Held while the namespace joins or leaves the cluster.
    pub(crate) joining: Arc<AsyncMutex<()>>,
    namespace: Namespace,
    pub(crate) cluster: Cluster,
    this: OnceLock<Weak<Self>>,
    open: RwLock<Option<Opened>>,
    /// Set when socketioxide has closed the adapter.
    pub(crate) is_closed: AtomicBool,
}

/// A namespace in the cluster, and its place among the dynamic ones.
struct Opened {
    namespace: Arc<OpenNamespace>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// A server in a cluster: what `build_layer` returns beside the layer.
pub type ClusterIo = SocketIo<Trunkline>;

/// A socket of a server in a cluster, as handlers get it.
pub type ClusterSocket = SocketRef<Trunkline>;

impl<E: SocketEmitter> Trunkline<E> {
    /// The namespace; joins the cluster if it is not in it.
    pub(crate) async fn joined(&self) -> core::Result<Arc<OpenNamespace>> {
        if let Ok(open) = self.namespace() {
            return Ok(open);
        }
        let _joining = self.joining.lock().await;
        if let Ok(open) = self.namespace() {
            return Ok(open);
        }
        let this = self.this.get().and_then(Weak::upgrade).filter(|_| !self.is_closed.load(Ordering::Relaxed));
        let this = this.ok_or_else(|| self.not_open())?;
        let permit = self.is_dynamic.load(Ordering::Relaxed).then(|| self.cluster.dynamic().admit()).transpose()?;
        this.join(permit).await
    }

    /// The cluster holds this adapter weakly: a dropped server leaves.
    async fn join(self: &Arc<Self>, permit: Option<OwnedSemaphorePermit>) -> core::Result<Arc<OpenNamespace>> {
        let this: Weak<dyn Local> = Arc::<Self>::downgrade(self);
        let settings = self.cluster.settings();
        let backend = self.cluster.backend();
        let interest = backend.interest.clone().map(|broker| Arc::new(Interest::new(broker)));
        let mut backend = backend.clone();
        backend.interest = interest.clone().map(|interest| interest as _);
        let mut config = settings.cluster;
        config.metrics_namespace = self.cluster.pattern_of(&self.namespace).or(config.metrics_namespace);
        let node = core::ClusterNode::join(backend, self.namespace.clone(), Weak::clone(&this), config).await?;
        let open = Arc::new(self.open(node, interest.clone(), settings));
        *self.open.write().unwrap_or_else(PoisonError::into_inner) =
            Some(Opened { namespace: Arc::clone(&open), _permit: permit });
        let has_left = self.is_dynamic.load(Ordering::Relaxed) && self.cluster.dynamic().tasks().is_closed();
        if has_left || self.is_closed.load(Ordering::Relaxed) {
            open.close();
            return Err(self.not_open());
        }
        open.tasks.spawn(maintenance::flush_backlogs(Arc::downgrade(self), Arc::clone(&open)));
        if let Some(interest) = interest {
            let every = settings.reconcile_every;
            open.tasks.spawn(maintenance::reconcile_rooms(this, Arc::clone(&open), interest, every));
        }
        if open.metrics.is_exported() {
            open.tasks.spawn(metrics::export_levels(Weak::clone(&open.sockets), Arc::clone(&open)));
        }
        if let Some(publishing) = marks::publishing(&open) {
            open.tasks.spawn(publishing);
        }
        self.cluster.opened(&self.namespace, &open);
        Ok(open)
    }

    fn open(
        self: &Arc<Self>,
        node: core::ClusterNode,
        interest: Option<Arc<Interest>>,
        settings: Settings,
    ) -> OpenNamespace {
        let sockets: Weak<dyn Sockets> = Arc::<Self>::downgrade(self);
        let metrics = node.server_metrics();
        OpenNamespace {
            sockets,
            node,
            handlers: Arc::clone(&self.handlers),
            details: SocketDetails::default(),
            unknown_handshake: Handshake::unknown().payload().unwrap_or_else(|_| core::SocketInfo::unknown_handshake()),
            tasks: Arc::default(),
            backlogs: Backlogs::new(settings.backlog),
            marks: Marks::new(settings.marks),
            metrics,
            interest,
            superseded: AtomicBool::new(false),
            appends_offsets: settings.append_offsets,
            paced_sockets: settings.paced_sockets,
            used_until: Mutex::new(Instant::now()),
        }
    }

    /// The namespace, if it is in the cluster.
    pub(crate) fn namespace(&self) -> core::Result<Arc<OpenNamespace>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().map(|open| Arc::clone(&open.namespace)).ok_or_else(|| self.not_open())
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.read().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn not_open(&self) -> core::Error {
        core::Error::new(ErrorKind::Closed, format!("namespace {} is not open on this server", self.namespace))
    }

    /// The namespace for an operation that takes up to `time`.
    async fn used_for(&self, time: Duration) -> core::Result<Arc<OpenNamespace>> {
        loop {
            let open = self.joined().await?;
            // What is used while this lock is held is not taken as unused.
            let present = self.open.read().unwrap_or_else(PoisonError::into_inner);
            if present.as_ref().is_some_and(|present| Arc::ptr_eq(&present.namespace, &open)) {
                open.used(time);
                drop(present);
                return Ok(open);
            }
        }
    }

    pub(crate) async fn used(&self) -> core::Result<Arc<OpenNamespace>> {
        self.used_for(Duration::ZERO).await
    }

    /// Takes the namespace out of use if there has been neither a socket nor an operation for this long.
    pub(crate) fn take_unused(&self, time: Duration) -> Option<Arc<OpenNamespace>> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        open.take_if(|open| open.namespace.is_unused(time) && !open.namespace.is_closed()).map(|open| open.namespace)
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn name(&self) -> &Namespace {
        &self.namespace
    }

    /// Before what a socket sends, the broker is told of it if it has not been yet: its receivers may know its id
    /// from it, and answer.
    async fn make_reachable(&self, sender: Option<Sid>) -> core::Result<()> {
        let Some(sender) = sender else { return Ok(()) };
        let open = self.used().await?;
        let OpenNamespace { node, interest: Some(interest), .. } = &*open else { return Ok(()) };
        let own_room = core::Room::from(sender.as_str());
        if !interest.is_confirmed(&own_room) && self.is_connected(sender) {
            // While the broker is away it is told later, and what is sent waits as well.
            let _ = node.rooms_created(&[own_room]).await;
        }
        Ok(())
    }

    /// Removes the sockets that are still in the namespace. `io.close()` forgets the namespace before it closes
    /// their connections, and so never removes them: socket and namespace would hold each other for ever, and with them
    /// the server, this adapter and the connections to the broker.
    pub(crate) fn remove_sockets(&self) {
        let mut all = BroadcastOptions::default();
        all.add_flag(BroadcastFlags::Broadcast);
        // Their connections are closed; nothing can be sent any more.
        let _ = self.local.disconnect_socket(all);
    }
}

impl<E: SocketEmitter> DefinedAdapter for Trunkline<E> {}

impl<E: SocketEmitter> CoreAdapter<E> for Trunkline<E> {
    type Error = SocketIoError;
    type State = Cluster;
    type AckStream = ClusterAckStream<E>;
    type InitRes = InitRes;

    fn new(cluster: &Cluster, local: CoreLocalAdapter<E>) -> Self {
        let namespace = Namespace::new(local.path());
        // The parsers differ in the kind of value they write.
        let is_binary = local.parser().encode_default(&()).is_ok_and(|value| value.as_bytes().is_some());
        let encoding = if is_binary { Encoding::MsgPack } else { Encoding::Json };
        Self {
            local,
            encoding,
            handlers: cluster.handlers(&namespace),
            known_members: KnownMembers::default(),
            own_rooms: OwnRooms::default(),
            known_socket: Mutex::default(),
            is_dynamic: AtomicBool::new(false),
            joining: Arc::default(),
            namespace,
            cluster: cluster.clone(),
            this: OnceLock::new(),
            open: RwLock::default(),
            is_closed: AtomicBool::new(false),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) -> InitRes {
        // socketioxide calls this once.
        let _ = self.this.set(Arc::downgrade(&self));
        let this = Arc::clone(&self);
        let joining = async move {
            let joined = self.joined().await;
            // A client beyond the limit is connected, and disconnected at once: otherwise it would wait for an answer.
            if joined.as_ref().map_or_else(|error| error.kind() == ErrorKind::Limit, |_| true) {
                on_success();
            }
            joined?;
            Ok(())
        };
        InitRes::new(joining, move || this.become_dynamic())
    }

    /// Begins to leave at the first poll: when a namespace is deleted socketioxide polls this once and drops it.
    async fn close(&self) -> Result<(), SocketIoError> {
        self.is_closed.store(true, Ordering::Relaxed);
        if let Ok(namespace) = self.namespace() {
            namespace.close();
            namespace.closed().await;
        }
        self.remove_sockets();
        self.cluster.detach_if_closed();
        Ok(())
    }

    async fn server_count(&self) -> Result<u16, SocketIoError> {
        let count = self.used().await?.node.server_count().await?;
        Ok(u16::try_from(count).unwrap_or(u16::MAX))
    }

    async fn broadcast(&self, packet: Packet, opts: BroadcastOptions) -> Result<(), BroadcastError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        let payload = event_payload(packet.inner)?;
        let sent = async {
            self.make_reachable(opts.sid).await?;
            self.used().await?.node.broadcast(target, payload).await
        };
        let result = sent.await.map_err(SocketIoError::from);
        // The sockets' tasks get their turn while the application emits in a loop.
        consume_budget().await;
        Ok(result?)
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<ClusterAckStream<E>, SocketIoError> {
        let Some(target) = self.target(&opts) else {
            return Ok(ClusterAckStream::local(self.local.broadcast_with_ack(packet, opts, timeout).0));
        };
        if target.flags.local {
            return Ok(ClusterAckStream::local(
                self.local.broadcast_with_ack(packet, self.options(&target), timeout).0,
            ));
        }
        let payload = event_payload(packet.inner)
            .map_err(|error| core::Error::new(ErrorKind::Malformed, "acknowledged broadcast").with_source(error))?;
        let target = target.timeout(timeout.unwrap_or(self.local.ack_timeout()));
        self.make_reachable(opts.sid).await?;
        let open = self.used_for(timeout.unwrap_or(self.local.ack_timeout())).await?;
        let acks = open.node.broadcast_with_ack(target, payload).await?;
        Ok(ClusterAckStream::cluster(acks, self.encoding))
    }

    async fn add_sockets(&self, opts: BroadcastOptions, rooms: impl RoomParam) -> Result<(), SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        Ok(self.used().await?.node.sockets_join(target, core_rooms(rooms)).await?)
    }

    async fn del_sockets(&self, opts: BroadcastOptions, rooms: impl RoomParam) -> Result<(), SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        Ok(self.used().await?.node.sockets_leave(target, core_rooms(rooms)).await?)
    }

    async fn disconnect_socket(&self, opts: BroadcastOptions) -> Result<(), BroadcastError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        let sent = async { self.used().await?.node.disconnect_sockets(target, false).await };
        Ok(sent.await.map_err(SocketIoError::from)?)
    }

    /// The rooms of the matching sockets, without the ids by which Node.js sockets are rooms of their own, unless the
    /// application has joined them.
    async fn rooms(&self, opts: BroadcastOptions) -> Result<Vec<Room>, SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(Vec::new()) };
        let sockets = self.used().await?.node.fetch_sockets(target).await?;
        let rooms: HashSet<_> = sockets.iter().flat_map(joined_rooms).map(core::Room::to_text).collect();
        Ok(rooms.into_iter().map(|room| Room::Owned(room.into())).collect())
    }

    async fn fetch_sockets(&self, opts: BroadcastOptions) -> Result<Vec<RemoteSocketData>, SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(Vec::new()) };
        let sockets = self.used().await?.node.fetch_sockets(target).await?;
        Ok(sockets.iter().filter_map(|socket| remote_socket(socket, self.local.path().clone())).collect())
    }

    /// socketioxide asks for this when a socket joins a room, which may be the first that is known of it.
    fn get_local(&self) -> &CoreLocalAdapter<E> {
        if self.is_dynamic.load(Ordering::Relaxed)
            && !self.is_open()
            && let Some(this) = self.this.get().and_then(Weak::upgrade)
        {
            this.look_for_clients(self.cluster.dynamic().tasks());
        }
        &self.local
    }
}

impl<E: SocketEmitter> Drop for Trunkline<E> {
    fn drop(&mut self) {
        if let Ok(namespace) = self.namespace() {
            namespace.close();
        }
        self.cluster.dropped(&self.namespace);
    }
}

impl<E: SocketEmitter> fmt::Debug for Trunkline<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunkline").field("namespace", &self.namespace).field("encoding", &self.encoding).finish()
    }
}

fn core_rooms(rooms: impl RoomParam) -> Vec<core::Room> {
    rooms.into_room_iter().map(|room| core::Room::from(room.as_ref())).collect()
}
