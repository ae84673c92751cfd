//! [`ClusterNode`]: a server's handle of its node, over one driver task.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{broadcast, mpsc, watch},
    time::timeout,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    AckStream, NodeConfig,
    command::Command,
    condition::Condition,
    driver::{Driver, Observers, Peers},
    position::Position,
    returning::Returning,
    sessions::LiveSessions,
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        Capabilities, Event, Membership, Message, MessageKind, MetricsSnapshot, Namespace, NodeId, NodeKey,
        NodeMetrics, RequestError, Room, ServerMetrics, SocketInfo, Target,
    },
    payload::Payload,
    server::{DeliveryReport, Local},
    trace,
    transport::{Backend, Health, JoinRequest, RoomFilter},
};

/// One node of a cluster: a server's membership of a namespace. Cheap to clone.
///
/// Operations reach matching sockets of *all* nodes, this one included, unless `target.flags.local` is set. They return
/// when the message has its place in the queue to the broker; what one caller does in sequence arrives elsewhere in
/// that sequence.
///
/// While the broker is away, messages are held up to a limit and sent on return; local sockets are served meanwhile
/// (with history on, they are served in the common order, once the broker is back). Errors say whether trying again
/// helps.
///
/// With a history, what moves or disconnects own sockets takes its place in the common order, too: it is applied when it
/// comes back from the broker, behind what was broadcast before. The calls return when it is applied; with the broker
/// away at once, and at the latest after the request time-out: it is then applied once the broker is back.
///
/// When the last clone is dropped, or the server behind [`Local`] is, the node leaves.
///
/// *Cancel safety*: a dropped call has either been published or not; its pending answers are given up. What it has
/// changed here stays, and rooms that own sockets have joined become active all the same.
#[derive(Clone)]
pub struct ClusterNode {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) node: NodeKey,
    pub(super) backend: Backend,
    pub(super) capabilities: Capabilities,
    pub(super) local: Weak<dyn Local>,
    pub(super) config: NodeConfig,
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) metrics: Arc<NodeMetrics>,
    condition: Arc<Condition>,
    joined_at: SystemTime,
    events: broadcast::Sender<Event>,
    peers: watch::Receiver<Peers>,
    pub(super) returning: Arc<Returning>,
    pub(super) position: watch::Receiver<Position>,
    pub(super) sessions: Arc<LiveSessions>,
    /// Holds the driver, the one task of the node.
    tasks: TaskTracker,
    /// Dropped with the last handle, it makes the node leave.
    closing: DropGuard,
}

impl ClusterNode {
    /// Joins the cluster of `namespace` over `backend`, and spawns the one task that drives this node on the current
    /// Tokio runtime.
    ///
    /// The server is held weakly: when it is dropped, the node leaves by itself.
    ///
    /// # Errors
    /// `Config` if the parts of the backend contradict each other; what the transport says when it cannot join.
    pub async fn join(
        backend: Backend,
        namespace: Namespace,
        local: Weak<dyn Local>,
        config: NodeConfig,
    ) -> Result<Self> {
        let capabilities = backend.capabilities()?;
        let mut config = config.clamped();
        if let Some(interest) = &backend.interest {
            config.engine.buckets = interest.buckets();
        }
        let node = NodeKey { id: backend.ids.node_id(), namespace };
        let metrics =
            Arc::new(NodeMetrics::exported(backend.name, config.metrics_namespace.unwrap_or(node.namespace.as_str())));
        let filter = Arc::new(LocalRooms(Weak::clone(&local)));
        let request = JoinRequest::new(node.clone(), filter, Arc::clone(&metrics), config.inbox);
        let inbox = backend.transport.join(request).await?;
        let (commands, received_commands) = mpsc::channel(COMMANDS);
        let (events, _) = broadcast::channel(EVENTS);
        let (peers_sender, peers) = watch::channel(Peers::default());
        let (tasks, closing) = (TaskTracker::new(), CancellationToken::new());
        let returning = Arc::<Returning>::default();
        let sessions = Arc::<LiveSessions>::default();
        let (position_sender, position) = watch::channel(Position::default());
        let condition = Arc::<Condition>::default();
        let observers = Observers {
            metrics: Arc::clone(&metrics),
            condition: Arc::clone(&condition),
            events: events.clone(),
            peers: peers_sender,
            returning: Arc::clone(&returning),
            position: position_sender,
            sessions: Arc::clone(&sessions),
        };
        let driver = Driver::new(node.clone(), backend.clone(), capabilities, Weak::clone(&local), config, observers);
        tasks.spawn(driver.run(inbox, received_commands, closing.clone()));
        tasks.close();
        let closing = closing.drop_guard();
        let shared = Shared {
            node,
            backend,
            capabilities,
            local,
            config,
            metrics,
            condition,
            joined_at: SystemTime::now(),
            events,
            commands,
            peers,
            returning,
            position,
            sessions,
            tasks,
            closing,
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// This node's id and namespace.
    #[must_use]
    pub fn node(&self) -> &NodeKey {
        &self.shared.node
    }

    /// What the backend promises.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.capabilities
    }

    /// Sends a packet to the matching sockets.
    ///
    /// # Errors
    /// `TooLarge`, `Malformed` (an event name that Socket.IO reserves) and `Closed`: no socket got it. `QueueFull`,
    /// `Disconnected`: other nodes did not get it, local sockets did.
    pub async fn broadcast(&self, target: Target, payload: Payload) -> Result<()> {
        self.check_open()?;
        let message = Message::Broadcast { request: None, target: target.clone(), payload: payload.clone() };
        message.check()?;
        if target.flags.local {
            self.deliver(&target, &payload).wait_for_sockets().await;
            return Ok(());
        }
        let result = self.publish(message).await;
        let deliver_now = match &result {
            // With history it comes back with its offset.
            Ok(()) => self.shared.backend.history.is_none(),
            Err(error) => !matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Closed),
        };
        if deliver_now {
            self.deliver(&target, &payload).wait_for_sockets().await;
        }
        result
    }

    /// Sends a packet to the matching sockets and gathers their acknowledgements, for as long as `target.flags.timeout`
    /// or the configured time says.
    ///
    /// # Errors
    /// As [`ClusterNode::broadcast`], and `QueueFull` if too many requests wait.
    pub async fn broadcast_with_ack(&self, target: Target, payload: Payload) -> Result<AckStream> {
        self.request_acks(target, payload).await
    }

    /// Disconnects the matching sockets from the namespace; with `close`, closes their connections where the server
    /// can.
    ///
    /// # Errors
    /// As [`ClusterNode::broadcast`]. Own sockets are disconnected all the same, unless the node is closed.
    pub async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()> {
        let message = Message::Disconnect { target: target.clone(), close };
        message.check()?;
        self.change(&target, message, |local| local.disconnect(&target, close)).await
    }

    /// Describes the matching sockets. With [`Target::partial`], nodes that have not answered in time are left out.
    ///
    /// # Errors
    /// `Timeout` if not every node answered, `TooLarge` if the broker does not take what a node has to answer, both with
    /// the sockets that arrived and the nodes that are missing; `QueueFull`, `Disconnected`, `Closed` if the request was
    /// not sent.
    pub async fn fetch_sockets(&self, target: Target) -> Result<Vec<SocketInfo>, RequestError<Vec<SocketInfo>>> {
        self.check_open()?;
        target.check()?;
        if target.flags.local {
            return Ok(self.own_sockets(&target)?);
        }
        let is_partial = target.flags.partial;
        let others = self.request_sockets(target.clone()).await?;
        // The others describe theirs meanwhile.
        let own = self.own_sockets(&target)?;
        let sockets = with_own(others.answered().await, |mut others| {
            let mut sockets = own;
            sockets.append(&mut others);
            sockets
        });
        if is_partial { sockets.or_else(|error| Ok(error.into_received()?)) } else { sockets }
    }

    /// All rooms of the cluster, socket ids included, sorted, each once.
    ///
    /// # Errors
    /// As [`ClusterNode::fetch_sockets`].
    pub async fn all_rooms(&self) -> Result<Vec<Room>, RequestError<Vec<Room>>> {
        self.check_open()?;
        let others = self.request_rooms().await?;
        let own = self.local()?.rooms();
        with_own(others.answered().await, |others| union(others, own))
    }

    /// Hands an event to the servers of all *other* nodes.
    ///
    /// # Errors
    /// As [`ClusterNode::broadcast`].
    pub async fn server_side_emit(&self, payload: Payload) -> Result<()> {
        self.publish(Message::ServerSideEmit { request: None, payload }).await
    }

    /// Hands an event to the servers of all *other* nodes and gathers one value per node; `None` where it answered
    /// `undefined` or has no handler. Waits for `timeout`, or the configured time.
    ///
    /// # Errors
    /// As of [`ClusterNode::fetch_sockets`], with the values that arrived.
    pub async fn server_side_emit_with_ack(
        &self,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<Payload>>, RequestError<Vec<Option<Payload>>>> {
        self.request_values(payload, timeout).await
    }

    /// Number of nodes, this one included.
    ///
    /// # Errors
    /// `Closed`; where the broker counts the nodes, `Disconnected` or `Broker` if it cannot.
    pub async fn server_count(&self) -> Result<usize> {
        self.check_open()?;
        match &self.shared.backend.node_counter {
            Some(node_counter) => Ok(node_counter.count_nodes(&self.shared.node, &self.peers()).await?.nodes),
            None => Ok(1 + self.shared.peers.borrow().count),
        }
    }

    /// Ids of the other nodes that are known by name, sorted.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        self.shared.peers.borrow().names.clone()
    }

    /// Waits until at least `count` other nodes are known: readiness for tests and start-up.
    ///
    /// # Errors
    /// `Timeout`, saying how many are known; `Closed`.
    pub async fn await_peers(&self, count: usize, limit: Duration) -> Result<()> {
        timeout(limit, self.peers_known(count)).await.unwrap_or_else(|_| {
            let known = self.shared.peers.borrow().count;
            let context = format!("{known} of {count} other nodes are known after {limit:?}");
            Err(Error::new(ErrorKind::Timeout, context))
        })
    }

    async fn peers_known(&self, count: usize) -> Result<()> {
        let mut peers = self.shared.peers.clone();
        let broker_counts = self.shared.capabilities.membership == Membership::BrokerCount;
        // A broker that counts does not tell when its count changes.
        let pause = if broker_counts { RECOUNT } else { Duration::MAX };
        while peers.borrow_and_update().count < count {
            if broker_counts && self.shared.commands.send(Command::CountNodes).await.is_err() {
                return Err(self.closed_error());
            }
            if let Ok(Err(_)) = timeout(pause, peers.changed()).await {
                return Err(self.closed_error());
            }
        }
        Ok(())
    }

    /// Events from now on. A listener that lags by more than 256 loses the oldest and is told so.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.shared.events.subscribe()
    }

    /// Counters of what happened so far.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.shared.metrics.snapshot()
    }

    /// Metrics of the server's own sockets, for the same recorder as the node's and with the same labels. Each call
    /// registers them anew, so call it once.
    #[must_use]
    pub fn server_metrics(&self) -> ServerMetrics {
        ServerMetrics::of(&self.shared.metrics)
    }

    /// State of this node and of its connection to the broker: whether it is connected, since when, the last error, what
    /// was missed, and what else is wrong.
    #[must_use]
    pub fn health(&self) -> Health {
        let mut health = self.shared.backend.transport.health();
        health.since = health.since.or(Some(self.shared.joined_at));
        self.shared.condition.add_to(health, self.metrics())
    }

    /// Begins to leave, at once and from any thread. Idempotent.
    pub fn close(&self) {
        self.shared.closing.token().cancel();
    }

    /// Waits until the node has left and all its tasks have ended. *Cancel safe.*
    pub async fn closed(&self) {
        self.shared.tasks.wait().await;
    }

    // --- what the operations share ---

    pub(super) fn check_open(&self) -> Result<()> {
        let is_closed = self.shared.closing.token().is_cancelled() || self.shared.tasks.is_empty();
        if is_closed { Err(self.closed_error()) } else { Ok(()) }
    }

    pub(super) fn closed_error(&self) -> Error {
        let NodeKey { id, namespace } = &self.shared.node;
        Error::new(ErrorKind::Closed, format!("node {id} of namespace {namespace} has left"))
    }

    /// Changes own sockets.
    pub(super) fn apply(&self, change: impl FnOnce(&dyn Local)) -> Result<()> {
        self.check_open()?;
        change(&*self.local()?);
        Ok(())
    }

    /// Changes the matching sockets, own ones and those of others. With a history, own ones are changed when the message
    /// comes back, behind what was broadcast before.
    pub(super) async fn change(
        &self,
        target: &Target,
        message: Message,
        change: impl FnOnce(&dyn Local),
    ) -> Result<()> {
        if target.flags.local {
            return self.apply(change);
        }
        if self.shared.backend.history.is_none() {
            self.apply(change)?;
            return self.publish(message).await;
        }
        let applied = self.shared.returning.expect(&message);
        if let Err(error) = self.publish(message).await {
            if error.kind() != ErrorKind::Closed {
                self.apply(change)?;
            }
            return Err(error);
        }
        if self.shared.backend.transport.health().connected {
            // With the broker away it is applied when it is back.
            let _ = timeout(self.shared.config.request_timeout, applied).await;
        }
        Ok(())
    }

    pub(super) async fn publish(&self, mut message: Message) -> Result<()> {
        self.check_open()?;
        let _span = trace::publish(self.shared.backend.name, &self.shared.node, &mut message);
        let (kind, bytes) = (MessageKind::of(&message), message.payload_bytes());
        let result = self.shared.backend.publish(&self.shared.node, message).await;
        match &result {
            Ok(()) => {
                self.shared.metrics.published.increment();
                self.shared.metrics.exported.published(kind, || bytes);
            }
            Err(_) => self.shared.metrics.publish_errors.increment(),
        }
        result
    }

    pub(super) fn local(&self) -> Result<Arc<dyn Local>> {
        self.shared.local.upgrade().ok_or_else(|| self.closed_error())
    }

    fn deliver(&self, target: &Target, payload: &Payload) -> DeliveryReport {
        let Some(local) = self.shared.local.upgrade() else { return DeliveryReport::default() };
        let report = local.deliver(target, payload, None);
        self.shared.metrics.sent_to_sockets.add(report.sent);
        self.shared.metrics.dropped_by_sockets.add(report.dropped);
        report
    }

    fn own_sockets(&self, target: &Target) -> Result<Vec<SocketInfo>> {
        let mut sockets = self.local()?.sockets(target);
        for socket in &mut sockets {
            socket.node = Some(self.shared.node.id.clone());
        }
        Ok(sockets)
    }
}

impl fmt::Debug for ClusterNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterNode")
            .field("node", &self.shared.node)
            .field("transport", &self.shared.backend.transport)
            .field("peers", &self.shared.peers.borrow().count)
            .finish_non_exhaustive()
    }
}

/// Passes the rooms in which the server has sockets.
#[derive(Debug)]
struct LocalRooms(Weak<dyn Local>);

impl RoomFilter for LocalRooms {
    fn may_have_members(&self, room: &Room) -> bool {
        room.is_mark() || self.0.upgrade().is_none_or(|local| local.has_room(room))
    }
}

/// Adds what this node has to the answers of the others, whether all of them came or not.
fn with_own<T>(answers: Result<T, RequestError<T>>, add: impl FnOnce(T) -> T) -> Result<T, RequestError<T>> {
    match answers {
        Ok(others) => Ok(add(others)),
        Err(error) => Err(error.map(add)),
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
