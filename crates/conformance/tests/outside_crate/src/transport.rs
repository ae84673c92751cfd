//! The transport: what nodes publish and subscribe to, put into the queue of the connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::Mutex, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_backend::{JoinedNodes, Outbox, OutboxLimits, batch};
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result,
    Transport, codec,
    model::{SeqChannel, SeqNo},
    transport::{Health, Inbox, JoinRequest, inbox},
};

use crate::{
    connection,
    joined::{JoinedNode, namespace_topic, node_topic},
    wire::{self, Kind, MAX_PACKET, Packet},
};

/// Maximum size of a message. The topic and the numbers come on top of it.
const MAX_MESSAGE: usize = MAX_PACKET - 8192;

/// How long a node waits for the confirmation of its subscriptions.
const JOIN_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a hub. Backends with the same cluster name form one cluster.
///
/// # Errors
/// `Disconnected` if the hub cannot be reached.
pub async fn connect(address: SocketAddr, cluster: &str) -> Result<Backend> {
    let shared = Arc::new(Shared::new(address, cluster));
    let stream = connection::open(&shared).await.map_err(|error| unreachable_hub().with_source(error))?;
    let tasks = TaskTracker::new();
    tasks.spawn(connection::run(Arc::clone(&shared), stream));
    tasks.close();
    let transport = Arc::new(TcpTransport { shared, tasks });
    Ok(Backend::new(transport, IdScheme::Hex16))
}

fn unreachable_hub() -> Error {
    Error::new(ErrorKind::Disconnected, "the hub cannot be reached")
}

/// State shared by the transport and its connection task.
pub struct Shared {
    pub address: SocketAddr,
    pub outbox: Outbox<Bytes>,
    pub closing: CancellationToken,
    cluster: String,
    nodes: JoinedNodes<JoinedNode>,
    /// Held while nodes and subscriptions change, so that both change in the same order.
    subscribing: Mutex<()>,
    reconnects: AtomicU64,
}

impl Shared {
    fn new(address: SocketAddr, cluster: &str) -> Self {
        Self {
            address,
            outbox: Outbox::new(OutboxLimits::default()),
            closing: CancellationToken::new(),
            cluster: cluster.to_owned(),
            nodes: JoinedNodes::default(),
            subscribing: Mutex::default(),
            reconnects: AtomicU64::new(0),
        }
    }

    /// The topics of all nodes. That of a namespace comes second: once it is confirmed, both are.
    pub fn topics(&self) -> Vec<String> {
        let nodes = self.nodes.all();
        nodes.iter().flat_map(|node| [node.node_topic.clone(), node.namespace_topic.clone()]).collect()
    }

    /// Delivers a packet to the nodes it is for, and removes those that no longer read.
    pub fn deliver(&self, packet: &Packet) {
        for node in self.nodes.all() {
            if !node.receive(packet) {
                self.nodes.remove(&node.node);
            }
        }
    }

    /// Reports to all nodes that the connection was lost.
    pub fn lost(&self, why: &str) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        self.nodes.all().iter().for_each(|node| node.lost(why));
    }

    async fn request(&self, kind: Kind, topic: &str) -> Result<()> {
        self.outbox.push(topic.len(), |_| wire::encode(kind, topic, &[])).await
    }

    async fn add(&self, node: Arc<JoinedNode>) -> Result<()> {
        let _subscribing = self.subscribing.lock().await;
        self.nodes.add(&node.node, &node)?;
        self.request(Kind::Subscribe, &node.node_topic).await?;
        self.request(Kind::Subscribe, &node.namespace_topic).await
    }

    async fn remove(&self, key: &NodeKey) -> Result<()> {
        let _subscribing = self.subscribing.lock().await;
        let Some(node) = self.nodes.find(key) else { return Ok(()) };
        self.nodes.remove(key);
        self.outbox.forget(&key.id);
        self.request(Kind::Unsubscribe, &node.node_topic).await?;
        let is_last = self.nodes.all().iter().all(|other| other.namespace_topic != node.namespace_topic);
        if is_last { self.request(Kind::Unsubscribe, &node.namespace_topic).await } else { Ok(()) }
    }

    fn begin_close(&self) {
        self.outbox.close();
        self.closing.cancel();
    }
}

/// An encoded message on its way into the queue.
struct Publication {
    topic: String,
    message: codec::EncodedMessage,
    /// Channel on which the message is numbered, if it is.
    channel: Option<SeqChannel>,
}

impl Publication {
    fn new(topic: String, message: codec::EncodedMessage, channel: Option<SeqChannel>) -> Result<Self> {
        let bytes = message.len();
        if bytes <= MAX_MESSAGE {
            return Ok(Self { topic, message, channel });
        }
        Err(Error::new(ErrorKind::TooLarge, format!("{bytes} bytes, the hub takes {MAX_MESSAGE}")))
    }

    fn finish(self, seq_no: Option<SeqNo>, high_water_marks: &[SeqNo]) -> Bytes {
        wire::encode(Kind::Publish, &self.topic, &self.message.finish(seq_no, high_water_marks))
    }
}

struct TcpTransport {
    shared: Arc<Shared>,
    tasks: TaskTracker,
}

impl TcpTransport {
    fn encode(&self, from: &NodeKey, message: &Message) -> Result<Publication> {
        let topic = namespace_topic(&self.shared.cluster, &from.namespace);
        let is_numbered = message.is_numbered() && !from.id.is_emitter();
        let encoded = batch::encode(&from.id, &from.namespace, message)?;
        Publication::new(topic, encoded, is_numbered.then_some(SeqChannel::ALL))
    }
}

#[async_trait]
impl Transport for TcpTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_max_message_bytes(Some(MAX_MESSAGE))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (sender, inbox) = inbox(request.limits, Arc::clone(&request.metrics));
        let node = Arc::new(JoinedNode::new(&self.shared.cluster, &request, sender));
        let mut subscribed = node.subscribed.subscribe();
        self.shared.add(node).await?;
        let confirmed = timeout(JOIN_TIMEOUT, subscribed.wait_for(|subscribed| *subscribed)).await;
        confirmed.map(|_| inbox).map_err(|_| unreachable_hub())
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let publication = self.encode(from, &message)?;
        let (channel, bytes) = (publication.channel, publication.message.len());
        let finish = |seq_no, marks: &[SeqNo]| publication.finish(seq_no, marks);
        let is_queued = self.shared.outbox.try_push_message(&from.id, channel, bytes, finish)?;
        Ok((!is_queued).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let publication = self.encode(from, &message)?;
        let (channel, bytes) = (publication.channel, publication.message.len());
        let finish = |seq_no, marks: &[SeqNo]| publication.finish(seq_no, marks);
        self.shared.outbox.push_message(&from.id, channel, bytes, finish).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        let encoded = batch::encode(&from.id, &from.namespace, response)?;
        let publication = Publication::new(node_topic(&self.shared.cluster, to), encoded, None)?;
        let bytes = publication.message.len();
        self.shared.outbox.push(bytes, |_| publication.finish(None, &[])).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.shared.remove(node).await
    }

    async fn flush(&self) -> Result<()> {
        self.shared.outbox.flush().await
    }

    fn health(&self) -> Health {
        let (connected, ..) = self.shared.outbox.status();
        let health = self.shared.outbox.add_to(Health::default().with_connected(connected));
        health.with_reconnects(self.shared.reconnects.load(Ordering::Relaxed))
    }

    async fn close(&self) {
        self.shared.begin_close();
        self.tasks.wait().await;
    }
}

impl Drop for TcpTransport {
    /// Without `close`, the connection task ends by itself.
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl fmt::Debug for TcpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpTransport").field("address", &self.shared.address).finish_non_exhaustive()
    }
}
