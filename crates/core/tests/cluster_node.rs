//! Nodes over the memory transport: what lies between engine and server.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use trunkline_core::{
    AckSink, Backend, Capabilities, ClusterNode, DeliveryReport, Error, ErrorKind, Event, EventReply, Local, Message,
    Namespace, NodeConfig, NodeId, Offset, Payload, Response, Result, Room, SocketId, SocketInfo, Target,
    engine::EngineConfig,
    memory::{self, HistoryLimits, MemoryConfig},
    transport::{Health, Inbox, JoinRequest, RoomInterest, Transport},
};

/// A server with one socket, `name`, which acknowledges everything.
#[derive(Debug)]
struct Server {
    name: String,
    rooms: Mutex<Vec<Room>>,
    packets: mpsc::UnboundedSender<String>,
}

impl Server {
    fn new(name: &str) -> (Arc<Self>, mpsc::UnboundedReceiver<String>) {
        let (packets, received) = mpsc::unbounded_channel();
        let rooms = Mutex::new(vec![Room::from(name)]);
        (Arc::new(Self { name: name.to_owned(), rooms, packets }), received)
    }

    fn take(&self, target: &Target, payload: &Payload) -> bool {
        let matches = target.matches(&self.rooms.lock().unwrap());
        if matches {
            self.packets.send(payload.event_name().unwrap().into_owned()).unwrap();
        }
        matches
    }
}

impl Local for Server {
    fn deliver(&self, target: &Target, payload: &Payload, _: Option<&Offset>) -> DeliveryReport {
        self.take(target, payload);
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, _: Duration, acks: AckSink) -> u32 {
        let matches = self.take(target, payload);
        if matches {
            acks.ack(None);
        }
        matches.into()
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let rooms = self.rooms.lock().unwrap().clone();
        let id = SocketId::new(self.name.as_str()).unwrap();
        let info = SocketInfo::new(id, rooms);
        if target.matches(&info.rooms) { vec![info] } else { Vec::new() }
    }

    fn rooms(&self) -> Vec<Room> {
        self.rooms.lock().unwrap().clone()
    }

    fn has_room(&self, room: &Room) -> bool {
        self.rooms.lock().unwrap().contains(room)
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        let mut own = self.rooms.lock().unwrap();
        if target.matches(&own) {
            own.extend_from_slice(rooms);
        }
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        let mut own = self.rooms.lock().unwrap();
        if target.matches(&own) {
            own.retain(|room| !rooms.contains(room));
        }
    }

    fn disconnect(&self, _: &Target, _: bool) {}

    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}

struct TestNode {
    node: ClusterNode,
    packets: mpsc::UnboundedReceiver<String>,
    server: Arc<Server>,
}

impl TestNode {
    async fn join(backend: Backend, name: &str) -> Self {
        Self::join_with(backend, name, NodeConfig::default()).await
    }

    async fn join_with(backend: Backend, name: &str, config: NodeConfig) -> Self {
        let (server, packets) = Server::new(name);
        let local: Arc<dyn Local> = Arc::clone(&server) as _;
        let node = ClusterNode::join(backend, Namespace::new("/"), Arc::downgrade(&local), config).await.unwrap();
        Self { node, packets, server }
    }

    async fn next(&mut self) -> String {
        timeout(Duration::from_secs(10), self.packets.recv()).await.expect("a packet").unwrap()
    }
}

/// Two nodes, `a` and `b`, that know each other.
async fn pair(history: bool) -> [TestNode; 2] {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!("cluster-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let config = MemoryConfig { history: history.then(HistoryLimits::default) };
    let backend = memory::backend(&name, config).unwrap();
    let nodes = [TestNode::join(backend.clone(), "a").await, TestNode::join(backend, "b").await];
    for node in &nodes {
        node.node.await_peers(1, Duration::from_secs(10)).await.unwrap();
    }
    nodes
}

fn event(name: &str) -> Payload {
    Payload::event(name, &()).unwrap()
}

#[tokio::test]
async fn a_fetched_socket_names_its_node() {
    let [a, b] = pair(false).await;
    let sockets = a.node.fetch_sockets(Target::room("b")).await.unwrap();
    assert_eq!(sockets[0].node.as_ref(), Some(&b.node.node().id));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_about_a_node_comes_after_the_count_has_changed() {
    let [a, b] = pair(false).await;
    let mut events = a.node.events();
    b.node.close();
    while !matches!(events.recv().await.unwrap(), Event::NodeDown(..)) {}
    assert_eq!(a.node.peers(), []);
    assert_eq!(a.node.server_count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_broadcast_with_a_zero_timeout_is_sent() {
    let [mut a, mut b] = pair(false).await;
    let target = Target::all().timeout(Duration::ZERO);
    let acks = a.node.broadcast_with_ack(target, event("question")).await.unwrap();
    assert_eq!(acks.collect().await.unwrap_err().kind(), ErrorKind::Timeout);
    assert_eq!((a.next().await, b.next().await), ("question".to_owned(), "question".to_owned()));
}

#[tokio::test]
async fn a_broadcast_behind_a_join_that_is_not_applied_yet_is_delivered() {
    let [a, mut b] = pair(false).await;
    for _ in 0..3 {
        // Both are in the inbox before the other node has had a chance to run.
        a.node.sockets_join(Target::room("b"), vec!["new".into()]).await.unwrap();
        a.node.broadcast(Target::room("new"), event("news")).await.unwrap();
        assert_eq!(b.next().await, "news");
    }
}

#[tokio::test]
async fn with_history_own_clients_receive_acknowledged_broadcasts_in_order() {
    let [mut a, mut b] = pair(true).await;
    for _ in 0..10 {
        a.node.broadcast(Target::all(), event("plain")).await.unwrap();
        let acks = a.node.broadcast_with_ack(Target::all(), event("acknowledged")).await.unwrap();
        for node in [&mut a, &mut b] {
            assert_eq!([node.next().await, node.next().await], ["plain", "acknowledged"]);
        }
        assert_eq!(acks.collect().await.unwrap().len(), 2);
    }
}

/// How a message is not published.
enum Refusal {
    Refused(ErrorKind),
    Waits,
}

/// A transport that refuses some messages, or never returns from publishing them.
/// ever.
#[derive(Debug)]
struct RefusingTransport {
    transport: Arc<dyn Transport>,
    refuses: fn(&Message) -> Option<Refusal>,
}

impl RefusingTransport {
    fn refusing(backend: &mut Backend, refuses: fn(&Message) -> Option<Refusal>) {
        let transport = Arc::clone(&backend.transport);
        backend.transport = Arc::new(Self { transport, refuses });
    }
}

#[async_trait::async_trait]
impl Transport for RefusingTransport {
    fn capabilities(&self) -> Capabilities {
        self.transport.capabilities()
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        self.transport.join(request).await
    }

    async fn leave(&self, node: &trunkline_core::NodeKey) -> Result<()> {
        self.transport.leave(node).await
    }

    fn try_publish(&self, from: &trunkline_core::NodeKey, message: Message) -> Result<Option<Message>> {
        match (self.refuses)(&message) {
            Some(Refusal::Refused(kind)) => Err(Error::new(kind, "refused")),
            Some(Refusal::Waits) => Ok(Some(message)),
            None => self.transport.try_publish(from, message),
        }
    }

    async fn publish(&self, from: &trunkline_core::NodeKey, message: Message) -> Result<()> {
        match (self.refuses)(&message) {
            Some(Refusal::Refused(kind)) => Err(Error::new(kind, "refused")),
            Some(Refusal::Waits) => std::future::pending().await,
            None => self.transport.publish(from, message).await,
        }
    }

    async fn send(&self, from: &trunkline_core::NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.transport.send(from, to, response).await
    }

    async fn flush(&self) -> Result<()> {
        self.transport.flush().await
    }

    fn health(&self) -> Health {
        self.transport.health()
    }

    async fn close(&self) {
        self.transport.close().await;
    }
}

/// Room interest that records the rooms. While a room is being removed, it calls `meanwhile` once.
#[derive(Default)]
struct RecordedInterest {
    rooms: Mutex<HashSet<Room>>,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl std::fmt::Debug for RecordedInterest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.rooms.fmt(f)
    }
}

#[async_trait::async_trait]
impl RoomInterest for RecordedInterest {
    fn buckets(&self) -> Option<u16> {
        None
    }

    fn subscriptions(&self, _: &trunkline_core::NodeKey) -> usize {
        self.rooms.lock().unwrap().len()
    }

    fn is_active(&self, _: &trunkline_core::NodeKey, room: &Room) -> bool {
        self.rooms.lock().unwrap().contains(room)
    }

    async fn room_created(&self, _: &trunkline_core::NodeKey, room: &Room) -> Result<()> {
        self.rooms.lock().unwrap().insert(room.clone());
        Ok(())
    }

    async fn room_deleted(&self, _: &trunkline_core::NodeKey, room: &Room) -> Result<()> {
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        self.rooms.lock().unwrap().remove(room);
        Ok(())
    }
}

impl RecordedInterest {
    fn has(&self, room: &str) -> bool {
        self.rooms.lock().unwrap().contains(&Room::from(room))
    }

    /// Waits until `meanwhile` was called and the room is recorded.
    async fn wait_for(&self, room: &str) {
        let known = async {
            while self.meanwhile.lock().unwrap().is_some() || !self.has(room) {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), known).await.expect("the room has a member");
    }
}

#[tokio::test]
async fn room_interest_is_updated_even_if_the_join_cannot_be_published() {
    let mut backend = memory::backend("full", MemoryConfig::default()).unwrap();
    let interest = Arc::<RecordedInterest>::default();
    RefusingTransport::refusing(&mut backend, |message| {
        matches!(message, Message::Join { .. }).then_some(Refusal::Refused(ErrorKind::QueueFull))
    });
    backend.interest = Some(Arc::clone(&interest) as _);
    let a = TestNode::join(backend, "a").await;
    let error = a.node.sockets_join(Target::all(), vec!["r".into()]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(interest.has("r"), "a socket is in the room");
}

#[tokio::test]
async fn room_interest_is_updated_even_if_the_call_is_dropped() {
    let mut backend = memory::backend("given up", MemoryConfig::default()).unwrap();
    let interest = Arc::<RecordedInterest>::default();
    RefusingTransport::refusing(&mut backend, |message| {
        matches!(message, Message::Join { .. }).then_some(Refusal::Waits)
    });
    backend.interest = Some(Arc::clone(&interest) as _);
    let a = TestNode::join(backend, "a").await;
    let joining = a.node.sockets_join(Target::all(), vec!["r".into()]);
    timeout(Duration::ZERO, joining).await.unwrap_err();
    interest.wait_for("r").await;
}

/// A socket joins the room while it is being removed, and that is recorded first.
fn joined_meanwhile(node: &TestNode, interest: &Arc<RecordedInterest>) -> Box<dyn FnOnce() + Send> {
    let (server, interest) = (Arc::clone(&node.server), Arc::downgrade(interest));
    Box::new(move || {
        server.join(&Target::all(), &["r".into()]);
        interest.upgrade().unwrap().rooms.lock().unwrap().insert("r".into());
    })
}

#[tokio::test]
async fn joining_a_room_while_another_socket_leaves_it_keeps_the_room_interest() {
    let mut backend = memory::backend("flapping", MemoryConfig::default()).unwrap();
    let peer = TestNode::join(backend.clone(), "peer").await;
    let interest = Arc::<RecordedInterest>::default();
    backend.interest = Some(Arc::clone(&interest) as _);
    let a = TestNode::join(backend, "a").await;
    for leaving in [&a, &peer] {
        a.node.sockets_join(Target::room("a"), vec!["r".into()]).await.unwrap();
        *interest.meanwhile.lock().unwrap() = Some(joined_meanwhile(&a, &interest));
        leaving.node.sockets_leave(Target::all(), vec!["r".into()]).await.unwrap();
        interest.wait_for("r").await;
    }
}

#[tokio::test]
async fn a_request_fails_at_once_when_the_outgoing_queue_is_full() {
    let backend = memory::backend("full queue", MemoryConfig::default()).unwrap();
    let peer = TestNode::join(backend.clone(), "peer").await;
    let config = NodeConfig::default().with_max_outgoing(0);
    let a = TestNode::join_with(backend, "a", config).await;
    peer.node.broadcast(Target::all(), event("I am here")).await.unwrap();
    a.node.await_peers(1, Duration::from_secs(10)).await.unwrap();
    let error = a.node.fetch_sockets(Target::all()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::QueueFull);
}

#[tokio::test]
async fn durations_may_be_infinite() {
    let engine = EngineConfig::default()
        .with_heartbeat_interval(Duration::MAX)
        .with_heartbeat_timeout(Duration::MAX)
        .with_gap_grace(Duration::MAX)
        .with_count_interval(Duration::MAX);
    let config = NodeConfig::default().with_engine(engine).with_leave_timeout(Duration::MAX);
    let backend = memory::backend("for ever", MemoryConfig::default()).unwrap();
    let [a, b] =
        [TestNode::join_with(backend.clone(), "a", config).await, TestNode::join_with(backend, "b", config).await];
    a.node.await_peers(1, Duration::MAX).await.unwrap();
    let sockets = a.node.fetch_sockets(Target::all().timeout(Duration::MAX)).await.unwrap();
    assert_eq!(sockets.len(), 2);
    b.node.close();
    b.node.closed().await;
}

#[tokio::test]
async fn an_acknowledged_broadcast_that_is_too_large_reaches_no_socket() {
    let mut backend = memory::backend("too large", MemoryConfig::default()).unwrap();
    RefusingTransport::refusing(&mut backend, |message| {
        message.request().map(|_| Refusal::Refused(ErrorKind::TooLarge))
    });
    let mut node = TestNode::join(backend, "a").await;
    let refused = node.node.broadcast_with_ack(Target::all(), event("too large")).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::TooLarge);
    node.node.broadcast(Target::all(), event("next")).await.unwrap();
    assert_eq!(node.next().await, "next");
}

#[tokio::test]
async fn while_the_queue_is_full_own_clients_receive_acknowledged_broadcasts_as_they_do_plain_ones() {
    let mut backend = memory::backend("queue full", MemoryConfig::default()).unwrap();
    RefusingTransport::refusing(&mut backend, |message| {
        matches!(message, Message::Broadcast { .. }).then_some(Refusal::Refused(ErrorKind::QueueFull))
    });
    let mut node = TestNode::join(backend, "a").await;
    assert!(node.node.broadcast(Target::all(), event("plain")).await.is_err());
    assert!(node.node.broadcast_with_ack(Target::all(), event("acknowledged")).await.is_err());
    assert_eq!([node.next().await, node.next().await], ["plain", "acknowledged"]);
}

#[tokio::test]
async fn what_no_client_or_peer_would_take_is_refused_where_it_is_said_and_changes_nothing() {
    let [mut a, b] = pair(false).await;
    let long = Room::new("x".repeat(Room::MAX_BYTES + 1));
    for target in [Target::all(), Target::all().local()] {
        let reserved = a.node.broadcast(target.clone(), event("disconnect")).await.unwrap_err();
        assert!(reserved.to_string().contains("\"disconnect\" is reserved"), "{reserved}");
        let joined = a.node.sockets_join(target.clone(), vec![long.clone()]).await.unwrap_err();
        assert_eq!(joined.kind(), ErrorKind::TooLarge);
        assert!(joined.to_string().contains("4097 bytes, allowed are 4096"), "{joined}");
        assert!(!a.server.has_room(&long));
        let aimed = Target { rooms: vec![long.clone()], ..target };
        assert_eq!(a.node.broadcast(aimed.clone(), event("news")).await.unwrap_err().kind(), ErrorKind::TooLarge);
        assert_eq!(a.node.fetch_sockets(aimed).await.unwrap_err().kind(), ErrorKind::TooLarge);
    }
    let acked = a.node.broadcast_with_ack(Target::all(), event("connect")).await.unwrap_err();
    assert_eq!(acked.kind(), ErrorKind::Malformed);
    b.node.broadcast(Target::all(), event("after")).await.unwrap();
    assert_eq!(a.next().await, "after", "nothing else was delivered");
}
