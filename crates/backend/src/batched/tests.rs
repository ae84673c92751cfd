//! The writer and the transport over a broker that confirms when the test says so.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_core::{
    Backend, Error, ErrorKind, Heartbeat, IdScheme, Message, Namespace, NodeId, NodeKey, NodeMetrics, Offset, Payload,
    Result, Target,
    codec::{self, Body},
    model::Delivery,
    transport::{History, Inbox, InboxLimits, JoinRequest, Unfiltered},
};

use super::{
    Arrived, BatchBroker, BatchConnection, BatchSettings, BatchedTransport, Confirmation, HistoryEntry, HistorySource,
    JoinedNode, NodeSubscription, OutgoingBatch, OutgoingMessage, ReceivedBatch, Subscribing, TransportState,
    Undelivered, token,
};
use crate::{
    batch::{self, Batch, BatchBuilder, ConnectionId},
    outbox::OutboxLimits,
    rooms::{Bucket, Buckets},
};

/// A broker whose confirmations the test gives.
#[derive(Debug)]
struct Fake {
    settings: BatchSettings,
    server: Arc<Server>,
}

/// What was published and is not confirmed, and the connection in use.
#[derive(Debug, Default)]
struct Server {
    writes: Mutex<VecDeque<Write>>,
    written: Notify,
    arriving: Mutex<Vec<Bytes>>,
    arrived: Notify,
    connection: Mutex<CancellationToken>,
}

impl Server {
    /// The next write that was not looked at yet, and what confirms it.
    async fn write(&self) -> Write {
        loop {
            let written = self.written.notified();
            if let Some(write) = self.try_write() {
                return write;
            }
            written.await;
        }
    }

    fn try_write(&self) -> Option<Write> {
        self.writes.lock().unwrap().pop_front()
    }

    /// Confirms the hello of the node.
    async fn hello(&self) {
        let write = self.write().await;
        let batch = Batch::parse(write.batches[0].bytes.clone()).unwrap();
        assert_eq!(batch.number(), None);
        let hello = codec::decode(&batch.last().unwrap().unwrap()).unwrap().body;
        assert!(matches!(hello, Body::Message(Message::Heartbeat(heartbeat)) if heartbeat.initial));
        write.confirm.send(Ok(Undelivered::default())).unwrap();
    }

    /// Lets a heartbeat of a peer arrive. Returns when the node has taken it.
    async fn hear(&self, peer: &str) {
        let heartbeat = Message::Heartbeat(Heartbeat::new(false));
        let heartbeat = batch::encode(&NodeId::new(peer).unwrap(), &Namespace::new("/"), &heartbeat).unwrap();
        let mut batch = BatchBuilder::new(ConnectionId::random(), 1, 0);
        batch.push(&heartbeat.finish(None, &[]));
        self.arriving.lock().unwrap().push(batch.finish());
        self.arrived.notify_one();
        while !self.arriving.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    fn disconnect(&self) {
        self.connection.lock().unwrap().cancel();
    }
}

#[derive(Debug)]
struct Write {
    batches: Vec<OutgoingBatch<String>>,
    confirm: oneshot::Sender<Result<Undelivered<String>>>,
}

impl Write {
    /// The number of each batch, and how many messages it has.
    fn sizes(&self) -> Vec<(u64, usize)> {
        let parsed = self.batches.iter().map(|batch| Batch::parse(batch.bytes.clone()).unwrap());
        parsed.map(|batch| (batch.number().unwrap(), batch.count())).collect()
    }
}

impl BatchBroker for Fake {
    const NAME: &'static str = "the fake broker";
    const WRITE_BYTES: usize = 1 << 20;
    const SIZE_LIMITED_BY: &'static str = "the test";
    const KEEPS_UNACKNOWLEDGED: bool = true;
    const RETURNS_UNROUTABLE: bool = true;

    type Address = String;
    type Connection = FakeConnection;
    type Subscription = Silence;
    type HistorySource = NoHistory;

    fn settings(&self) -> &BatchSettings {
        &self.settings
    }

    fn namespace_prefix(&self, namespace: &Namespace) -> Result<String> {
        Ok(token(namespace.as_str()))
    }

    fn token(text: &str) -> String {
        token(text)
    }

    fn max_batch_bytes(&self) -> usize {
        1 << 20
    }

    async fn open(&self, _: &str, _: u64, _: &TaskTracker) -> Result<FakeConnection> {
        let ended = CancellationToken::new();
        *self.server.connection.lock().unwrap() = ended.clone();
        Ok(FakeConnection { server: Arc::clone(&self.server), ended })
    }

    async fn subscribe(&self, connection: &Arc<FakeConnection>, _: &JoinedNode<Self>, _: &[Bucket]) -> Result<Silence> {
        Ok(Silence(Arc::clone(connection)))
    }

    async fn set_up_history(&self, _: &FakeConnection) -> Result<()> {
        Ok(())
    }

    fn history_source(&self, _: &JoinedNode<Self>) -> Option<NoHistory> {
        None
    }

    fn history(_: &Arc<TransportState<Self>>) -> Option<Arc<dyn History>> {
        None
    }

    fn start_history_writer(_: &Arc<TransportState<Self>>) -> Option<mpsc::UnboundedSender<OutgoingMessage<Self>>> {
        None
    }
}

#[derive(Debug)]
struct FakeConnection {
    server: Arc<Server>,
    ended: CancellationToken,
}

impl BatchConnection for FakeConnection {
    type Address = String;

    async fn publish(&self, batches: &[OutgoingBatch<String>]) -> Result<Confirmation<String>> {
        let (confirm, confirmed) = oneshot::channel();
        self.server.writes.lock().unwrap().push_back(Write { batches: batches.to_vec(), confirm });
        self.server.written.notify_one();
        // Like a client that does not tell what becomes of what was on its way when the connection ended.
        let disconnected = || Error::new(ErrorKind::Disconnected, "the test confirms it no more");
        Ok(async move { confirmed.await.map_err(|_| disconnected())? }.boxed())
    }

    fn server(&self) -> &str {
        "fake:1"
    }

    fn cluster_servers(&self) -> Vec<String> {
        Vec::new()
    }

    fn blocked(&self) -> watch::Receiver<Option<String>> {
        watch::channel(None).1
    }

    async fn shutdown_announced(&self) {
        std::future::pending().await
    }

    async fn ended(&self) {
        self.ended.cancelled().await;
    }

    fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    fn end_reason(&self) -> String {
        "the test ended it".into()
    }

    async fn reopen(&self) -> Result<()> {
        Ok(())
    }

    fn abort(&self, _: &str) {
        self.ended.cancel();
    }

    async fn close(&self) {
        self.abort("closed");
    }
}

/// A subscription to which comes what the test lets arrive.
#[derive(Debug)]
struct Silence(Arc<FakeConnection>);

impl NodeSubscription for Silence {
    type Address = String;

    async fn next(&mut self) -> Arrived {
        tokio::select! {
            () = self.0.ended() => return Arrived::Ended(self.0.end_reason()),
            () = self.0.server.arrived.notified() => {}
        }
        let arriving = std::mem::take(&mut *self.0.server.arriving.lock().unwrap());
        let received = arriving.into_iter().map(|bytes| ReceivedBatch { batch: Batch::parse(bytes), tag: 0 });
        Arrived::Batches(received.collect())
    }

    async fn arrived(&mut self) -> Vec<ReceivedBatch> {
        Vec::new()
    }

    async fn subscribe(&mut self, _: Bucket, _: String) -> Result<Subscribing> {
        Ok(std::future::ready(Ok(0)).boxed())
    }

    fn unsubscribe(&mut self, _: Bucket, _: String) -> futures_util::future::BoxFuture<'static, Result<()>> {
        std::future::ready(Ok(())).boxed()
    }

    async fn acknowledge(&self, _: u64) {}

    async fn close(self) {}
}

struct NoHistory;

impl HistorySource for NoHistory {
    type Connection = FakeConnection;

    async fn open(&mut self, _: &Arc<FakeConnection>) -> Result<()> {
        std::future::pending().await
    }

    async fn next(&mut self, _: &FakeConnection) -> Result<HistoryEntry> {
        std::future::pending().await
    }

    fn offset(&self, _: &Batch, _: u64, _: usize) -> Offset {
        unreachable!("there is no history")
    }
}

/// A transport over the fake broker, and a node whose inbox has to be kept.
async fn joined() -> (Arc<Server>, Backend, NodeKey, Inbox) {
    let (server, backend, node, inbox, _) = joined_with_metrics().await;
    (server, backend, node, inbox)
}

async fn joined_with_metrics() -> (Arc<Server>, Backend, NodeKey, Inbox, Arc<NodeMetrics>) {
    let server = Arc::<Server>::default();
    let settings = BatchSettings {
        sender: ConnectionId::random(),
        servers: vec!["fake:1".into()],
        buckets: Buckets::DEFAULT,
        linger: Duration::from_secs(1),
        join_grace: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        outbox: OutboxLimits::default(),
        has_history: false,
    };
    let backend = BatchedTransport::connect(Fake { settings, server: Arc::clone(&server) }).await.unwrap();
    let node = NodeKey { id: IdScheme::Hex16.node_id(), namespace: Namespace::new("/") };
    let metrics = Arc::<NodeMetrics>::default();
    let request = JoinRequest::new(node.clone(), Arc::new(Unfiltered), Arc::clone(&metrics), InboxLimits::default());
    let inbox = backend.transport.join(request).await.unwrap();
    (server, backend, node, inbox, metrics)
}

async fn emit(backend: &Backend, node: &NodeKey, rooms: &[&str]) {
    for room in rooms {
        let message = broadcast(Target::room(*room));
        backend.transport.publish(node, message).await.unwrap();
    }
}

fn broadcast(target: Target) -> Message {
    Message::Broadcast { request: None, target, payload: Payload::event("e", &()).unwrap() }
}

/// Lets all tasks run as far as they can: with a paused clock, time goes on only when nothing else is to be done.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn two_writes_leave_at_once_and_what_comes_meanwhile_shares_the_next_one() {
    let (server, backend, node, _inbox) = joined().await;
    let mut unconfirmed = VecDeque::new();
    for number in 1..=2 {
        emit(&backend, &node, &["r"]).await;
        settle().await;
        let write = server.try_write().expect("it waits for no confirmation");
        assert_eq!(write.sizes(), [(number, 1)]);
        unconfirmed.push_back(write);
    }
    for _ in 0..1000 {
        emit(&backend, &node, &["r"]).await;
        settle().await;
    }
    assert!(server.try_write().is_none(), "two writes are unconfirmed");
    unconfirmed.pop_front().unwrap().confirm.send(Ok(Undelivered::default())).unwrap();
    let write = server.write().await;
    assert_eq!(write.sizes().iter().map(|(_, messages)| messages).sum::<usize>(), 1000);
    assert!(write.sizes().len() < 10, "{:?}", write.sizes());
}

#[tokio::test(start_paused = true)]
async fn a_batch_has_one_address_and_the_order_of_the_messages_stays() {
    let (server, backend, node, _inbox) = joined().await;
    emit(&backend, &node, &["a", "a", "b", "a"]).await;
    let mut addresses = Vec::new();
    while addresses.len() < 3 {
        let write = server.write().await;
        addresses.extend(write.batches.iter().map(|batch| batch.address.clone()));
        write.confirm.send(Ok(Undelivered::default())).unwrap();
    }
    let address = |room: &str| format!("=2F.room.{}", Buckets::DEFAULT.of(&room.into()).unwrap().number());
    addresses.dedup();
    assert_eq!(addresses, [address("a"), address("b"), address("a")]);
}

#[tokio::test(start_paused = true)]
async fn what_is_unconfirmed_when_the_connection_ends_is_sent_again_with_the_same_numbers() {
    let (server, backend, node, _inbox) = joined().await;
    let mut sent = Vec::new();
    for _ in 0..2 {
        emit(&backend, &node, &["r"]).await;
        sent.push(server.write().await);
    }
    sent.remove(0).confirm.send(Ok(Undelivered::default())).unwrap();
    emit(&backend, &node, &["r"]).await;
    sent.push(server.write().await);
    server.disconnect();
    emit(&backend, &node, &["r"]).await;
    // The node says that it is back.
    server.hello().await;
    for number in 2..=4 {
        let again = server.write().await;
        assert_eq!(again.sizes(), [(number, 1)]);
        again.confirm.send(Ok(Undelivered::default())).unwrap();
    }
    settle().await;
    assert_eq!(backend.transport.health().queued_bytes, 0);
}

/// Three batches on their way in one write, behind one that is confirmed.
async fn three_in_one_write(server: &Server, backend: &Backend, node: &NodeKey) -> Write {
    emit(backend, node, &["a"]).await;
    emit(backend, node, &["b"]).await;
    let (first, second) = (server.write().await, server.try_write());
    emit(backend, node, &["a", "b", "a"]).await;
    for write in [Some(first), second].into_iter().flatten() {
        write.confirm.send(Ok(Undelivered::default())).unwrap();
    }
    let write = server.write().await;
    assert!(write.batches.len() >= 3, "{write:?}");
    write
}

#[tokio::test(start_paused = true)]
async fn of_a_write_only_the_refused_batch_is_dropped_and_counted() {
    let (server, backend, node, inbox, metrics) = joined_with_metrics().await;
    let write = three_in_one_write(&server, &backend, &node).await;
    let numbers: Vec<_> = write.sizes().iter().map(|(number, _)| *number).collect();
    let refusal = || Error::new(ErrorKind::Broker, "refused");
    write.confirm.send(Err(refusal())).unwrap();
    for number in &numbers {
        let again = server.write().await;
        assert_eq!(again.sizes(), [(*number, 1)], "one by one, in order");
        let outcome = if *number == numbers[1] { Err(refusal()) } else { Ok(Undelivered::default()) };
        again.confirm.send(outcome).unwrap();
    }
    settle().await;
    assert_eq!((metrics.snapshot().publish_errors, backend.transport.health().queued_bytes), (1, 0));
    drop(inbox);
}

#[tokio::test(start_paused = true)]
async fn what_finds_no_room_is_held_like_with_a_broker_that_is_away() {
    let (server, backend, node, mut inbox, metrics) = joined_with_metrics().await;
    let write = three_in_one_write(&server, &backend, &node).await;
    let numbers: Vec<_> = write.sizes().iter().map(|(number, _)| *number).collect();
    let deferred = || Undelivered { deferred: vec![0], ..Undelivered::default() };
    write.confirm.send(Ok(deferred())).unwrap();
    for _ in 0..20 {
        let again = server.write().await;
        assert_eq!(again.sizes(), [(numbers[0], 1)]);
        again.confirm.send(Ok(deferred())).unwrap();
    }
    assert!(!backend.transport.health().connected);
    server.write().await.confirm.send(Ok(Undelivered::default())).unwrap();
    settle().await;
    assert!(backend.transport.health().connected);
    assert_eq!(metrics.snapshot().blocked, 1, "said once");
    let mut deliveries = VecDeque::new();
    inbox.next_batch(&mut deliveries).await;
    let told: Vec<_> = deliveries.iter().map(|delivery| matches!(delivery, Delivery::Lost(_))).collect();
    assert_eq!(told, [false, true, false], "connected, lost, connected: {deliveries:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_held_waits_for_the_peers_that_were_known_and_not_for_ever() {
    let (server, backend, node, _inbox) = joined().await;
    for comes_back in [true, false] {
        server.hear("peer").await;
        server.disconnect();
        emit(&backend, &node, &["r"]).await;
        server.hello().await;
        let start = tokio::time::Instant::now();
        let early = timeout(Duration::from_millis(700), server.write()).await;
        assert!(early.is_err(), "no peer is subscribed yet");
        if comes_back {
            server.hear("peer").await;
        }
        server.write().await.confirm.send(Ok(Undelivered::default())).unwrap();
        assert_eq!(start.elapsed().as_millis(), if comes_back { 700 } else { 2000 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_is_never_confirmed_holds_up_no_further_connection() {
    let (server, _backend, _node, _inbox) = joined().await;
    server.disconnect();
    let never = server.write().await;
    server.disconnect();
    timeout(Duration::from_secs(60), server.hello()).await.expect("it says hello over the next one");
    drop(never);
}

#[tokio::test(start_paused = true)]
async fn closing_waits_for_what_is_queued_but_not_for_ever() {
    let (server, backend, node, _inbox) = joined().await;
    emit(&backend, &node, &["r"]).await;
    let write = server.write().await;
    let is_closed = Arc::new(AtomicBool::new(false));
    let closing = tokio::spawn({
        let (backend, is_closed) = (backend.clone(), Arc::clone(&is_closed));
        async move {
            backend.transport.close().await;
            is_closed.store(true, Ordering::Relaxed);
        }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(!is_closed.load(Ordering::Relaxed), "a write is unconfirmed");
    timeout(Duration::from_secs(10), closing).await.expect("it closes").unwrap();
    drop(write);
}
