//! The nodes of this process, and which subscription brings messages to which of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
};

use bytes::Bytes;
use futures_util::future::{BoxFuture, join, join_all};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use trunkline_backend::{
    JoinedNodes, KnownPeers,
    decoder::{InboundDecoder, push_decoded},
    known_peers::{HOLD, until_back},
};
use trunkline_core::{
    Gap, GapCause, NodeKey, NodeMetrics, Result,
    model::Delivery,
    transport::{Inbox, InboxSender, JoinRequest, inbox},
};

use crate::{
    connect::{Hold, ServerPool},
    subscribe::{MessageHandler, PubSubMessage, Topic},
};

/// Payloads below this are copied, so that they do not keep alive the much larger buffer that was read.
const COPIED_BELOW: usize = 4 << 10;

/// The sending end of a node's inbox, and the decoding of what goes into it.
#[derive(Debug)]
pub(crate) struct NodeInbox {
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) decoder: InboundDecoder,
    peers: KnownPeers,
    sender: Arc<InboxSender>,
}

/// Initial heartbeat of a node that is subscribed again, to which its peers answer with theirs. It is sent ahead of held
/// messages, and so without high-water marks.
#[derive(Debug)]
pub(crate) struct Hello {
    channel: Bytes,
    command: redis::Cmd,
    /// Whether numbers tell how much was missed.
    is_numbered: bool,
}

impl Hello {
    /// A hello with this payload.
    pub(crate) fn new(sharded: bool, channel: Bytes, payload: &[u8], is_numbered: bool) -> Self {
        let mut command = redis::cmd(if sharded { "SPUBLISH" } else { "PUBLISH" });
        command.arg(channel.as_ref()).arg(payload);
        Self { channel, command, is_numbered }
    }

    async fn say(&self, servers: &ServerPool) {
        if let Err(error) = servers.run_at::<()>(&self.channel, &self.command).await {
            tracing::debug!(%error, "peers were not told that a node is back");
        }
    }
}

/// What a channel of cluster messages, `{type, data, uid, nsp}`, carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChannelKind {
    /// The channel of a namespace, or of a room.
    Public,
    /// The channel of a node, which only answers come through; the official sharded adapter does not look at their
    /// namespace.
    Private,
}

impl NodeInbox {
    pub(crate) fn new(request: JoinRequest) -> (Self, Inbox) {
        let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
        let sender = Arc::new(sender);
        let decoder = InboundDecoder::with_pending_joins(&sender, &request).copying_below(COPIED_BELOW);
        let JoinRequest { node, metrics, .. } = request;
        (Self { node, metrics, decoder, peers: KnownPeers::default(), sender }, receiver)
    }

    /// Makes a delivery of a cluster message, or counts why not.
    pub(crate) fn decode(&self, bytes: &Bytes, kind: ChannelKind) -> Option<Delivery> {
        match kind {
            ChannelKind::Public => self.decoder.decode(bytes),
            ChannelKind::Private => self.decoder.decode_response(bytes),
        }
    }

    /// Hands over deliveries that are decoded one by one, lazily.
    pub(crate) fn deliver(&self, decoded: impl Iterator<Item = Delivery>) {
        push_decoded(&self.sender, decoded.inspect(|delivery| self.peers.note(delivery)));
    }

    pub(crate) fn push(&self, delivery: Delivery) {
        self.sender.push([delivery]);
    }

    /// Waits until the inbox is below its limits, or gone.
    pub(crate) async fn ready(&self) {
        self.sender.ready().await;
    }

    /// Whether what is handed over now would be dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.sender.is_full()
    }

    pub(crate) fn missed(&self) {
        self.push(Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }));
    }

    fn lost(&self, reason: &str) {
        self.push(Delivery::Lost(reason.to_owned()));
    }

    fn restored(&self) {
        self.metrics.reconnects.increment();
        self.push(Delivery::Connected);
    }
}

/// What a transport keeps for a node that has joined.
pub(crate) trait JoinedNode: fmt::Debug + Send + Sync + 'static {
    /// What a subscription means to a node.
    type Kind: Copy + Eq + fmt::Debug + Send + Sync;

    fn inbox(&self) -> &NodeInbox;

    /// Makes a delivery of a message, or counts why not.
    fn decode(&self, message: &PubSubMessage, kind: Self::Kind) -> Option<Delivery>;

    /// Messages may have been missed.
    fn missed(&self);

    /// What its peers are told when it is back; `None` if what is held need not wait for them, because a stream keeps
    /// it.
    fn hello(&self) -> Option<&Hello>;
}

/// The nodes of a transport, and the topics that bring messages for them.
#[derive(Debug)]
pub(crate) struct SubscribedNodes<N: JoinedNode> {
    pub(crate) joined: JoinedNodes<N>,
    topics: RwLock<Routes<N>>,
    closing: CancellationToken,
}

type Routes<N> = HashMap<Topic, Vec<(Arc<N>, <N as JoinedNode>::Kind)>>;

impl<N: JoinedNode> Default for SubscribedNodes<N> {
    fn default() -> Self {
        Self { joined: JoinedNodes::default(), topics: RwLock::default(), closing: CancellationToken::new() }
    }
}

impl<N: JoinedNode> SubscribedNodes<N> {
    /// # Errors
    /// `Config` if the node has joined already, `Closed` if the transport was closed.
    pub(crate) fn add(&self, joined: &Arc<N>, topics: impl IntoIterator<Item = (Topic, N::Kind)>) -> Result<()> {
        self.joined.add(&joined.inbox().node, joined)?;
        topics.into_iter().for_each(|(topic, kind)| self.connect(joined, topic, kind));
        Ok(())
    }

    pub(crate) fn remove(&self, node: &NodeKey) -> Option<Arc<N>> {
        let joined = self.joined.remove(node)?;
        self.routes().retain(|_, routes| {
            routes.retain(|(other, _)| !Arc::ptr_eq(other, &joined));
            !routes.is_empty()
        });
        Some(joined)
    }

    /// Removes all nodes, for good. Their inboxes end.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        for joined in self.joined.close() {
            self.remove(&joined.inbox().node);
        }
    }

    /// Routes a topic to a node, unless that has left.
    pub(crate) fn connect(&self, joined: &Arc<N>, topic: Topic, kind: N::Kind) {
        let mut routes = self.routes();
        if self.joined.find(&joined.inbox().node).is_some() {
            routes.entry(topic).or_default().push((Arc::clone(joined), kind));
        }
    }

    /// Stops routing a topic to a node.
    pub(crate) fn disconnect(&self, joined: &Arc<N>, topic: &Topic, kind: N::Kind) {
        let mut topics = self.routes();
        let Some(routes) = topics.get_mut(topic) else { return };
        routes.retain(|(other, as_kind)| !(Arc::ptr_eq(other, joined) && *as_kind == kind));
        if routes.is_empty() {
            topics.remove(topic);
        }
    }

    /// The nodes to which these topics bring messages, each once.
    fn concerned(&self, topics: &[Topic]) -> Vec<Arc<N>> {
        let routes = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let concerned = topics.iter().filter_map(|topic| routes.get(topic)).flatten();
        let concerned: HashMap<_, _> = concerned.map(|(joined, _)| (&joined.inbox().node, joined)).collect();
        concerned.into_values().cloned().collect()
    }

    fn routes(&self) -> RwLockWriteGuard<'_, Routes<N>> {
        self.topics.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_routed<N: JoinedNode>(routes: &Routes<N>, joined: &Arc<N>, topic: &Topic) -> bool {
    routes.get(topic).into_iter().flatten().any(|(other, _)| Arc::ptr_eq(other, joined))
}

impl<N: JoinedNode> MessageHandler for SubscribedNodes<N> {
    fn received(&self, batch: &mut Vec<PubSubMessage>) {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        // Messages of one topic often come in a row.
        for run in batch.chunk_by(|message, next| message.topic == next.topic) {
            for (joined, kind) in topics.get(&run[0].topic).into_iter().flatten() {
                let is_repeat = |message: &&PubSubMessage| {
                    message.came_by_name && is_routed(&topics, joined, &Topic::Channel(message.channel.clone()))
                };
                let messages = run.iter().filter(|message| !is_repeat(message));
                joined.inbox().deliver(messages.filter_map(|message| joined.decode(message, *kind)));
            }
        }
    }

    fn missed(&self, topics: &[Topic]) {
        self.concerned(topics).iter().for_each(|joined| joined.missed());
    }

    fn await_peers(&self, topics: &[Topic], servers: Arc<ServerPool>, hold: Hold) -> BoxFuture<'static, ()> {
        let (nodes, closing) = (self.concerned(topics), self.closing.clone());
        nodes.iter().filter(|joined| joined.hello().is_some()).for_each(|joined| joined.inbox().peers.lost());
        Box::pin(async move {
            // A peer that hears one sends what it holds, over any server.
            let subscribed = timeout(HOLD, hold.all_subscribed());
            let hellos = async {
                let _ = subscribed.await;
                let hellos = nodes.iter().filter_map(|joined| joined.hello());
                let _ = timeout(HOLD, join_all(hellos.map(|hello| hello.say(&servers)))).await;
            };
            let report_gap = || {
                let is_sized = |joined: &&Arc<N>| joined.hello().is_some_and(|hello| hello.is_numbered);
                nodes.iter().filter(is_sized).for_each(|joined| joined.missed());
            };
            let back = async {
                let peers = nodes.iter().map(|joined| &joined.inbox().peers);
                until_back(peers, closing.cancelled(), report_gap).await;
                drop(hold);
            };
            join(hellos, back).await;
        })
    }

    fn lost(&self, reason: &str) {
        self.joined.all().iter().for_each(|joined| joined.inbox().lost(reason));
    }

    fn restored(&self) {
        self.joined.all().iter().for_each(|joined| joined.inbox().restored());
    }
}
