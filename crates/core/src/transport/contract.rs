//! What a broker must implement: one required trait, and small optional ones for what not every broker can do.

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use crate::{
    error::Result,
    model::{
        Capabilities, IdScheme, Message, NodeId, NodeKey, NodeMetrics, Offset, Response, Room, Session, SessionId,
    },
    payload::Payload,
    transport::Inbox,
};

/// Moves typed messages between the nodes of a cluster. One transport serves all namespaces of a process over shared connections.
///
/// Messages are typed because backends store them differently: MongoDB as documents, PostgreSQL with big payloads set aside, classic
/// Redis in a request format of its own. All methods may be called from any task at the same time.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// What this transport promises.
    fn capabilities(&self) -> Capabilities;

    /// Takes a seat in the cluster. On return, whatever a peer publishes afterwards arrives in the inbox.
    ///
    /// A lost connection is restored by the transport, with back-off and full resubscription, and reported in the inbox.
    async fn join(&self, seat: JoinRequest) -> Result<Inbox>;

    /// Queues a message for all nodes of the namespace.
    ///
    /// Returns when the message has its place in the bounded queue, which fixes its order, not when it was sent. While the queue is full
    /// and the broker connected it waits; with the broker away a full queue is an error at once.
    ///
    /// *Cancel safety*: dropped before it returns, the message is either queued whole or not at all.
    ///
    /// # Errors
    /// `TooLarge` (nothing is sent), `QueueFull`, `Disconnected`, `Closed`.
    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()>;

    /// Queues an answer for one node; as [`Transport::publish`].
    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()>;

    /// Gives the seat back. Idempotent; touches no other namespace. The engine has announced the leave before.
    async fn leave(&self, node: &NodeKey) -> Result<()>;

    /// How the connection is doing.
    fn health(&self) -> Health;

    /// Ends all tasks and connections. Returns when they have ended. Idempotent.
    async fn close(&self);
}

/// What a node brings along when it joins.
#[derive(Clone, Debug)]
pub struct JoinRequest {
    /// Who joins, and where.
    pub node: NodeKey,
    /// Tells which rooms have a member here.
    pub room_filter: Arc<dyn RoomFilter>,
    /// Where to count what is dropped before it reaches the inbox.
    pub metrics: Arc<NodeMetrics>,
    /// Bounds of the inbox.
    pub limits: InboxLimits,
}

/// Bounds of an inbox. What comes when they are reached is dropped, counted and reported as a gap, or waited with where the broker holds it
/// for us. A batch that comes before is taken whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InboxLimits {
    /// Messages that may wait.
    pub messages: usize,
    /// Bytes of payload that may wait.
    pub bytes: usize,
}

impl Default for InboxLimits {
    /// 100,000 messages, 64 MiB.
    fn default() -> Self {
        Self { messages: 100_000, bytes: 64 << 20 }
    }
}

/// Lets a reader drop messages for rooms without a local member before it touches their payload. Readers ask it through
/// [`InboxSender::wants`](crate::inbox::InboxSender::wants), which knows of joins that arrived and are not applied yet.
pub trait RoomFilter: fmt::Debug + Send + Sync + 'static {
    /// Whether a socket of this node may be in the room. When in doubt, `true`.
    fn may_have_members(&self, room: &Room) -> bool;
}

/// Wants everything.
#[derive(Clone, Copy, Debug)]
pub struct Unfiltered;

impl RoomFilter for Unfiltered {
    fn may_have_members(&self, _: &Room) -> bool {
        true
    }
}

/// The state of a transport's connection and queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether the broker can be reached.
    pub connected: bool,
    /// Messages waiting to be written.
    pub queued_messages: usize,
    /// Their bytes.
    pub queued_bytes: usize,
    /// How often the connection came back.
    pub reconnects: u64,
}

/// A transport and what else the broker can do. A `dyn Transport` cannot reveal more traits, so they stand beside it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Moves the messages.
    pub transport: Arc<dyn Transport>,
    /// Keeps them for a while, if the broker can and it is switched on. Then every plain broadcast comes back to its sender as
    /// [`Delivery::Stored`](crate::inbox::Delivery::Stored); so do acknowledged ones, with no offset, if they are promised to keep
    /// their order among plain ones.
    pub history: Option<Arc<dyn History>>,
    /// Is told about rooms, if messages travel only where a room has members.
    pub interest: Option<Arc<dyn RoomInterest>>,
    /// Counts the nodes, where peers send no heartbeats.
    pub node_counter: Option<Arc<dyn NodeCounter>>,
    /// How ids look on this backend's wire.
    pub ids: IdScheme,
}

/// Sessions, and replay of missed messages.
#[async_trait]
pub trait History: fmt::Debug + Send + Sync + 'static {
    /// Keeps the session of a client that may come back.
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()>;

    /// Takes a session, once, with what was missed since `since`. `None` if there is no such session (any more).
    ///
    /// # Errors
    /// `HistoryLost` if the session exists but messages since `since` do not any more, `Malformed` for what is no offset.
    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>>;

    /// What was broadcast after `since` to all or to one of `rooms` and not excepted from any of them, in order. Volatile messages and
    /// acknowledged broadcasts are not replayed.
    ///
    /// # Errors
    /// `HistoryLost` if messages since `since` do not exist any more, `Malformed` for what is no offset.
    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>>;
}

/// A session that came back.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredSession {
    /// The session.
    pub session: Session,
    /// What it missed, in order.
    pub missed: Vec<MissedBroadcast>,
}

/// A broadcast that a client missed.
#[derive(Clone, Debug, PartialEq)]
pub struct MissedBroadcast {
    /// Event name and arguments.
    pub payload: Payload,
    /// Where the message lies.
    pub offset: Offset,
}

/// Is told which rooms have local members, where the broker delivers only what somebody wants.
#[async_trait]
pub trait RoomInterest: fmt::Debug + Send + Sync + 'static {
    /// The number of [buckets](crate::interest) that rooms are hashed into, if they are; all nodes must agree, and heartbeats tell.
    fn buckets(&self) -> Option<u16>;

    /// The first local socket enters the room. On return, what is published to the room afterwards arrives.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()>;

    /// The last local socket has left the room. The subscription may linger.
    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()>;
}

/// Counts nodes as the broker sees them.
///
/// The broker knows subscribers, not names. But each node also has a channel of its own for its answers, so the broker can tell which of
/// the nodes that are known by name it sees; whoever is counted beyond them is an official peer.
#[async_trait]
pub trait NodeCounter: fmt::Debug + Send + Sync + 'static {
    /// Counts the nodes of the namespace of `node`, and looks for the `known` ones among them, if possible at the same moment.
    ///
    /// A node subscribes to the counted channel before its own one, and leaves them the other way round: so it is never seen without being
    /// counted, and no official peer is overlooked.
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount>;
}

/// A count of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeCount {
    /// All nodes, this one included.
    pub nodes: usize,
    /// How many of the nodes that were asked about the broker sees.
    pub known: usize,
    /// Those that it does not see.
    pub absent: Vec<NodeId>,
}
