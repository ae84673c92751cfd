//! What socketioxide calls.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use socketioxide_core::{
    adapter::{
        BroadcastFlags, BroadcastOptions, CoreAdapter, CoreLocalAdapter, DefinedAdapter, RemoteSocketData, Room,
        RoomParam, SocketEmitter, errors::BroadcastError,
    },
    packet::Packet,
    parser::Parse,
};
use trunkline_core::{self as core, Adapter, ErrorKind, Local, Namespace, Target};

use crate::{
    ack::ClusterAckStream,
    cluster::{Cluster, Settings},
    convert::{Encoding, event_payload},
    error::Error,
    handle::{Opened, Sockets},
    handlers::Handlers,
    identity::{remote_socket, socket_id},
    init::InitRes,
    keeper::{self, Interest},
    lanes::Lanes,
    sockets::Attached,
    tasks::Tasks,
};

/// The adapter of one namespace, for any backend: `with_adapter::<Trunkline<_>>(cluster)`.
pub struct Trunkline<E: SocketEmitter> {
    pub(crate) local: CoreLocalAdapter<E>,
    pub(crate) encoding: Encoding,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) tasks: Arc<Tasks>,
    namespace: Namespace,
    cluster: Cluster,
    /// From the moment the namespace is open.
    opened: OnceLock<Arc<Opened>>,
    /// Broadcasts of this server, for [`Trunkline::pace`].
    emitted: AtomicU32,
}

impl<E: SocketEmitter> Trunkline<E> {
    /// Joins the cluster. The cluster holds this adapter weakly: a dropped server leaves.
    async fn join(self: &Arc<Self>) -> core::Result<()> {
        let this: Weak<dyn Local> = Arc::<Self>::downgrade(self);
        let settings = self.cluster.settings();
        let backend = self.cluster.backend();
        let has_interest = backend.interest.is_some();
        let node = core::ClusterNode::join(backend, self.namespace.clone(), this, settings.cluster).await?;
        let opened = Arc::new(self.open(node, settings));
        // Only `init` joins, and socketioxide calls it once.
        let _ = self.opened.set(Arc::clone(&opened));
        opened.tasks.spawn(keeper::hand_on(Arc::downgrade(self), Arc::clone(&opened)));
        if has_interest {
            let every = settings.reconcile_every;
            opened.tasks.spawn(keeper::reconcile(Arc::downgrade(self), Arc::clone(&opened), every));
        }
        self.cluster.opened(&self.namespace, &opened);
        Ok(())
    }

    fn open(self: &Arc<Self>, node: core::ClusterNode, settings: Settings) -> Opened {
        let sockets: Weak<dyn Sockets> = Arc::<Self>::downgrade(self);
        Opened {
            sockets,
            node,
            handlers: Arc::clone(&self.handlers),
            attached: Attached::default(),
            tasks: Arc::clone(&self.tasks),
            lanes: Lanes::new(settings.backlog),
            interest: Interest::default(),
            superseded: AtomicBool::new(false),
            appends_offsets: settings.append_offsets,
            paced_sockets: settings.paced_sockets,
        }
    }

    pub(crate) fn opened(&self) -> core::Result<&Opened> {
        self.opened
            .get()
            .map(|opened| &**opened)
            .ok_or_else(|| core::Error::new(ErrorKind::Closed, format!("namespace {} is not open yet", self.namespace)))
    }

    /// Gives the sockets' tasks their turn while the application emits in a loop.
    async fn pace(&self) {
        if self.emitted.fetch_add(1, Ordering::Relaxed) % PACE == PACE - 1 {
            tokio::task::yield_now().await;
        }
    }

    fn node(&self) -> core::Result<&core::ClusterNode> {
        Ok(&self.opened()?.node)
    }

    /// The sockets that socketioxide means; `None` if it means none.
    fn target(&self, opts: &BroadcastOptions) -> Option<Target> {
        let to_all_but_sender = opts.has_flag(BroadcastFlags::Broadcast);
        let mut target = Target::rooms(opts.rooms.iter().map(AsRef::as_ref));
        target.except = opts.except.iter().map(|room| room.as_ref().into()).collect();
        match opts.sid {
            Some(sender) if to_all_but_sender => target = target.except(sender.as_str()),
            Some(only) if opts.rooms.is_empty() => {
                target.flags.local = self.is_connected(only);
                target.rooms.push(socket_id(only, opts.server_id).into());
            }
            None if opts.rooms.is_empty() && !to_all_but_sender => return None,
            _ => {}
        }
        target.flags.local |= opts.has_flag(BroadcastFlags::Local);
        target.flags.volatile = opts.has_flag(BroadcastFlags::Volatile).then_some(true);
        Some(target)
    }
}

impl<E: SocketEmitter> DefinedAdapter for Trunkline<E> {}

impl<E: SocketEmitter> CoreAdapter<E> for Trunkline<E> {
    type Error = Error;
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
            namespace,
            cluster: cluster.clone(),
            opened: OnceLock::new(),
            emitted: AtomicU32::new(0),
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
    async fn close(&self) -> Result<(), Error> {
        if let Ok(opened) = self.opened() {
            opened.close();
            opened.closed().await;
        }
        Ok(())
    }

    async fn server_count(&self) -> Result<u16, Error> {
        let count = self.node()?.server_count().await?;
        Ok(u16::try_from(count).unwrap_or(u16::MAX))
    }

    async fn broadcast(&self, packet: Packet, opts: BroadcastOptions) -> Result<(), BroadcastError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        let payload = event_payload(packet.inner)?;
        let sent = async { self.node()?.broadcast(target, payload).await };
        let result = sent.await.map_err(Error::from);
        self.pace().await;
        Ok(result?)
    }

    async fn broadcast_with_ack(
        &self,
        packet: Packet,
        opts: BroadcastOptions,
        timeout: Option<Duration>,
    ) -> Result<ClusterAckStream<E>, Error> {
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
        let acks = self.node()?.broadcast_with_ack(target, payload).await?;
        Ok(ClusterAckStream::cluster(acks, self.encoding))
    }

    async fn add_sockets(&self, opts: BroadcastOptions, rooms: impl RoomParam) -> Result<(), Error> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        Ok(self.node()?.sockets_join(target, core_rooms(rooms)).await?)
    }

    async fn del_sockets(&self, opts: BroadcastOptions, rooms: impl RoomParam) -> Result<(), Error> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        Ok(self.node()?.sockets_leave(target, core_rooms(rooms)).await?)
    }

    async fn disconnect_socket(&self, opts: BroadcastOptions) -> Result<(), BroadcastError> {
        let Some(target) = self.target(&opts) else { return Ok(()) };
        let sent = async { self.node()?.disconnect_sockets(target, false).await };
        Ok(sent.await.map_err(Error::from)?)
    }

    /// The rooms of the matching sockets, without the ids by which Node.js sockets are rooms of their own.
    async fn rooms(&self, opts: BroadcastOptions) -> Result<Vec<Room>, Error> {
        let Some(target) = self.target(&opts) else { return Ok(Vec::new()) };
        let sockets = self.node()?.fetch_sockets(target).await?;
        let rooms: HashSet<_> = sockets
            .iter()
            .flat_map(|socket| socket.rooms.iter().filter(|room| room.as_text() != Some(socket.id.as_str())))
            .map(core::Room::to_text)
            .collect();
        Ok(rooms.into_iter().map(|room| Room::Owned(room.into())).collect())
    }

    async fn fetch_sockets(&self, opts: BroadcastOptions) -> Result<Vec<RemoteSocketData>, Error> {
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
        if let Ok(opened) = self.opened() {
            opened.close();
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

/// Broadcasts after which the sockets get their turn, well below the default buffer of a socket (128 packets).
const PACE: u32 = 32;
