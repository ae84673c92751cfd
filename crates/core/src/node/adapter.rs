//! [`Adapter`]: the operations of a node behind a trait, for servers that hold them as `dyn Adapter`.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use tokio::sync::broadcast;

use super::{AckStream, ClusterNode};
use crate::{
    error::Result,
    model::{
        Capabilities, Event, MetricsSnapshot, NodeId, NodeKey, Offset, Probe, RequestError, Room, Session, SessionId,
        SocketId, SocketInfo, Target,
    },
    payload::Payload,
    transport::{Health, MissedBroadcast, RestoredSession},
};

/// Operations of one node of a cluster, as its server calls them. [`ClusterNode`] has the same operations without this
/// trait; what holds for all of them, and for each one, stands there.
///
/// Sealed: [`ClusterNode`] implements it and nothing else can, so that new operations break no code.
#[async_trait]
pub trait Adapter: sealed::Sealed + fmt::Debug + Send + Sync {
    /// Id and namespace of the node; [`ClusterNode::node`].
    fn node(&self) -> &NodeKey;

    /// Promises of the backend; [`ClusterNode::capabilities`].
    fn capabilities(&self) -> Capabilities;

    /// Sends a packet to the matching sockets; [`ClusterNode::broadcast`].
    async fn broadcast(&self, target: Target, payload: Payload) -> Result<()>;

    /// Sends a packet to the matching sockets and gathers their acknowledgements; [`ClusterNode::broadcast_with_ack`].
    async fn broadcast_with_ack(&self, target: Target, payload: Payload) -> Result<AckStream>;

    /// Makes the matching sockets join rooms; [`ClusterNode::sockets_join`].
    async fn sockets_join(&self, target: Target, rooms: Vec<Room>) -> Result<()>;

    /// Makes the matching sockets leave rooms; [`ClusterNode::sockets_leave`].
    async fn sockets_leave(&self, target: Target, rooms: Vec<Room>) -> Result<()>;

    /// Disconnects the matching sockets; [`ClusterNode::disconnect_sockets`].
    async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()>;

    /// Describes the matching sockets; [`ClusterNode::fetch_sockets`].
    async fn fetch_sockets(&self, target: Target) -> Result<Vec<SocketInfo>, RequestError<Vec<SocketInfo>>>;

    /// All rooms of the cluster; [`ClusterNode::all_rooms`].
    async fn all_rooms(&self) -> Result<Vec<Room>, RequestError<Vec<Room>>>;

    /// Hands an event to the servers of all other nodes; [`ClusterNode::server_side_emit`].
    async fn server_side_emit(&self, payload: Payload) -> Result<()>;

    /// Hands an event to the servers of all other nodes and gathers their answers;
    /// [`ClusterNode::server_side_emit_with_ack`].
    async fn server_side_emit_with_ack(
        &self,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<Payload>>, RequestError<Vec<Option<Payload>>>>;

    /// Measures the ways to the broker and to the other nodes; [`ClusterNode::probe`].
    async fn probe(&self, timeout: Duration) -> Result<Probe>;

    /// Number of nodes, this one included; [`ClusterNode::server_count`].
    async fn server_count(&self) -> Result<usize>;

    /// Ids of the other nodes that are known by name; [`ClusterNode::peers`].
    fn peers(&self) -> Vec<NodeId>;

    /// Waits until other nodes are known; [`ClusterNode::await_peers`].
    async fn await_peers(&self, count: usize, timeout: Duration) -> Result<()>;

    /// Tells that rooms got their first local socket; [`ClusterNode::rooms_created`].
    async fn rooms_created(&self, rooms: &[Room]) -> Result<()>;

    /// Tells that the last local socket has left rooms; [`ClusterNode::rooms_deleted`].
    async fn rooms_deleted(&self, rooms: &[Room]) -> Result<()>;

    /// Tells the session id of a connected socket; [`ClusterNode::set_session`].
    async fn set_session(&self, id: SessionId, socket: &SocketId) -> Result<()>;

    /// Keeps the session of a client that may come back; [`ClusterNode::persist_session`].
    async fn persist_session(&self, session: Session) -> Result<()>;

    /// Takes the session of a client that came back; [`ClusterNode::restore_session`].
    async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>>;

    /// Broadcasts after an offset; [`ClusterNode::replay`].
    async fn replay(&self, since: Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>>;

    /// Position in the history; [`ClusterNode::offset`].
    async fn offset(&self) -> Result<Offset>;

    /// Publishes a mark; [`ClusterNode::mark`].
    async fn mark(&self) -> Result<()>;

    /// Events from now on; [`ClusterNode::events`].
    fn events(&self) -> broadcast::Receiver<Event>;

    /// Counters of what happened so far; [`ClusterNode::metrics`].
    fn metrics(&self) -> MetricsSnapshot;

    /// State of the node and of its connection to the broker; [`ClusterNode::health`].
    fn health(&self) -> Health;

    /// Begins to leave; [`ClusterNode::close`].
    fn close(&self);

    /// Waits until the node has left; [`ClusterNode::closed`].
    async fn closed(&self);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::ClusterNode {}
}

#[async_trait]
impl Adapter for ClusterNode {
    fn node(&self) -> &NodeKey {
        self.node()
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities()
    }

    async fn broadcast(&self, target: Target, payload: Payload) -> Result<()> {
        self.broadcast(target, payload).await
    }

    async fn broadcast_with_ack(&self, target: Target, payload: Payload) -> Result<AckStream> {
        self.broadcast_with_ack(target, payload).await
    }

    async fn sockets_join(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        self.sockets_join(target, rooms).await
    }

    async fn sockets_leave(&self, target: Target, rooms: Vec<Room>) -> Result<()> {
        self.sockets_leave(target, rooms).await
    }

    async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()> {
        self.disconnect_sockets(target, close).await
    }

    async fn fetch_sockets(&self, target: Target) -> Result<Vec<SocketInfo>, RequestError<Vec<SocketInfo>>> {
        self.fetch_sockets(target).await
    }

    async fn all_rooms(&self) -> Result<Vec<Room>, RequestError<Vec<Room>>> {
        self.all_rooms().await
    }

    async fn server_side_emit(&self, payload: Payload) -> Result<()> {
        self.server_side_emit(payload).await
    }

    async fn server_side_emit_with_ack(
        &self,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<Payload>>, RequestError<Vec<Option<Payload>>>> {
        self.server_side_emit_with_ack(payload, timeout).await
    }

    async fn probe(&self, timeout: Duration) -> Result<Probe> {
        self.probe(timeout).await
    }

    async fn server_count(&self) -> Result<usize> {
        self.server_count().await
    }

    fn peers(&self) -> Vec<NodeId> {
        self.peers()
    }

    async fn await_peers(&self, count: usize, timeout: Duration) -> Result<()> {
        self.await_peers(count, timeout).await
    }

    async fn rooms_created(&self, rooms: &[Room]) -> Result<()> {
        self.rooms_created(rooms).await
    }

    async fn rooms_deleted(&self, rooms: &[Room]) -> Result<()> {
        self.rooms_deleted(rooms).await
    }

    async fn set_session(&self, id: SessionId, socket: &SocketId) -> Result<()> {
        self.set_session(id, socket).await
    }

    async fn persist_session(&self, session: Session) -> Result<()> {
        self.persist_session(session).await
    }

    async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        self.restore_session(id, since).await
    }

    async fn replay(&self, since: Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.replay(since, rooms).await
    }

    async fn offset(&self) -> Result<Offset> {
        self.offset().await
    }

    async fn mark(&self) -> Result<()> {
        self.mark().await
    }

    fn events(&self) -> broadcast::Receiver<Event> {
        self.events()
    }

    fn metrics(&self) -> MetricsSnapshot {
        self.metrics()
    }

    fn health(&self) -> Health {
        self.health()
    }

    fn close(&self) {
        self.close();
    }

    async fn closed(&self) {
        self.closed().await;
    }
}
