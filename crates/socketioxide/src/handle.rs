//! One open namespace, for what socketioxide has no call.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, de::DeserializeOwned};
use socketioxide::{adapter::Adapter as ServerAdapter, socket::Socket};
use socketioxide_core::{Sid, packet::Packet};
use tokio::sync::broadcast;
use trunkline_core::{
    Adapter, ClusterNode, Event, MetricsSnapshot, NodeId, Payload, Result, Session, SessionId,
    model::{NodeKey, Offset},
    transport::{Health, RestoredSession},
};

use crate::{
    handlers::{Handlers, ServerSideAnswer, ServerSideEvent},
    handshake::Handshake,
    keeper::Interest,
    lanes::Lanes,
    sockets::{Attached, Details},
    tasks::Tasks,
};

/// An open namespace of this server: one node of the cluster. Cheap to clone; it keeps nothing open.
#[derive(Clone, Debug)]
pub struct Handle(Arc<Opened>);

/// What the adapter of a namespace and its handles share.
pub(crate) struct Opened {
    pub(crate) sockets: Weak<dyn Sockets>,
    pub(crate) node: ClusterNode,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) attached: Attached,
    pub(crate) tasks: Arc<Tasks>,
    pub(crate) lanes: Lanes,
    pub(crate) interest: Interest,
    /// Set when the namespace was opened a second time: see [`Opened::supersede`].
    pub(crate) superseded: AtomicBool,
    /// Whether events carry their offset as last argument.
    pub(crate) appends_offsets: bool,
    /// Up to how many sockets are served one by one.
    pub(crate) paced_sockets: usize,
}

/// The server's sockets, whatever the type of its adapter.
pub(crate) trait Sockets: Send + Sync {
    /// Whether the socket is connected to this namespace.
    fn is_connected(&self, socket: Sid) -> bool;

    /// An event for sockets of this namespace.
    fn event(&self, payload: &Payload) -> Option<Packet>;
}

impl Opened {
    fn is_connected(&self, socket: Sid) -> bool {
        self.sockets.upgrade().is_some_and(|sockets| sockets.is_connected(socket))
    }

    fn change_details(&self, socket: Sid, change: impl FnOnce(&mut Details)) {
        self.attached.change(socket, |other| self.is_connected(other), change);
    }

    /// Begins to leave the cluster and ends all tasks. From any thread, any number of times.
    pub(crate) fn close(&self) {
        self.node.close();
        self.tasks.close();
    }

    /// Two clients that name a dynamic namespace at once open it twice. socketioxide forgets the first opening: its client goes on hearing
    /// the cluster, but is hung up on when it speaks, and then comes back to the second one. Nobody but this adapter notices that its
    /// socket is closed, and that this opening is over.
    pub(crate) fn supersede(&self) {
        self.superseded.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::Relaxed)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.tasks.is_closed()
    }

    pub(crate) async fn closed(&self) {
        self.tasks.closed().await;
        self.node.closed().await;
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("node", &self.node).field("handlers", &self.handlers).finish_non_exhaustive()
    }
}

impl Handle {
    pub(crate) fn new(opened: Arc<Opened>) -> Self {
        Self(opened)
    }

    pub(crate) fn opened(&self) -> &Opened {
        &self.0
    }

    /// This node: its id, and the namespace.
    #[must_use]
    pub fn node(&self) -> &NodeKey {
        self.0.node.node()
    }

    /// All operations of the cluster, for targets and payloads of their own kind.
    #[must_use]
    pub fn adapter(&self) -> Arc<dyn Adapter> {
        Arc::new(self.0.node.clone())
    }

    // --- server-side events ---

    /// Sends an event to the servers of all other nodes. A tuple is a list of arguments.
    ///
    /// # Errors
    /// As of [`Adapter::broadcast`].
    pub async fn server_side_emit<T: Serialize + ?Sized>(&self, event: &str, arguments: &T) -> Result<()> {
        self.0.node.server_side_emit(Payload::event(event, arguments)?).await
    }

    /// As [`Handle::server_side_emit`], and gathers one answer per node; `None` where a node answered `undefined` or has no handler.
    /// Waits for `timeout`, or for the configured time.
    ///
    /// # Errors
    /// `Timeout` with the answers that arrived and the nodes that are missing; `Malformed` for an answer that is no `R`.
    pub async fn server_side_emit_with_ack<T, R>(
        &self,
        event: &str,
        arguments: &T,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<R>>>
    where
        T: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let payload = Payload::event(event, arguments)?;
        let answers = self.0.node.server_side_emit_with_ack(payload, timeout).await?;
        answers.into_iter().map(|answer| answer.map(|value| value.deserialize()).transpose()).collect()
    }

    /// Registers the handler of a server-side event. See [`ClusterNode::on_server_side_event`](crate::Cluster::on_server_side_event), which
    /// can be called before the namespace is open.
    pub fn on_server_side_event<F, Fut>(&self, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<ServerSideAnswer>> + Send + 'static,
    {
        self.0.handlers.set(event, handler);
    }

    // --- the cluster ---

    /// The other nodes known by name, sorted.
    #[must_use]
    pub fn peers(&self) -> Vec<NodeId> {
        self.0.node.peers()
    }

    /// The number of nodes, this one included.
    ///
    /// # Errors
    /// `Closed`, or what the broker says where it is asked.
    pub async fn server_count(&self) -> Result<usize> {
        self.0.node.server_count().await
    }

    /// Waits until at least `count` other nodes are known: readiness for tests and start-up.
    ///
    /// # Errors
    /// `Timeout`, saying how many there are.
    pub async fn await_peers(&self, count: usize, timeout: Duration) -> Result<()> {
        self.0.node.await_peers(count, timeout).await
    }

    /// Events from now on. A listener that lags by more than 256 loses the oldest and is told so.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.node.events()
    }

    /// What happened so far, in numbers.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.0.node.metrics()
    }

    /// Packets that wait for sockets whose buffers are full.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.0.lanes.waiting()
    }

    /// How the connection to the broker is doing.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.node.health()
    }

    // --- what other nodes see of a socket ---

    /// Shows a client's handshake to other nodes that fetch its socket; without it they see an empty one. Call it in the connect handler.
    ///
    /// # Errors
    /// `Malformed` if it cannot be encoded.
    pub fn attach<A: ServerAdapter>(&self, socket: &Socket<A>, handshake: &Handshake) -> Result<()> {
        let handshake = handshake.payload()?;
        self.0.change_details(socket.id, |details| details.handshake = Some(handshake));
        Ok(())
    }

    /// Shows the application's data of a socket to other nodes that fetch it: `socket.data` on Node.js ones.
    ///
    /// # Errors
    /// `Malformed` if it cannot be encoded.
    pub fn set_data<A, T>(&self, socket: &Socket<A>, data: &T) -> Result<()>
    where
        A: ServerAdapter,
        T: Serialize + ?Sized,
    {
        let data = Payload::value(data)?;
        self.0.change_details(socket.id, |details| details.data = Some(data));
        Ok(())
    }

    // --- recovery ---

    /// Keeps the session of a client that may come back.
    ///
    /// # Errors
    /// `Unsupported` without history.
    pub async fn persist_session(&self, session: Session) -> Result<()> {
        self.0.node.persist_session(session).await
    }

    /// Takes a session, once, with what it missed since `since`; `None` if it is unknown or expired.
    ///
    /// # Errors
    /// `Unsupported` without history, `HistoryLost` if the history no longer reaches back that far.
    pub async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        self.0.node.restore_session(id, since).await
    }

    // --- the end ---

    /// Waits until the namespace is closed, the node has left and all its tasks have ended. Close it by `io.delete_ns(…)`, `io.close()`
    /// or by dropping the server.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
