//! A node's membership: the handle that servers call, over one driver task.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::{broadcast, mpsc, watch},
    time::timeout,
};

use super::{
    AckStream, Adapter, NodeConfig,
    command::{Command, Waiter},
    driver::Driver,
    guards::Untold,
    outgoing::tell_interest,
    requests::{amend, unexpected},
};
use crate::{
    engine::{Gather, Request},
    error::{Answers, Error, ErrorKind, Result},
    model::{
        Capabilities, Event, Membership, Message, MetricsSnapshot, Namespace, NodeId, NodeKey, NodeMetrics, Offset,
        Room, Session, SessionId, SocketInfo, Target,
    },
    payload::Payload,
    server::{DeliveryReport, Local},
    transport::{Backend, Health, History, JoinRequest, MissedBroadcast, RestoredSession, RoomFilter},
};

/// A node of a cluster. Cheap to clone; when the last clone is dropped, or the server behind `Local` is, the node leaves.
#[derive(Clone)]
pub struct ClusterNode {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    node: NodeKey,
    pub(super) backend: Backend,
    pub(super) capabilities: Capabilities,
    local: Weak<dyn Local>,
    pub(super) config: NodeConfig,
    metrics: Arc<NodeMetrics>,
    events: broadcast::Sender<Event>,
    pub(super) commands: mpsc::Sender<Command>,
    peers: watch::Receiver<Peers>,
    closing: watch::Sender<bool>,
    ended: watch::Receiver<bool>,
}

/// The other nodes, as the driver last knew them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peers {
    pub(crate) names: Vec<NodeId>,
    pub(crate) count: usize,
}

impl ClusterNode {
    /// Joins the cluster of `namespace` over `backend`, and spawns the one task that drives this node on the current Tokio runtime.
    ///
    /// The server is held weakly: when it is dropped, the node leaves by itself.
    ///
    /// # Errors
    /// What the transport says when it cannot join.
    pub async fn join(
        backend: Backend,
        namespace: Namespace,
        local: Weak<dyn Local>,
        config: NodeConfig,
    ) -> Result<Self> {
        let mut config = config.feasible();
        if let Some(interest) = &backend.interest {
            config.engine.buckets = interest.buckets();
        }
        let node = NodeKey { id: backend.ids.node_id(), namespace };
        let metrics = Arc::<NodeMetrics>::default();
        let seat = JoinRequest {
            node: node.clone(),
            room_filter: Arc::new(LocalWants(Weak::clone(&local))),
            metrics: Arc::clone(&metrics),
            limits: config.inbox,
        };
        let inbox = backend.transport.join(seat).await?;
        let capabilities = backend.transport.capabilities();
        let (commands, received_commands) = mpsc::channel(COMMANDS);
        let (events, _) = broadcast::channel(EVENTS);
        let (peers_sender, peers) = watch::channel(Peers::default());
        let (closing, close_requested) = watch::channel(false);
        let (ended_sender, ended) = watch::channel(false);
        let driver = Driver::new(
            node.clone(),
            backend.clone(),
            Weak::clone(&local),
            config,
            Arc::clone(&metrics),
            events.clone(),
            peers_sender,
        );
        tokio::spawn(driver.run(inbox, received_commands, close_requested, ended_sender));
        let shared =
            Shared { node, backend, capabilities, local, config, metrics, events, commands, peers, closing, ended };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(super) fn check_open(&self) -> Result<()> {
        if *self.shared.closing.borrow() || *self.shared.ended.borrow() { Err(self.closed_error()) } else { Ok(()) }
    }

    pub(super) fn closed_error(&self) -> Error {
        let NodeKey { id, namespace } = &self.shared.node;
        Error::new(ErrorKind::Closed, format!("node {id} of namespace {namespace} has left"))
    }

    fn local(&self) -> Result<Arc<dyn Local>> {
        self.shared.local.upgrade().ok_or_else(|| self.closed_error())
    }

    fn history(&self) -> Result<&Arc<dyn History>> {
        self.shared
            .backend
            .history
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend keeps no history, or it is switched off"))
    }

    async fn publish(&self, message: Message) -> Result<()> {
        self.check_open()?;
        let result = self.shared.backend.transport.publish(&self.shared.node, message).await;
        match &result {
            Ok(()) => self.shared.metrics.published.increment(),
            Err(_) => self.shared.metrics.publish_errors.increment(),
        }
        result
    }

    /// Changes own sockets.
    fn apply(&self, change: impl FnOnce(&dyn Local)) -> Result<()> {
        self.check_open()?;
        change(&*self.local()?);
        Ok(())
    }

    /// Publishes what changes the sockets of others, unless it is not for them.
    async fn apply_elsewhere(&self, target: &Target, message: Message) -> Result<()> {
        if target.flags.local { Ok(()) } else { self.publish(message).await }
    }

    /// Tells the broker about rooms into or out of which own sockets were moved.
    pub(super) async fn rooms_changed(&self, rooms: &[Room], were_entered: bool) -> Result<()> {
        match &self.shared.backend.interest {
            Some(interest) => {
                tell_interest(&**interest, &self.shared.node, &self.shared.local, rooms, were_entered).await
            }
            None => Ok(()),
        }
    }

    fn deliver(&self, target: &Target, payload: &Payload) -> DeliveryReport {
        let Some(local) = self.shared.local.upgrade() else { return DeliveryReport::default() };
        let delivered = local.deliver(target, payload, None);
        self.shared.metrics.sent_to_sockets.add(delivered.sent);
        self.shared.metrics.dropped_by_sockets.add(delivered.dropped);
        delivered
    }

    fn own_sockets(&self, target: &Target) -> Result<Vec<SocketInfo>> {
        let mut sockets = self.local()?.sockets(target);
        for socket in &mut sockets {
            socket.node = Some(self.shared.node.id.clone());
        }
        Ok(sockets)
    }
}

#[async_trait]
impl Adapter for ClusterNode {
    fn node(&self) -> &NodeKey {
        &self.shared.node
    }

    fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    async fn broadcast(&self, target: Target, payload: Payload) -> Result<()> {
        self.check_open()?;
        if target.flags.local {
            self.deliver(&target, &payload).hold_back().await;
            return Ok(());
        }
        let message = Message::Broadcast { request: None, target: target.clone(), payload: payload.clone() };
        let result = self.publish(message).await;
        let deliver_now = match &result {
            // With history it comes back with its offset.
            Ok(()) => self.shared.backend.history.is_none(),
            Err(error) => !matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Closed),
        };
        if deliver_now {
            self.deliver(&target, &payload).hold_back().await;
        }
        result
    }

    async fn broadcast_with_ack(&self, target: Target, payload: Payload) -> Result<AckStream> {
        let (items, received) = mpsc::unbounded_channel();
        let id = self.new_request();
        let timeout = target.flags.timeout.unwrap_or(self.shared.config.request_timeout);
        let own = (target.clone(), payload.clone(), timeout);
        let is_local = target.flags.local;
        let message = Message::Broadcast { request: Some(id.clone()), target, payload };
        let request = Request {
            id,
            gather: Gather::Acks,
            message: (!is_local).then_some(message),
            deadline: self.deadline(Some(timeout)),
        };
        let cancel = self.start(request, Waiter::Acks { items, own: Some(own) }).await?;
        Ok(AckStream::new(received, cancel))
    }

    async fn sockets_join(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        self.apply(|local| local.join(&target, &rooms))?;
        let untold = Untold { cluster: self, rooms: &rooms, were_entered: false, is_due: true };
        let message = Message::Join { target: target.clone(), rooms: rooms.clone() };
        let published = self.apply_elsewhere(&target, message).await;
        // Own sockets are in the rooms whether others could be told or not.
        published.and(untold.tell().await)
    }

    async fn sockets_leave(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        self.apply(|local| local.leave(&target, &rooms))?;
        let untold = Untold { cluster: self, rooms: &rooms, were_entered: true, is_due: true };
        let message = Message::Leave { target: target.clone(), rooms: rooms.clone() };
        let published = self.apply_elsewhere(&target, message).await;
        published.and(untold.tell().await)
    }

    async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()> {
        self.apply(|local| local.disconnect(&target, close))?;
        self.apply_elsewhere(&target, Message::Disconnect { target: target.clone(), close }).await
    }

    async fn fetch_sockets(&self, target: Target) -> Result<Vec<SocketInfo>> {
        self.check_open()?;
        let mut sockets = self.own_sockets(&target)?;
        if target.flags.local {
            return Ok(sockets);
        }
        let timeout = target.flags.timeout;
        let id = self.new_request();
        let message = Message::FetchSockets { request: id.clone(), target };
        match self.ask(id, Gather::Sockets, message, timeout).await {
            Ok(Answers::Sockets(others)) => {
                sockets.extend(others);
                Ok(sockets)
            }
            Ok(other) => Err(unexpected(&other)),
            Err(error) => Err(amend(error, |answers| {
                if let Answers::Sockets(others) = answers {
                    others.extend(sockets);
                }
            })),
        }
    }

    async fn all_rooms(&self) -> Result<Vec<Room>> {
        self.check_open()?;
        let own = self.local()?.rooms();
        match self.other_rooms().await {
            Ok(others) => Ok(union(others, own)),
            Err(error) => Err(amend(error, |answers| {
                if let Answers::Rooms(others) = answers {
                    *others = union(std::mem::take(others), own);
                }
            })),
        }
    }

    async fn server_side_emit(&self, payload: Payload) -> Result<()> {
        self.publish(Message::ServerSideEmit { request: None, payload }).await
    }

    async fn server_side_emit_with_ack(
        &self,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<Payload>>> {
        let id = self.new_request();
        let message = Message::ServerSideEmit { request: Some(id.clone()), payload };
        match self.ask(id, Gather::Values, message, timeout).await? {
            Answers::Values(values) => Ok(values),
            other => Err(unexpected(&other)),
        }
    }

    async fn server_count(&self) -> Result<usize> {
        self.check_open()?;
        match &self.shared.backend.node_counter {
            Some(node_counter) => Ok(node_counter.count_nodes(&self.shared.node, &[]).await?.nodes),
            None => Ok(1 + self.shared.peers.borrow().count),
        }
    }

    fn peers(&self) -> Vec<NodeId> {
        self.shared.peers.borrow().names.clone()
    }

    async fn await_peers(&self, count: usize, limit: Duration) -> Result<()> {
        let mut peers = self.shared.peers.clone();
        let counted = self.shared.capabilities.membership == Membership::BrokerCount;
        let enough = async {
            while peers.borrow_and_update().count < count {
                if counted && self.shared.commands.send(Command::Recount).await.is_err() {
                    return Err(self.closed_error());
                }
                // Where the broker counts, nobody tells when it changes.
                let pause = if counted { RECOUNT } else { Duration::MAX };
                if let Ok(Err(_)) = timeout(pause, peers.changed()).await {
                    return Err(self.closed_error());
                }
            }
            Ok(())
        };
        timeout(limit, enough).await.unwrap_or_else(|_| {
            let context =
                format!("{} of {count} other nodes are known after {limit:?}", self.shared.peers.borrow().count);
            Err(Error::new(ErrorKind::Timeout, context))
        })
    }

    async fn rooms_created(&self, rooms: &[Room]) -> Result<()> {
        if let Some(interest) = &self.shared.backend.interest {
            for room in rooms {
                interest.room_created(&self.shared.node, room).await?;
            }
        }
        Ok(())
    }

    async fn rooms_deleted(&self, rooms: &[Room]) -> Result<()> {
        if let Some(interest) = &self.shared.backend.interest {
            for room in rooms {
                interest.room_deleted(&self.shared.node, room).await?;
            }
        }
        Ok(())
    }

    async fn persist_session(&self, session: Session) -> Result<()> {
        self.check_open()?;
        self.history()?.persist(&self.shared.node, session).await
    }

    async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        self.check_open()?;
        self.history()?.restore(&self.shared.node, &id, &since).await
    }

    async fn replay(&self, since: Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.check_open()?;
        self.history()?.replay(&self.shared.node, &since, rooms).await
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    fn metrics(&self) -> MetricsSnapshot {
        self.shared.metrics.snapshot()
    }

    fn health(&self) -> Health {
        self.shared.backend.transport.health()
    }

    fn close(&self) {
        self.shared.closing.send_replace(true);
    }

    async fn closed(&self) {
        let mut ended = self.shared.ended.clone();
        // An error means that the driver is gone, which is what is waited for.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("node", &self.shared.node)
            .field("transport", &self.shared.backend.transport)
            .field("peers", &self.shared.peers.borrow().count)
            .finish_non_exhaustive()
    }
}

/// Wants the rooms in which the server has sockets.
#[derive(Debug)]
struct LocalWants(Weak<dyn Local>);

impl RoomFilter for LocalWants {
    fn may_have_members(&self, room: &Room) -> bool {
        self.0.upgrade().is_none_or(|local| local.has_room(room))
    }
}

fn union(mut rooms: Vec<Room>, more: Vec<Room>) -> Vec<Room> {
    rooms.extend(more);
    rooms.sort_unstable();
    rooms.dedup();
    rooms
}

/// Commands that may wait for the driver. Callers wait while it is full.
const COMMANDS: usize = 1024;

/// Events a slow listener may lag behind.
const EVENTS: usize = 256;

/// How often the broker is asked for its count while someone waits for nodes.
const RECOUNT: Duration = Duration::from_millis(50);
