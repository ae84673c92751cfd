//! The backend: what a node asks for, put into the queue of the connection.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::watch, time::timeout};
use trunkline_backend::{Outbox, OutboxLimits, batch};
use trunkline_core::{Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result, Transport, codec, model::SeqChannel, transport::{Health, Inbox, JoinRequest, Sequencer, inbox}};

use crate::{
    connection,
    place::{Place, topic_of_all, topic_of_node},
    wire::{self, Kind, MAX_PACKET, Packet},
};

/// The largest message. Topic, numbers and heads come on top of it.
const MAX_MESSAGE: usize = MAX_PACKET - 8192;

/// How long a node waits for its subscriptions.
const JOIN: Duration = Duration::from_secs(5);

/// Connects to a hub. Backends that name the same cluster hear each other.
///
/// # Errors
/// `Disconnected` if the hub cannot be reached.
pub async fn connect(address: SocketAddr, cluster: &str) -> Result<Backend> {
    let shared = Arc::new(Shared::new(address, cluster));
    let stream = connection::open(&shared).await.map_err(|error| away().with_source(error))?;
    tokio::spawn(connection::run(Arc::clone(&shared), stream));
    let transport = Arc::new(TcpHub { shared });
    Ok(Backend { transport, history: None, interest: None, node_counter: None, ids: IdScheme::Hex16 })
}

fn away() -> Error {
    Error::new(ErrorKind::Disconnected, "the hub cannot be reached")
}

/// What the transport and its connection share.
pub struct Shared {
    pub address: SocketAddr,
    pub outbox: Outbox<bytes::Bytes>,
    cluster: String,
    places: Mutex<Vec<Arc<Place>>>,
    /// Held while places and subscriptions change, so that they change in the same order.
    seating: tokio::sync::Mutex<()>,
    reconnects: AtomicU64,
    closing: watch::Sender<bool>,
    ended: watch::Sender<bool>,
}

impl Shared {
    fn new(address: SocketAddr, cluster: &str) -> Self {
        Self {
            address,
            outbox: Outbox::new(OutboxLimits::default()),
            cluster: cluster.to_owned(),
            places: Mutex::default(),
            seating: tokio::sync::Mutex::default(),
            reconnects: AtomicU64::new(0),
            closing: watch::Sender::new(false),
            ended: watch::Sender::new(false),
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<Arc<Place>>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All subscriptions. That of a namespace comes behind that of its node: once it is confirmed, both are.
    pub fn topics(&self) -> Vec<String> {
        self.places().iter().flat_map(|place| [place.own.clone(), place.all.clone()]).collect()
    }

    /// Hands a packet to whom it is for, and forgets those who are gone.
    pub fn hand_out(&self, packet: &Packet) {
        self.places().retain(|place| place.take(packet));
    }

    pub fn lost(&self, why: &str) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
        self.places().iter().for_each(|place| place.lost(why));
    }

    /// Queues a packet, numbered by `make` when it has its place.
    async fn queue(&self, bytes: usize, make: impl FnOnce(&mut Sequencer) -> bytes::Bytes) -> Result<()> {
        self.outbox.push(bytes, make).await
    }

    async fn ask(&self, kind: Kind, topic: &str) -> Result<()> {
        self.queue(topic.len(), |_| wire::encode(kind, topic, &[])).await
    }

    async fn add(&self, place: Arc<Place>) -> Result<()> {
        let _seating = self.seating.lock().await;
        self.places().push(Arc::clone(&place));
        self.ask(Kind::Subscribe, &place.own).await?;
        self.ask(Kind::Subscribe, &place.all).await
    }

    async fn remove(&self, node: &NodeKey) -> Result<()> {
        let _seating = self.seating.lock().await;
        let (removed, is_last) = {
            let mut places = self.places();
            let Some(index) = places.iter().position(|place| place.node == *node) else { return Ok(()) };
            let removed = places.remove(index);
            let is_last = places.iter().all(|place| place.all != removed.all);
            (removed, is_last)
        };
        self.outbox.forget(&node.id);
        self.ask(Kind::Unsubscribe, &removed.own).await?;
        if is_last { self.ask(Kind::Unsubscribe, &removed.all).await } else { Ok(()) }
    }

    fn begin_close(&self) {
        self.outbox.close();
        self.closing.send_replace(true);
    }

    /// Returns once the backend is being closed.
    pub async fn closing(&self) {
        // Fails only without a sender, and there is one in `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }

    pub fn set_ended(&self) {
        self.ended.send_replace(true);
    }
}

struct TcpHub {
    shared: Arc<Shared>,
}

#[async_trait]
impl Transport for TcpHub {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats).with_total_order(true).with_acknowledged_in_order(true).with_numbered(true).with_announced_leave(true).with_named_answers(true).with_max_message_bytes(Some(MAX_MESSAGE))
    }

    async fn join(&self, seat: JoinRequest) -> Result<Inbox> {
        let (sender, receiver) = inbox(seat.limits, Arc::clone(&seat.metrics));
        let place = Arc::new(Place::new(&self.shared.cluster, &seat, sender));
        let mut arrived = place.arrived.subscribe();
        self.shared.add(place).await?;
        let joined = timeout(JOIN, arrived.wait_for(|arrived| *arrived)).await;
        joined.map(|_| receiver).map_err(|_| away())
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let encoded = batch::encode(&from.id, &from.namespace, &message)?;
        let bytes = check_size(&encoded)?;
        let topic = topic_of_all(&self.shared.cluster, &from.namespace);
        let is_numbered = message.is_numbered() && !from.id.is_emitter();
        let make = |sequencer: &mut Sequencer| {
            let seq_no = is_numbered.then(|| sequencer.next(&from.id, SeqChannel::ALL));
            let body = encoded.finish(seq_no, sequencer.high_water_marks(&from.id));
            wire::encode(Kind::Publish, &topic, &body)
        };
        self.shared.queue(bytes, make).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        let encoded = batch::encode(&from.id, &from.namespace, &response)?;
        let bytes = check_size(&encoded)?;
        let topic = topic_of_node(&self.shared.cluster, to);
        self.shared.queue(bytes, |_| wire::encode(Kind::Publish, &topic, &encoded.finish(None, &[]))).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.shared.remove(node).await
    }

    fn health(&self) -> Health {
        let (connected, queued_messages, queued_bytes) = self.shared.outbox.status();
        let reconnects = self.shared.reconnects.load(Ordering::Relaxed);
        Health::default().with_connected(connected).with_queued_messages(queued_messages).with_queued_bytes(queued_bytes).with_reconnects(reconnects)
    }

    async fn close(&self) {
        self.shared.begin_close();
        // Fails only without a sender, and there is one in `self`.
        let _ = self.shared.ended.subscribe().wait_for(|ended| *ended).await;
    }
}

impl Drop for TcpHub {
    /// Without `close`, the connection ends by itself.
    fn drop(&mut self) {
        self.shared.begin_close();
    }
}

impl fmt::Debug for TcpHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpHub").field("address", &self.shared.address).finish_non_exhaustive()
    }
}

/// Returns the size of a message that the hub takes.
fn check_size(message: &codec::EncodedMessage) -> Result<usize> {
    let bytes = message.len();
    if bytes <= MAX_MESSAGE {
        return Ok(bytes);
    }
    Err(Error::new(ErrorKind::TooLarge, format!("{bytes} bytes, the hub takes {MAX_MESSAGE}")))
}
