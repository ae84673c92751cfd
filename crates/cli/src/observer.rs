//! [`Observer`]: a node without sockets, which sees what the nodes of a cluster send.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout},
};
use trunkline::{
    AckSink, Backend, Capabilities, ClusterNode, DeliveryReport, EventReply, Local, Namespace, NodeConfig, NodeId,
    NodeKey, Payload, RequestError, Result, Room, SocketInfo, Target,
    core::{
        Message, Response, Transport,
        model::{Delivery, Offset},
        transport::{Health, Inbox, JoinRequest, inbox},
    },
};

use crate::{
    broker,
    options::ListenOptions,
    output::{Failure, Status, counted},
};

/// A node without sockets. It answers requests, which would wait for it otherwise, and announces its leave.
#[derive(Debug)]
pub(crate) struct Observer {
    pub(crate) node: ClusterNode,
    pub(crate) backend: Backend,
    peers: Arc<Peers>,
    /// The node holds it weakly.
    _sockets: Arc<dyn Local>,
}

impl Observer {
    /// Connects and joins a namespace; requests wait for answers as long as `request_timeout`.
    pub(crate) async fn join(url: &str, namespace: &str, request_timeout: Duration) -> Result<Self, Failure> {
        let backend = broker::connect(url).await?;
        let config = NodeConfig::default().with_request_timeout(request_timeout);
        Ok(Self::join_over(backend, namespace, config, Arc::new(Sockets::default())).await?)
    }

    /// Joins a namespace over a backend.
    pub(crate) async fn join_over(
        mut backend: Backend,
        namespace: &str,
        config: NodeConfig,
        sockets: Arc<dyn Local>,
    ) -> Result<Self> {
        let peers = Arc::<Peers>::default();
        backend.transport =
            Arc::new(WatchedTransport { inner: Arc::clone(&backend.transport), watch: Arc::clone(&peers) });
        let local: Weak<dyn Local> = Arc::downgrade(&sockets);
        let node = ClusterNode::join(backend.clone(), Namespace::new(namespace), local, config).await?;
        Ok(Self { node, backend, peers, _sockets: sockets })
    }

    /// Waits for what other nodes say at once about themselves: until as many are known as should be there, or for the
    /// whole time.
    pub(crate) async fn listen(&self, options: &ListenOptions) {
        match options.nodes {
            // Fewer are no error here: what is missing shows in what follows.
            Some(nodes) => drop(self.node.await_peers(nodes, options.listen).await),
            None => sleep(options.listen).await,
        }
    }

    /// Notes that these nodes have told their status, as only our own do.
    pub(crate) fn proved<'a>(&self, names: impl Iterator<Item = &'a str>) {
        let mut peers = self.peers.lock();
        for name in names {
            if let Ok(id) = NodeId::new(name)
                && let Some(peer) = peers.get_mut(&id)
            {
                peer.is_numbered = true;
            }
        }
    }

    /// What was heard of other nodes.
    pub(crate) fn heard(&self) -> BTreeMap<NodeId, Heard> {
        let mut heard = self.peers.lock().clone();
        heard.remove(&self.node.node().id);
        heard
    }

    /// Leaves the cluster and ends the connection.
    pub(crate) async fn leave(&self) {
        self.node.close();
        let _ = timeout(LEAVE_TIMEOUT, self.node.closed()).await;
        broker::close(&self.backend).await;
    }
}

const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// What was heard of a node.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// When anything was heard last.
    pub(crate) last: Instant,
    /// When a heartbeat was heard last, if any was.
    pub(crate) heartbeat: Option<Instant>,
    /// Whether it numbers its messages, as our own nodes do; known from them, from its heartbeats or its status.
    pub(crate) is_numbered: bool,
    /// Number of room buckets that it has told.
    pub(crate) buckets: Option<u16>,
}

impl Heard {
    /// Whether it has proved to be one of our own nodes. Node.js servers number nothing, and neither does a node's first
    /// greeting always.
    pub(crate) fn kind(&self) -> Option<&'static str> {
        self.is_numbered.then_some("trunkline")
    }
}

/// What was heard of every node.
#[derive(Debug, Default)]
struct Peers(Mutex<BTreeMap<NodeId, Heard>>);

impl Peers {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Heard>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn saw(&self, delivery: &Delivery) {
        let (from, message, is_numbered) = match delivery {
            Delivery::Message { from: Some(from), message, seq_no, .. } => (from, Some(message), seq_no.is_some()),
            Delivery::Skipped { from, seq_no } => (from, None, seq_no.is_some()),
            Delivery::Response { from: Some(from), .. } => (from, None, false),
            _ => return,
        };
        if from.is_emitter() {
            return;
        }
        let mut peers = self.lock();
        if matches!(message, Some(Message::Leaving)) {
            peers.remove(from);
            return;
        }
        if peers.len() >= MAX_PEERS && !peers.contains_key(from) {
            return;
        }
        let now = Instant::now();
        let new = Heard { last: now, heartbeat: None, is_numbered: false, buckets: None };
        let peer = peers.entry(from.clone()).or_insert(new);
        peer.last = now;
        peer.is_numbered |= is_numbered;
        if let Some(Message::Heartbeat(heartbeat)) = message {
            peer.heartbeat = Some(now);
            peer.is_numbered |= !heartbeat.high_water_marks.is_empty();
            peer.buckets = heartbeat.buckets.or(peer.buckets);
        }
    }
}

/// As many as a node knows by name.
const MAX_PEERS: usize = 4_096;

/// A transport whose deliveries are looked at on their way to the node.
#[derive(Debug)]
struct WatchedTransport {
    inner: Arc<dyn Transport>,
    watch: Arc<Peers>,
}

#[async_trait]
impl Transport for WatchedTransport {
    fn capabilities(&self) -> Capabilities {
        self.inner.capabilities()
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (sender, watched) = inbox(request.limits, Arc::clone(&request.metrics));
        let mut inner = self.inner.join(request).await?;
        let watch = Arc::clone(&self.watch);
        // Ends with the inbox of the transport, or with the node.
        tokio::spawn(async move {
            let mut batch = VecDeque::new();
            while inner.next_batch(&mut batch).await {
                batch.iter().for_each(|delivery| watch.saw(delivery));
                if !sender.push_when_ready(batch.drain(..)).await {
                    break;
                }
            }
        });
        Ok(watched)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        self.inner.try_publish(from, message)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.inner.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.inner.send(from, to, response).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.inner.leave(node).await
    }

    async fn flush(&self) -> Result<()> {
        self.inner.flush().await
    }

    fn health(&self) -> Health {
        self.inner.health()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A packet that came to the sockets of an observer, and when.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) payload: Payload,
    pub(crate) at: Instant,
}

/// The sockets of an observer: none, or one that is in every room and hands on what it gets.
#[derive(Default)]
pub(crate) struct Sockets(Option<Take>);

/// What is done with a packet.
type Take = Box<dyn Fn(&Payload) + Send + Sync>;

impl Sockets {
    /// One that calls this for each packet.
    pub(crate) fn taking(take: impl Fn(&Payload) + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(take)))
    }

    /// One that queues each packet.
    pub(crate) fn recording(arrivals: mpsc::Sender<Received>) -> Self {
        Self::taking(move |payload| {
            // Full only if the namespace is flooded; then the packet is lost, which is said.
            let _ = arrivals.try_send(Received { payload: payload.clone(), at: Instant::now() });
        })
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sockets").field(&self.0.is_some()).finish()
    }
}

impl Local for Sockets {
    fn deliver(&self, _: &Target, payload: &Payload, _: Option<&Offset>) -> DeliveryReport {
        if let Some(take) = &self.0 {
            take(payload);
        }
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, _: &Target, _: &Payload, _: Duration, _: AckSink) -> u32 {
        0
    }

    fn sockets(&self, _: &Target) -> Vec<SocketInfo> {
        Vec::new()
    }

    fn rooms(&self) -> Vec<Room> {
        Vec::new()
    }

    fn has_room(&self, _: &Room) -> bool {
        self.0.is_some()
    }

    fn join(&self, _: &Target, _: &[Room]) {}

    fn leave(&self, _: &Target, _: &[Room]) {}

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}

/// Nodes that did not answer a request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Missing {
    pub(crate) named: Vec<NodeId>,
    pub(crate) unnamed: usize,
}

impl Missing {
    /// Splits the outcome of a request into what arrived and the nodes that are missing.
    pub(crate) fn split<T>(answers: Result<T, RequestError<T>>) -> Result<(T, Self), Failure> {
        let error = match answers {
            Ok(answers) => return Ok((answers, Self::default())),
            Err(error) => error,
        };
        let plain = error.as_error().clone();
        let incomplete = error.into_incomplete().ok_or_else(|| Failure::from(plain))?;
        let missing = Self { named: incomplete.missing, unnamed: incomplete.missing_unnamed };
        Ok((incomplete.received, missing))
    }

    /// Names nodes that are silent. Where the broker counts, they are among those without a name.
    pub(crate) fn name(&mut self, silent: Vec<NodeId>) {
        for id in silent {
            if !self.named.contains(&id) {
                self.named.push(id);
                self.unnamed = self.unnamed.saturating_sub(1);
            }
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.named.len() + self.unnamed
    }

    pub(crate) fn status(&self) -> Status {
        if self.count() == 0 { Status::Ok } else { Status::Warning }
    }

    /// Continues a sentence about those that answered.
    pub(crate) fn text(&self) -> String {
        if self.count() == 0 {
            return String::new();
        }
        let mut who: Vec<_> = self.named.iter().map(ToString::to_string).collect();
        if self.unnamed > 0 {
            who.push(format!("{} that the broker counts and that gave no name", counted(self.unnamed, "node")));
        }
        format!("; PARTIAL: {} did not answer: {}", counted(self.count(), "node"), who.join(", "))
    }

    pub(crate) fn json(&self) -> Value {
        let named: Vec<_> = self.named.iter().map(NodeId::as_str).collect();
        json!({ "named": named, "unnamed": self.unnamed })
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}
