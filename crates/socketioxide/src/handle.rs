//! Operations of an open namespace for which socketioxide has no call.

use std::{collections::HashSet, sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use socketioxide::{adapter::Adapter as ServerAdapter, socket::Socket};
use socketioxide_core::Sid;
use tokio::sync::broadcast;
use trunkline_core::{
    ClusterNode, Event, MetricsSnapshot, NodeId, Payload, Probe, RequestError, Result, Room, Session, SessionId,
    SocketInfo, Target,
    model::{NodeKey, Offset},
    transport::{Health, RestoredSession},
};

use crate::{
    handlers::{ServerSideAnswer, ServerSideEvent},
    handshake::Handshake,
    namespace::OpenNamespace,
};

/// Handle of an open namespace of this server, which is one node of the cluster. Cheap to clone; it keeps nothing open.
#[derive(Clone, Debug)]
pub struct NamespaceHandle(Arc<OpenNamespace>);

impl NamespaceHandle {
    pub(crate) fn new(namespace: Arc<OpenNamespace>) -> Self {
        Self(namespace)
    }

    pub(crate) fn namespace(&self) -> &OpenNamespace {
        &self.0
    }

    /// Node id and namespace.
    #[must_use]
    pub fn node(&self) -> &NodeKey {
        self.0.node.node()
    }

    /// The node of the cluster, whose operations take targets and payloads in place of socketioxide's operators: for
    /// number rooms, or to emit what is encoded already.
    #[must_use]
    pub fn cluster_node(&self) -> &ClusterNode {
        &self.0.node
    }

    // --- sockets ---

    /// Describes the matching sockets of all nodes, with rooms, handshake and data. socketioxide's `fetch_sockets`
    /// returns only their ids, but can act on them.
    ///
    /// # Errors
    /// `Timeout` if not every node has answered, with the sockets that arrived and the nodes that are missing.
    pub async fn fetch_sockets(&self, target: Target) -> Result<Vec<SocketInfo>, RequestError<Vec<SocketInfo>>> {
        let fetched = self.0.node.fetch_sockets(target).await;
        fetched.map(each_room_once).map_err(|error| error.map(each_room_once))
    }

    /// All rooms of the namespace on all nodes, socket ids included, each once.
    ///
    /// # Errors
    /// As of [`NamespaceHandle::fetch_sockets`].
    pub async fn all_rooms(&self) -> Result<Vec<Room>, RequestError<Vec<Room>>> {
        self.0.node.all_rooms().await
    }

    /// Disconnects the matching sockets of all nodes from the namespace; with `close`, Node.js servers close their
    /// connections too, which socketioxide servers cannot.
    ///
    /// # Errors
    /// As of [`ClusterNode::disconnect_sockets`].
    pub async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()> {
        self.0.node.disconnect_sockets(target, close).await
    }

    // --- server-side events ---

    /// Sends an event to the servers of all other nodes. A tuple is a list of arguments.
    ///
    /// # Errors
    /// As of [`ClusterNode::broadcast`].
    pub async fn server_side_emit<T: Serialize + ?Sized>(&self, event: &str, arguments: &T) -> Result<()> {
        self.0.node.server_side_emit(Payload::event(event, arguments)?).await
    }

    /// Sends an event to the servers of all other nodes and returns one answer per node; `None` where a node answered
    /// `undefined` or has no handler. Waits for `timeout`, or for the configured time.
    ///
    /// # Errors
    /// `Timeout` with the answers that arrived and the nodes that are missing; `Malformed` for an answer of another
    /// type.
    pub async fn server_side_emit_with_ack<T, R>(
        &self,
        event: &str,
        arguments: &T,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<R>>, RequestError<Vec<Option<Payload>>>>
    where
        T: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let payload = Payload::event(event, arguments)?;
        let answers = self.0.node.server_side_emit_with_ack(payload, timeout).await?;
        let answers = answers.into_iter().map(|answer| answer.map(|value| value.deserialize()).transpose());
        Ok(answers.collect::<Result<_>>()?)
    }

    /// Registers the handler of a server-side event, as
    /// [`Cluster::on_server_side_event`](crate::Cluster::on_server_side_event) does before the namespace is open.
    pub fn on_server_side_event<F, Fut>(&self, event: &str, handler: F)
    where
        F: Fn(ServerSideEvent) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Into<ServerSideAnswer>> + Send + 'static,
    {
        self.0.handlers.set(event, handler);
    }

    // --- the cluster ---

    /// Ids of the other nodes known by name, sorted.
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

    /// Sends real messages through the broker and measures how long they take: to the broker, back to this node, and to
    /// each other node and back.
    ///
    /// # Errors
    /// As of [`ClusterNode::probe`].
    pub async fn probe(&self, limit: Duration) -> Result<Probe> {
        self.0.node.probe(limit).await
    }

    /// Waits until at least `count` other nodes are known: readiness for tests and start-up.
    ///
    /// # Errors
    /// `Timeout`, saying how many there are.
    pub async fn await_peers(&self, count: usize, timeout: Duration) -> Result<()> {
        self.0.node.await_peers(count, timeout).await
    }

    /// Receiver of cluster events from now on: nodes that come and go, gaps. A receiver that lags by more than 256
    /// events loses the oldest and gets `Lagged`.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.0.node.events()
    }

    /// Counts of messages, gaps, drops and errors since the namespace was opened.
    #[must_use]
    pub fn metrics(&self) -> MetricsSnapshot {
        self.0.node.metrics()
    }

    /// Number of packets that wait for sockets whose buffers are full.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.0.backlogs.len()
    }

    /// State of the node and of its connection to the broker: since when, the last error, what was missed, what else is
    /// wrong.
    #[must_use]
    pub fn health(&self) -> Health {
        self.0.node.health()
    }

    // --- what other nodes see of a socket ---

    /// Describes a socket of this server as other nodes see it; `None` if it is not connected to this namespace.
    #[must_use]
    pub fn describe(&self, socket: Sid) -> Option<SocketInfo> {
        let sockets = self.0.sockets.upgrade()?;
        sockets.is_connected(socket).then(|| sockets.describe(socket))?
    }

    /// Sets the handshake that other nodes get when they fetch the socket, in place of that of its request: with `auth`, or
    /// without what they must not see. For the connect handler.
    ///
    /// # Errors
    /// `Malformed` if it cannot be encoded.
    pub fn set_handshake<A: ServerAdapter>(&self, socket: &Socket<A>, handshake: &Handshake) -> Result<()> {
        let handshake = handshake.payload()?;
        self.0.change_details(socket.id, |details| details.handshake = Some(handshake));
        Ok(())
    }

    /// Sets the data that other nodes get when they fetch the socket: `socket.data` on Node.js servers.
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

    /// Stores the session of a client that may reconnect. See [`NamespaceHandle::persist`] for a connected socket.
    ///
    /// # Errors
    /// `Unsupported` without history.
    pub async fn persist_session(&self, session: Session) -> Result<()> {
        self.0.node.persist_session(session).await
    }

    /// Removes a stored session and returns it with the broadcasts it missed after `since`; `None` if it is unknown or
    /// expired. See [`NamespaceHandle::restore`] for a connected socket.
    ///
    /// # Errors
    /// `Unsupported` without history, `HistoryLost` if the history no longer reaches back that far.
    pub async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        self.0.node.restore_session(id, since).await
    }

    // --- the end ---

    /// Begins to leave the cluster, at once and from any thread. Clients stay connected; `io.delete_ns(…)`,
    /// `io.close()` and dropping the server leave the cluster too.
    pub fn close(&self) {
        self.0.close();
    }

    /// Waits until the namespace is closed, its node has left the cluster and all its tasks have ended.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

/// A socket that the application made join its own room lists that twice.
fn each_room_once(mut sockets: Vec<SocketInfo>) -> Vec<SocketInfo> {
    for socket in &mut sockets {
        let mut seen = HashSet::new();
        socket.rooms.retain(|room| seen.insert(room.clone()));
    }
    sockets
}
