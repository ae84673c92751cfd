//! The adapter that socketioxide calls.

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, OnceLock, Weak, atomic::AtomicBool},
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
use tokio::task::coop::consume_budget;
use trunkline_core::{self as core, ErrorKind, Local, Namespace};

use crate::{
    ack::ClusterAckStream,
    backlog::Backlogs,
    cluster::{Cluster, Settings},
    convert::{Encoding, event_payload},
    details::SocketDetails,
    error::SocketIoError,
    handlers::Handlers,
    identity::remote_socket,
    init::InitRes,
    interest::Interest,
    maintenance,
    marks::{self, Marks},
    members::KnownMembers,
    metrics,
    namespace::{OpenNamespace, Sockets},
    own_rooms::{OwnRooms, joined_rooms},
    tasks::Tasks,
};

/// The adapter of one namespace, for any backend: `with_adapter::<Trunkline>(cluster)`. `E` is always socketioxide's
/// emitter, and need not be named: see [`ClusterIo`] and [`ClusterSocket`].
pub struct Trunkline<E: SocketEmitter = Emitter> {
    pub(crate) local: CoreLocalAdapter<E>,
    pub(crate) encoding: Encoding,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) known_members: KnownMembers,
    pub(crate) own_rooms: OwnRooms,
    namespace: Namespace,
    cluster: Cluster,
    /// Set when the namespace has been opened.
    open: OnceLock<Arc<OpenNamespace>>,
}

/// A server in a cluster: what `build_layer` returns beside the layer.
pub type ClusterIo = SocketIo<Trunkline>;

/// A socket of a server in a cluster, as handlers get it.
pub type ClusterSocket = SocketRef<Trunkline>;

impl<E: SocketEmitter> Trunkline<E> {
    /// Joins the cluster. The cluster holds this adapter weakly: a dropped server leaves.
    async fn join(self: &Arc<Self>) -> core::Result<()> {
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
        // Only `init` joins, and socketioxide calls it once.
        let _ = self.open.set(Arc::clone(&open));
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
        Ok(())
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
            tasks: Arc::clone(&self.tasks),
            backlogs: Backlogs::new(settings.backlog),
            marks: Marks::new(settings.marks),
            metrics,
            interest,
            superseded: AtomicBool::new(false),
            appends_offsets: settings.append_offsets,
            paced_sockets: settings.paced_sockets,
        }
    }

    pub(crate) fn namespace(&self) -> core::Result<&OpenNamespace> {
        let open = self.open.get().map(|open| &**open);
        open.ok_or_else(|| core::Error::new(ErrorKind::Closed, format!("namespace {} is not open yet", self.namespace)))
    }

    fn node(&self) -> core::Result<&core::ClusterNode> {
        Ok(&self.namespace()?.node)
    }

    /// Before what a socket sends, the broker is told of it if it has not been yet: its receivers may know its id
    /// from it, and answer.
    async fn make_reachable(&self, sender: Option<Sid>) -> core::Result<()> {
        let (Some(sender), OpenNamespace { node, interest: Some(interest), .. }) = (sender, self.namespace()?) else {
            return Ok(());
        };
        let own_room = core::Room::from(sender.as_str());
        if !interest.is_active(&own_room) && self.is_connected(sender) {
            // While the broker is away it is told later, and what is sent waits as well.
            let _ = node.rooms_created(&[own_room]).await;
        }
        Ok(())
    }

    /// Removes the sockets that are still in the namespace. `io.close()` forgets the namespace before it closes
    /// their connections, and so never removes them: socket and namespace would hold each other for ever, and with them
    /// the server, this adapter and the connections to the broker.
    fn remove_sockets(&self) {
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
        let (handlers, tasks) = (cluster.handlers(&namespace), Arc::default());
        Self {
            local,
            encoding,
            handlers,
            tasks,
            known_members: KnownMembers::default(),
            own_rooms: OwnRooms::default(),
            namespace,
            cluster: cluster.clone(),
            open: OnceLock::new(),
        }
    }

    fn init(self: Arc<Self>, on_success: impl FnOnce() + Send + 'static) -> InitRes {
        InitRes::new(async move {
            self.join().await?;
            on_success();
            Ok(())
        })
    }

    /// Begins to leave at the first poll: when a namespace is deleted socketioxide polls this once and drops it.
    async fn close(&self) -> Result<(), SocketIoError> {
        if let Ok(namespace) = self.namespace() {
            namespace.close();
            namespace.closed().await;
        }
        self.remove_sockets();
        Ok(())
    }

    async fn server_count(&self) -> Result<u16, SocketIoError> {
        let count = self.node()?.server_count().await?;
        Ok(u16::try_from(count).unwrap_or(u16::MAX))
    }

    async fn broadcast(&self, packet: Packet, opts: BroadcastOptions) -> Result<(), BroadcastError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        let payload = event_payload(packet.inner)?;
        let sent = async {
            self.make_reachable(opts.sid).await?;
            self.node()?.broadcast(target, payload).await
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
        let acks = self.node()?.broadcast_with_ack(target, payload).await?;
        Ok(ClusterAckStream::cluster(acks, self.encoding))
    }

    async fn add_sockets(&self, opts: BroadcastOptions, rooms: impl RoomParam) -> Result<(), SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        Ok(self.node()?.sockets_join(target, core_rooms(rooms)).await?)
    }

    async fn del_sockets(&self, opts: BroadcastOptions, rooms: impl RoomParam) -> Result<(), SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        Ok(self.node()?.sockets_leave(target, core_rooms(rooms)).await?)
    }

    async fn disconnect_socket(&self, opts: BroadcastOptions) -> Result<(), BroadcastError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        let sent = async { self.node()?.disconnect_sockets(target, false).await };
        Ok(sent.await.map_err(SocketIoError::from)?)
    }

    /// The rooms of the matching sockets, without the ids by which Node.js sockets are rooms of their own, unless the
    /// application has joined them.
    async fn rooms(&self, opts: BroadcastOptions) -> Result<Vec<Room>, SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(Vec::new()) };
        let sockets = self.node()?.fetch_sockets(target).await?;
        let rooms: HashSet<_> = sockets.iter().flat_map(joined_rooms).map(core::Room::to_text).collect();
        Ok(rooms.into_iter().map(|room| Room::Owned(room.into())).collect())
    }

    async fn fetch_sockets(&self, opts: BroadcastOptions) -> Result<Vec<RemoteSocketData>, SocketIoError> {
        let Some(target) = self.target(&opts) else { return Ok(Vec::new()) };
        let sockets = self.node()?.fetch_sockets(target).await?;
        Ok(sockets.iter().filter_map(|socket| remote_socket(socket, self.local.path().clone())).collect())
    }

    fn get_local(&self) -> &CoreLocalAdapter<E> {
        &self.local
    }
}

impl<E: SocketEmitter> Drop for Trunkline<E> {
    fn drop(&mut self) {
        if let Ok(namespace) = self.namespace() {
            namespace.close();
        }
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
