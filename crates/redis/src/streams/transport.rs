//! The transport over streams.

use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::Notify, time::timeout};
use trunkline_backend::Outbox;
use trunkline_core::{
    Backend, Capabilities, IdScheme, Membership, NodeId, NodeKey, Offset, Result, Room, SessionId, Transport,
    codec::{self, Format},
    model::{Answer, Delivery, Message, Response, SeqChannel, Session},
    payload::Rules,
    transport::{
        Health, History, Inbox, JoinRequest as CoreSeat, MissedBroadcast, NodeCount, NodeCounter, RestoredSession,
    },
};

use super::{
    entry::{self, Entry},
    history,
    names::Names,
    pubsub::{Ears, PubSub},
    seat::{Seat, comes_back, stored},
    tail::{Claim, Reading, Tail},
};
use crate::{
    config::{Config, Streams},
    envelope::Door,
    feed::{FeedLimits, Topic},
    node_counter,
    plumbing::{Plumbing, Route, count_refused},
    post::{Post, Verb},
    resp::Reply,
    seats::{Member, Seats},
    topology::{Servers, slot_of},
    writer::Clerk,
};

/// What is numbered over pub/sub; what is in the stream is numbered as [`SeqChannel::ALL`].
const PUBSUB: SeqChannel = SeqChannel(1);

/// The least that an entry counts in the queue, so that the number of entries on their way is bounded too.
const LEAST_BYTES: usize = 256;

/// How long a node with a full inbox holds up the others that read the same stream.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes the backend.
pub(crate) fn backend(config: &Config, options: &Streams, servers: Arc<Servers>) -> Backend {
    let transport = Arc::new(StreamsTransport::new(config, options, servers));
    Backend {
        transport: Arc::clone(&transport) as Arc<dyn Transport>,
        history: Some(Arc::clone(&transport) as Arc<dyn History>),
        interest: None,
        node_counter: Some(transport),
        ids: IdScheme::Hex16,
    }
}

/// Streams for what lasts, pub/sub for the rest.
struct StreamsTransport {
    names: Names,
    options: Streams,
    plumbing: Plumbing,
    shared: Arc<Shared>,
    tails: Vec<Tail>,
    pubsub: PubSub,
}

/// What the tasks share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) seats: Seats<Seat, Door>,
    outbox: Arc<Outbox<Post>>,
    gate: Gate,
    /// How many of the connections over which something is received are down.
    down: AtomicUsize,
}

impl StreamsTransport {
    fn new(config: &Config, options: &Streams, servers: Arc<Servers>) -> Self {
        let outbox = Arc::new(Outbox::new(config.outbox));
        let gate = Gate::new(options.max_len);
        let shared =
            Arc::new(Shared { seats: Seats::default(), outbox: Arc::clone(&outbox), gate, down: AtomicUsize::new(0) });
        let plumbing = Plumbing::new(config, servers, outbox, Arc::clone(&shared) as Arc<dyn Clerk>);
        let names = Names::new(&config.prefix, options);
        let Plumbing { servers, status, crew, .. } = &plumbing;
        let tail = |(index, name): (usize, &Bytes)| {
            Tail::new(index, name.clone(), Arc::clone(servers), Arc::clone(status), config, options)
        };
        let tails = names.streams().iter().enumerate().map(tail).collect();
        let ears = Ears(Arc::clone(&shared));
        let (limits, sharded) = (FeedLimits::of(config), options.sharded_pubsub);
        let pubsub = PubSub::new(crew, Arc::clone(servers), Arc::clone(status), ears, limits, sharded);
        Self { names, options: options.clone(), plumbing, shared, tails, pubsub }
    }

    fn topic(&self, name: Bytes) -> Topic {
        if self.options.sharded_pubsub { Topic::Shard(name) } else { Topic::Channel(name) }
    }

    fn topics(&self, node: &NodeKey) -> [(Topic, Door); 2] {
        [
            (self.topic(self.names.public(&node.namespace)), Door::Public),
            (self.topic(self.names.private(&node.namespace, &node.id)), Door::Private),
        ]
    }

    /// Queues a message that lasts.
    async fn append(&self, from: &NodeKey, seat: Option<Arc<Seat>>, mut message: Message) -> Result<()> {
        let data = entry::encode(&message, self.options.plaintext)?;
        self.plumbing.check_size(data.len())?;
        let bytes = data.len().max(LEAST_BYTES);
        let stream = self.names.streams()[self.names.index(&from.namespace)].clone();
        let max_len = Bytes::from(self.options.max_len.to_string());
        let from = from.clone();
        let push = move |sequencer: &mut trunkline_backend::outbox::Sequencer| {
            let seq_no = seat.as_ref().and_then(|_| sequencer.assign(&from.id, SeqChannel::ALL, &mut message));
            let fields = entry::fields(&from.id, &from.namespace, &message, data, seq_no);
            let number = match (&seat, seq_no) {
                (Some(seat), Some(seq_no)) if comes_back(&message) => {
                    seat.unread.add(seq_no.number, message, bytes);
                    Some(seq_no.number)
                }
                _ => None,
            };
            let slot = Some(slot_of(&stream));
            Post { from, slot, bytes, verb: Verb::Append { stream, max_len, fields, number } }
        };
        self.plumbing.queue(bytes, push).await
    }

    fn route(&self, channel: Bytes, numbered: Option<SeqChannel>) -> Route {
        Route { sharded: self.options.sharded_pubsub, channel, numbered }
    }

    fn session_key(&self, id: &SessionId) -> Vec<u8> {
        [self.options.session_prefix.as_bytes(), id.as_str().as_bytes()].concat()
    }

    fn stream(&self, node: &NodeKey) -> &Bytes {
        &self.names.streams()[self.names.index(&node.namespace)]
    }
}

const FORMAT: Format = Format::MsgPack(Rules::MsgpackJs);

#[async_trait]
impl Transport for StreamsTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::BrokerCount,
            total_order: true,
            acknowledged_in_order: false,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: false,
            history: true,
            max_message_bytes: Some(self.plumbing.max_message_bytes),
        }
    }

    async fn join(&self, seat: CoreSeat) -> Result<Inbox> {
        let node = seat.node.clone();
        let (member, inbox) = Member::new(seat);
        let stream = self.names.index(&node.namespace);
        let since = self.tails[stream].begin(&self.shared).await?;
        let seat = Arc::new(Seat::new(member, stream, since));
        let topics = self.topics(&node);
        self.shared.seats.add(&seat, topics.clone())?;
        let mut taken = Taken { transport: self, node: Some(node) };
        self.pubsub.subscribe(topics.map(|(topic, _)| topic).to_vec()).await?;
        seat.member.tell(Delivery::Subscribed(PUBSUB));
        seat.member.tell(Delivery::Connected);
        taken.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let seat = self.shared.seats.publishing(from)?;
        let lasts = match &message {
            Message::Broadcast { request, .. } => request.is_none(),
            Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. } => true,
            _ => false,
        };
        if lasts {
            return self.append(from, seat, message).await;
        }
        let frame = codec::encode(FORMAT, &from.id, &from.namespace, &message)?;
        let route = self.route(self.names.public(&from.namespace), seat.map(|_| PUBSUB));
        let bytes = frame.len();
        self.plumbing.publish(from, route, message, bytes, |seq_no, metrics| frame.finish(seq_no, metrics)).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        self.shared.seats.publishing(from)?;
        let format = match response.answer {
            // Node.js writes null for `undefined`; left out, both stay apart.
            Answer::Ack(None) | Answer::ServerSideEmit(None) => Format::MsgPack(Rules::Notepack),
            _ => FORMAT,
        };
        let payload = codec::encode(format, &from.id, &from.namespace, &response)?.finish(None, &[]);
        let route = self.route(self.names.private(&from.namespace, to), None);
        self.plumbing.send(from, route, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let Some(seat) = self.shared.seats.remove(node) else { return Ok(()) };
        self.shared.forget(&seat);
        self.plumbing.outbox.forget(&node.id);
        let mut topics = self.topics(node).map(|(topic, _)| topic).to_vec();
        topics.reverse();
        self.pubsub.unsubscribe(topics).await
    }

    fn health(&self) -> Health {
        self.plumbing.health()
    }

    async fn close(&self) {
        self.shared.seats.all().iter().for_each(|seat| self.shared.forget(seat));
        self.shared.seats.clear();
        self.pubsub.close().await;
        for tail in &self.tails {
            tail.stop().await;
        }
        self.plumbing.close().await;
    }
}

#[async_trait]
impl NodeCounter for StreamsTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let NodeKey { namespace, .. } = node;
        let own = |id: &NodeId| self.names.private(namespace, id);
        let counted = self.names.public(namespace);
        census::count(&self.plumbing.servers, self.options.sharded_pubsub, &counted, known, own).await
    }
}

#[async_trait]
impl History for StreamsTransport {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let key = self.session_key(&session.id);
        history::persist(&self.plumbing.servers, &key, &node.namespace, &session, self.options.session_ttl).await
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        entry::EntryId::of_offset(since)?;
        let key = self.session_key(id);
        let Some(session) = history::take(&self.plumbing.servers, &key, &node.namespace).await? else {
            return Ok(None);
        };
        let missed = self.replay(node, since, &session.rooms).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        history::replay(&self.plumbing.servers, self.stream(node), &node.namespace, since, rooms).await
    }
}

impl fmt::Debug for StreamsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsTransport").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A seat that is given back if joining ends early.
struct Taken<'a> {
    transport: &'a StreamsTransport,
    node: Option<NodeKey>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        self.transport.shared.seats.remove(&node);
        self.transport.pubsub.unsubscribe_later(self.transport.topics(&node).map(|(topic, _)| topic).to_vec());
    }
}

impl Reading for Shared {
    async fn entries(&self, stream: usize, entries: Vec<Entry>) {
        let seats: Vec<_> = self.seats.all().into_iter().filter(|seat| seat.stream == stream).collect();
        for seat in seats {
            self.hand_over(&seat, &entries).await;
        }
    }

    fn claims(&self, stream: usize) -> Vec<Claim> {
        let seats = self.seats.all().into_iter().filter(|seat| seat.stream == stream);
        let of_seat = |seat: Arc<Seat>| {
            let node = seat.member.node.clone();
            seat.take_claims().into_iter().map(move |claim| (node.clone(), claim))
        };
        seats.flat_map(of_seat).collect()
    }

    fn confirm(&self, claims: Vec<Claim>) {
        for (node, claim) in claims {
            if let Some(seat) = self.seats.get(&node) {
                seat.member.tell(claim);
            }
        }
    }

    fn tell(&self, stream: usize, delivery: Delivery) {
        let seats = self.seats.all().into_iter().filter(|seat| seat.stream == stream);
        seats.for_each(|seat| seat.member.tell(delivery.clone()));
    }

    fn lost(&self, _: usize, reason: &str) {
        self.one_lost(reason);
    }

    fn restored(&self, _: usize) {
        self.one_restored();
    }
}

impl Shared {
    /// The first connection that is lost makes the difference, and the last one that comes back.
    pub(super) fn one_lost(&self, reason: &str) {
        if self.down.fetch_add(1, Ordering::Relaxed) == 0 {
            self.seats.all().iter().for_each(|seat| seat.member.interrupted(reason));
        }
    }

    pub(super) fn one_restored(&self) {
        if self.down.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.seats.all().iter().for_each(|seat| seat.member.restored());
        }
    }

    /// Own entries split what comes from others: each has its place. Room is waited for before each part.
    async fn hand_over(&self, seat: &Seat, entries: &[Entry]) {
        let mut rest = entries;
        while !rest.is_empty() {
            seat.await_room(PATIENCE).await;
            let others = rest.iter().take_while(|entry| !seat.is_own(entry)).count();
            let (run, after) = rest.split_at(others);
            let run = run.iter().filter(|entry| seat.concerns(entry));
            seat.member.deliver(run, |entry, wants| seat.read(entry, wants));
            let own = after.iter().take_while(|entry| seat.is_own(entry)).count();
            let (own, after) = after.split_at(own);
            own.iter().filter(|entry| seat.concerns(entry)).for_each(|entry| self.own_entry(seat, entry));
            rest = after;
        }
    }

    fn own_entry(&self, seat: &Seat, entry: &Entry) {
        let Some(seq_no) = entry.seq_no else {
            seat.member.metrics.own_echoes.increment();
            return;
        };
        let (deliveries, bytes, written) = seat.returned(entry.id, seq_no.number);
        self.outbox.release(bytes);
        self.gate.returned(written);
        deliveries.into_iter().for_each(|delivery| seat.member.tell(delivery));
    }

    /// The node is gone: nobody waits for what has not come back.
    fn forget(&self, seat: &Seat) {
        let rest = seat.unread.take_all();
        self.outbox.release(rest.bytes);
        self.gate.returned(rest.written);
    }
}

impl Clerk for Shared {
    fn allowance(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>> {
        Box::pin(self.gate.allowance())
    }

    /// Own broadcasts count as queued until they come back.
    fn written(&self, post: Post, _: Reply) -> usize {
        let Verb::Append { number: Some(number), .. } = post.verb else { return post.bytes };
        match self.seats.get(&post.from) {
            Some(seat) if seat.unread.written(number) => {
                self.gate.written();
                0
            }
            _ => post.bytes,
        }
    }

    fn refused(&self, post: Post, reason: &str) -> usize {
        count_refused(&self.seats, &post, reason);
        if let (Verb::Append { number: Some(number), .. }, Some(seat)) = (&post.verb, self.seats.get(&post.from)) {
            let returned = seat.unread.returned(*number);
            self.gate.returned(returned.written);
            let messages = returned.lost.into_iter().chain(returned.found);
            messages.for_each(|message| seat.member.tell(stored(message, None)));
            return post.bytes + returned.bytes;
        }
        post.bytes
    }
}

/// Holds back the writer while much of what it has written has not been read.
#[derive(Debug)]
struct Gate {
    unread: AtomicUsize,
    limit: usize,
    changed: Notify,
}

/// How long the writer is held back when nothing comes back any more, because somebody has emptied the stream.
const STALLED: Duration = Duration::from_secs(5);

impl Gate {
    /// A part of what the stream keeps, so that several nodes may write at the same time.
    fn new(max_len: u64) -> Self {
        let limit = usize::try_from(max_len / 4).unwrap_or(usize::MAX).max(1);
        Self { unread: AtomicUsize::new(0), limit, changed: Notify::new() }
    }

    fn written(&self) {
        self.unread.fetch_add(1, Ordering::Relaxed);
    }

    fn returned(&self, count: usize) {
        self.unread.fetch_sub(count, Ordering::Relaxed);
        self.changed.notify_one();
    }

    async fn allowance(&self) -> usize {
        let open = async {
            loop {
                let changed = self.changed.notified();
                if self.unread.load(Ordering::Relaxed) < self.limit {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(STALLED, open).await;
        let left = self.limit.saturating_sub(self.unread.load(Ordering::Relaxed)).max(1);
        left.saturating_mul(LEAST_BYTES)
    }
}
