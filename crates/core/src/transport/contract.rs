//! What a broker must implement: one required trait, and small optional ones for what not every broker can do.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::Inbox;
use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        Capabilities, IdScheme, Membership, Message, NodeId, NodeKey, NodeMetrics, Offset, Response, Room, Session,
        SessionId, setters,
    },
    payload::Payload,
};

/// Moves typed messages between the nodes of a cluster. One transport serves all namespaces of a process over shared
/// connections.
///
/// Messages are typed because backends store them differently: MongoDB as documents, PostgreSQL with big payloads set
/// aside, classic Redis in a request format of its own. All methods may be called from any task at the same time. There
/// are no provided methods, so that a wrapper cannot forget to forward one.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Promises of this transport. Those that follow from the parts of a [`Backend`] are added by
    /// [`Backend::capabilities`].
    fn capabilities(&self) -> Capabilities;

    /// Joins a node to the cluster. On return, whatever a peer publishes afterwards arrives in the inbox.
    ///
    /// A lost connection is restored by the transport, with back-off and full resubscription, and reported in the
    /// inbox.
    ///
    /// # Errors
    /// `Config` if the node has joined already, `Disconnected` or `Broker` if the broker does not take the
    /// subscription, `Closed`.
    async fn join(&self, request: JoinRequest) -> Result<Inbox>;

    /// Queues a message for all nodes of the namespace if that takes no waiting; otherwise hands it back, for
    /// [`Transport::publish`].
    ///
    /// # Errors
    /// As [`Transport::publish`].
    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>>;

    /// Queues a message for all nodes of the namespace.
    ///
    /// Returns when the message has its place in the bounded queue, which fixes its order, not when it was sent. While
    /// the queue is full and the broker connected it waits; with the broker away a full queue is an error at once.
    ///
    /// *Cancel safety*: dropped before it returns, the message is either queued whole or not at all.
    ///
    /// # Errors
    /// `TooLarge` (nothing is sent), `QueueFull`, `Disconnected`, `Closed`.
    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()>;

    /// Queues an answer for one node; as [`Transport::publish`].
    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()>;

    /// Ends the membership of a node. Idempotent; touches no other namespace. The engine has announced the leave
    /// before: this returns when that, and what was queued before it, is with the broker, as the process may end then.
    ///
    /// # Errors
    /// `Disconnected` or `Broker` if the broker could not be told; it finds out by itself.
    async fn leave(&self, node: &NodeKey) -> Result<()>;

    /// Returns when what was queued before is with the broker, confirmed where it confirms, or was refused by it, which
    /// [`Health::refused_messages`] counts.
    ///
    /// *Cancel safe*: what is queued stays queued.
    ///
    /// # Errors
    /// `Disconnected` or `Timeout` if the broker takes nothing for as long as a publish waits for room.
    async fn flush(&self) -> Result<()>;

    /// State of the connection and of the queue.
    fn health(&self) -> Health;

    /// Ends all tasks and connections. Returns when they have ended. Idempotent.
    async fn close(&self);
}

/// What a node brings along when it joins.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct JoinRequest {
    /// Id of the node and the namespace it joins.
    pub node: NodeKey,
    /// Tells which rooms may have a member on the node.
    pub room_filter: Arc<dyn RoomFilter>,
    /// Counts what is dropped before it reaches the inbox.
    pub metrics: Arc<NodeMetrics>,
    /// Bounds of the inbox.
    pub limits: InboxLimits,
}

impl JoinRequest {
    /// Request of `node`, whose rooms `room_filter` knows, with an inbox of these `limits`.
    #[must_use]
    pub fn new(
        node: NodeKey,
        room_filter: Arc<dyn RoomFilter>,
        metrics: Arc<NodeMetrics>,
        limits: InboxLimits,
    ) -> Self {
        Self { node, room_filter, metrics, limits }
    }

    /// The same with another filter of rooms.
    #[must_use]
    pub fn with_room_filter(self, room_filter: Arc<dyn RoomFilter>) -> Self {
        Self { room_filter, ..self }
    }
}

/// Bounds of an inbox. What comes when they are reached is dropped, counted and reported as a gap, or waited with where
/// the broker holds it for us. A batch that comes before is taken whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct InboxLimits {
    /// Messages that may wait. Default 100,000.
    pub messages: usize,
    /// Bytes of payload that may wait. Default 64 MiB.
    pub bytes: usize,
}

setters!(InboxLimits { with_messages(messages: usize), with_bytes(bytes: usize) });

impl Default for InboxLimits {
    fn default() -> Self {
        Self { messages: 100_000, bytes: 64 << 20 }
    }
}

/// Lets a reader drop messages for rooms without a local member before it touches their payload. Readers ask it through
/// [`InboxSender::may_have_members`](super::InboxSender::may_have_members), which knows of joins that arrived and are
/// not applied yet.
pub trait RoomFilter: fmt::Debug + Send + Sync + 'static {
    /// Whether a socket of this node may be in the room. When in doubt, `true`.
    fn may_have_members(&self, room: &Room) -> bool;
}

/// A [`RoomFilter`] that drops nothing.
#[derive(Clone, Copy, Debug)]
pub struct Unfiltered;

impl RoomFilter for Unfiltered {
    fn may_have_members(&self, _: &Room) -> bool {
        true
    }
}

/// State of a transport's connection and queue and, from a node, of what it has missed. Serializable, for an endpoint that reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Health {
    /// Whether messages can be sent to the broker and received from it.
    pub connected: bool,
    /// Why not, as far as the last attempt has told; `None` while connected. Never a secret.
    pub reason: Option<String>,
    /// Since when it is connected, or not. `None` from a transport that was connected all the time. Serialized as
    /// milliseconds since the Unix epoch.
    #[serde(with = "unix_millis")]
    pub since: Option<SystemTime>,
    /// Messages waiting to be written.
    pub queued_messages: usize,
    /// Bytes of the messages that wait or are written and unconfirmed.
    pub queued_bytes: usize,
    /// Age of the oldest message waiting to be written. Serialized as milliseconds.
    #[serde(with = "millis")]
    pub oldest_queued: Option<Duration>,
    /// How often the connection came back.
    pub reconnects: u64,
    /// Messages that the broker refused for good, since the transport was connected: they are lost.
    pub refused_messages: u64,
    /// Why the last of them was refused. Never a secret.
    pub refusal: Option<String>,
    /// Why the connection was lost last, also after its return. Never a secret.
    pub last_error: Option<String>,
    /// Gaps that the node has reported.
    pub gaps: u64,
    /// Messages that the node is known to have missed, over all gaps.
    pub missed_messages: u64,
    /// What else is wrong with the node, in words: refused messages, different settings on another node, and within the
    /// last minute gaps and nodes that fell silent. Never a secret.
    pub degraded: Vec<String>,
}

setters!(Health {
    with_connected(connected: bool),
    with_queued_messages(queued_messages: usize),
    with_queued_bytes(queued_bytes: usize),
    with_oldest_queued(oldest_queued: Option<Duration>),
    with_reconnects(reconnects: u64),
});

impl Health {
    /// The same, not connected since then, for this reason.
    #[must_use]
    pub fn with_loss(self, reason: impl Into<String>, since: SystemTime) -> Self {
        let reason = reason.into();
        let last_error = Some(reason.clone());
        Self { connected: false, reason: Some(reason), since: Some(since), last_error, ..self }
    }

    /// The same, after a loss for this reason that was over then.
    #[must_use]
    pub fn with_return(self, reason: impl Into<String>, since: SystemTime) -> Self {
        Self { since: Some(since), last_error: Some(reason.into()), ..self }
    }

    /// The same, after the broker refused so many messages, the last one for this reason.
    #[must_use]
    pub fn with_refused(self, refused_messages: u64, refusal: Option<String>) -> Self {
        Self { refused_messages, refusal, ..self }
    }
}

/// A duration as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(time: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<u64>::deserialize(deserializer)?.map(Duration::from_millis))
    }
}

/// A time as milliseconds since the Unix epoch, as JavaScript has it.
mod unix_millis {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(time: &Option<SystemTime>, serializer: S) -> Result<S::Ok, S::Error> {
        let since_epoch = time.map(|time| time.duration_since(UNIX_EPOCH).unwrap_or_default());
        since_epoch.map(|passed| u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SystemTime>, D::Error> {
        let millis = Option::<u64>::deserialize(deserializer)?;
        Ok(millis.and_then(|millis| UNIX_EPOCH.checked_add(Duration::from_millis(millis))))
    }
}

/// A transport and what else the broker can do. A `dyn Transport` cannot reveal more traits, so they stand beside it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Backend {
    /// What the backend is called where several are compared, such as `redis-streams`; default `custom`.
    pub name: &'static str,
    /// Moves the messages.
    pub transport: Arc<dyn Transport>,
    /// Keeps them for a while, if the broker can and it is switched on. Then every plain broadcast comes back to its
    /// sender as [`Delivery::Stored`](crate::model::Delivery::Stored); so do acknowledged ones, with no offset, if they
    /// are promised to keep their order among plain ones.
    pub history: Option<Arc<dyn History>>,
    /// Is told about rooms, if messages travel only where a room has members.
    pub interest: Option<Arc<dyn RoomInterest>>,
    /// Counts the nodes, where peers send no heartbeats.
    pub node_counter: Option<Arc<dyn NodeCounter>>,
    /// Form of the ids on this backend's wire.
    pub ids: IdScheme,
}

impl Backend {
    /// Backend over `transport`, whose nodes and requests get ids of this form, without any of the optional parts.
    #[must_use]
    pub fn new(transport: Arc<dyn Transport>, ids: IdScheme) -> Self {
        Self { name: "custom", transport, history: None, interest: None, node_counter: None, ids }
    }

    /// The same with a name, which becomes the label `backend` of its nodes' metrics.
    #[must_use]
    pub fn with_name(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    /// The same, keeping messages and sessions.
    #[must_use]
    pub fn with_history(self, history: Arc<dyn History>) -> Self {
        Self { history: Some(history), ..self }
    }

    /// The same, with a broker that is told about rooms.
    #[must_use]
    pub fn with_interest(self, interest: Arc<dyn RoomInterest>) -> Self {
        Self { interest: Some(interest), ..self }
    }

    /// The same, with a broker that counts the nodes.
    #[must_use]
    pub fn with_node_counter(self, node_counter: Arc<dyn NodeCounter>) -> Self {
        Self { node_counter: Some(node_counter), ..self }
    }

    /// Promises of this backend: those of its transport, and what follows from its other parts.
    ///
    /// # Errors
    /// `Config` if the transport promises what needs a part that is missing: a broker that counts, without a
    /// [`NodeCounter`].
    pub fn capabilities(&self) -> Result<Capabilities> {
        let mut capabilities = self.transport.capabilities();
        if (capabilities.membership == Membership::BrokerCount) != self.node_counter.is_some() {
            let context = format!(
                "membership {:?} with{} node counter",
                capabilities.membership,
                if self.node_counter.is_some() { " a" } else { "out a" }
            );
            return Err(Error::new(ErrorKind::Config, context));
        }
        capabilities.history = self.history.is_some();
        capabilities.room_interest |= self.interest.is_some();
        Ok(capabilities)
    }

    /// Publishes a message; see [`Transport::publish`]. Boxes no future where the queue has room.
    pub(crate) async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        match self.transport.try_publish(from, message)? {
            None => Ok(()),
            Some(message) => self.transport.publish(from, message).await,
        }
    }
}

/// Sessions, and replay of missed messages.
#[async_trait]
pub trait History: fmt::Debug + Send + Sync + 'static {
    /// Keeps the session of a client that may come back.
    ///
    /// # Errors
    /// `Disconnected` or `Broker` if it could not be stored.
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()>;

    /// Takes a session, once, with what was missed since `since`. `None` if there is no such session (any more).
    ///
    /// # Errors
    /// `HistoryLost` if the session exists but messages since `since` do not any more, `Malformed` for what is no
    /// offset.
    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>>;

    /// What was broadcast after `since` to all or to one of `rooms` and not excepted from any of them, in order.
    /// Volatile messages and acknowledged broadcasts are not replayed.
    ///
    /// # Errors
    /// `HistoryLost` if messages since `since` do not exist any more, `Malformed` for what is no offset.
    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>>;

    /// How far back the history reaches: the age of the oldest message that it keeps. `None` if it keeps none, or if
    /// the broker cannot be asked for it without reading the history.
    ///
    /// # Errors
    /// `Disconnected` or `Broker` if the broker could not be asked.
    async fn reach(&self, node: &NodeKey) -> Result<Option<Duration>>;
}

/// The session of a client that came back.
#[derive(Clone, Debug, PartialEq)]
pub struct RestoredSession {
    /// The session.
    pub session: Session,
    /// What the client missed, in order.
    pub missed: Vec<MissedBroadcast>,
}

/// A broadcast that a client missed.
#[derive(Clone, Debug, PartialEq)]
pub struct MissedBroadcast {
    /// Event name and arguments.
    pub payload: Payload,
    /// Position of the message in the history.
    pub offset: Offset,
}

/// Is told which rooms have local members, where the broker delivers only what a node has subscribed to.
#[async_trait]
pub trait RoomInterest: fmt::Debug + Send + Sync + 'static {
    /// Number of buckets that rooms are hashed into, if they are; all nodes must agree, and heartbeats tell.
    fn buckets(&self) -> Option<u16>;

    /// Number of keys of rooms (buckets, or a channel each) that a node subscribes to now.
    fn subscriptions(&self, node: &NodeKey) -> usize;

    /// Whether the node is subscribed to the room: what is published to the room arrives.
    fn is_active(&self, node: &NodeKey, room: &Room) -> bool;

    /// Subscribes a node to a room that got its first local socket (Socket.IO's `create-room`). On return, what is
    /// published to the room afterwards arrives.
    ///
    /// # Errors
    /// `Disconnected` if the broker is away; the subscription follows when it is back.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()>;

    /// Ends the subscription of a node to a room whose last local socket has left (Socket.IO's `delete-room`). It may
    /// linger.
    ///
    /// # Errors
    /// `Disconnected` if the broker is away.
    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()>;
}

/// Counts nodes as the broker sees them.
///
/// The broker knows subscribers, not names. But each node also has a channel of its own for its answers, so the broker
/// can tell which of the nodes that are known by name it sees; those counted beyond them are official peers.
#[async_trait]
pub trait NodeCounter: fmt::Debug + Send + Sync + 'static {
    /// Counts the nodes of the namespace of `node`, and looks for the `known` ones among them, if possible at the same
    /// moment.
    ///
    /// A node subscribes to the counted channel before its own one, and leaves them the other way round: so it is never
    /// seen without being counted, and no official peer is overlooked.
    ///
    /// # Errors
    /// `Disconnected` or `Broker` if the broker could not be asked.
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount>;
}

/// A count of nodes by the broker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeCount {
    /// Number of all nodes, the asking one included.
    pub nodes: usize,
    /// Number of the nodes asked about that the broker sees.
    pub known: usize,
    /// Nodes asked about that the broker does not see.
    pub absent: Vec<NodeId>,
}

impl NodeCount {
    /// `nodes` in all, of which `known` were asked about, and `absent` asked about and not seen.
    #[must_use]
    pub fn new(nodes: usize, known: usize, absent: Vec<NodeId>) -> Self {
        Self { nodes, known, absent }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use serde_json::json;

    use super::Health;

    #[test]
    fn a_health_goes_through_json_with_its_time_in_milliseconds() {
        let health = Health::default().with_loss("refused", UNIX_EPOCH + Duration::from_millis(1_700_000_000_123));
        let json = serde_json::to_value(&health).unwrap();
        assert_eq!((&json["reason"], &json["since"]), (&json!("refused"), &json!(1_700_000_000_123_u64)));
        assert_eq!(serde_json::from_value::<Health>(json).unwrap(), health);
        // What an older version does not tell, and what a newer one tells.
        let health: Health = serde_json::from_value(json!({ "connected": true, "news": 1 })).unwrap();
        assert_eq!(health, Health::default().with_connected(true));
    }
}
