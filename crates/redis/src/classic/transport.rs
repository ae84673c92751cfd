//! The transport over pub/sub.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Namespace, Node, NodeId, Result, Transport,
    inbox::Inbox,
    message::{Answer, Channel, Message, Response},
    outbox::Outbox,
    transport::{Census, Headcount, Health, Seat as CoreSeat},
};

use super::{
    encode::{self, Encoded},
    names::Names,
    seat::{Kind, Seat},
};
use crate::{
    census,
    config::{Config, PubSub},
    feed::{Arrival, Feed, FeedLimits, Listener, Topic},
    post::{Post, Verb},
    resp::Reply,
    seats::{Member, Seats},
    status::Status,
    task::Task,
    topology::{Place, Servers},
    writer::{Clerk, Writer},
};

/// What a message takes in the queue beyond its own bytes.
const OVERHEAD: usize = 128;

/// How long the last messages may take when the transport is closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Makes the backend, once a server has been reached.
pub(crate) async fn connect(config: &Config, options: PubSub, servers: Arc<Servers>) -> Result<Backend> {
    let transport = Arc::new(ClassicTransport::new(config, options, servers));
    Ok(Backend {
        transport: Arc::clone(&transport) as Arc<dyn Transport>,
        history: None,
        interest: None,
        census: Some(transport),
        ids: IdScheme::Short6,
    })
}

/// Pub/sub.
struct ClassicTransport {
    names: Names,
    options: PubSub,
    max_message_bytes: usize,
    servers: Arc<Servers>,
    status: Arc<Status>,
    outbox: Arc<Outbox<Post>>,
    seats: Arc<Seats<Seat, Kind>>,
    feed: Feed,
    writing: Task,
    reading: Task,
}

impl ClassicTransport {
    fn new(config: &Config, options: PubSub, servers: Arc<Servers>) -> Self {
        let status = Arc::<Status>::default();
        let outbox = Arc::new(Outbox::new(config.outbox));
        outbox.set_connected(true);
        status.set_writing(true);
        let seats = Arc::<Seats<Seat, Kind>>::default();
        let writer = Writer {
            outbox: Arc::clone(&outbox),
            servers: Arc::clone(&servers),
            status: Arc::clone(&status),
            clerk: Arc::new(Accounts(Arc::clone(&seats))),
            max_backoff: config.max_backoff,
        };
        let listener = Arc::new(Ears(Arc::clone(&seats)));
        let limits = FeedLimits::of(config);
        let (feed, reading) =
            Feed::new(Place::Anywhere, Arc::clone(&servers), Arc::clone(&status), listener, limits);
        Self {
            names: Names::new(&config.prefix),
            options,
            max_message_bytes: config.max_message_bytes,
            servers,
            status,
            outbox,
            seats,
            feed,
            writing: Task::spawn(writer.run()),
            reading: Task::spawn(reading),
        }
    }

    /// In the order in which they are subscribed to: a node is never seen by its own channel without being counted.
    fn topics(&self, node: &Node) -> [(Topic, Kind); 4] {
        let Node { id, namespace } = node;
        [
            (self.names.broadcasts(namespace), Kind::Broadcasts),
            (Topic::Channel(self.names.response(namespace)), Kind::Responses),
            (Topic::Channel(self.names.request(namespace)), Kind::Requests),
            (Topic::Channel(self.names.private(namespace, id)), Kind::Responses),
        ]
    }

    fn channel_of(&self, namespace: &Namespace, message: &Message) -> Bytes {
        match message {
            Message::Broadcast { request: None, target, .. } => match target.single_room() {
                Some(room) => self.names.room(namespace, room),
                None => self.names.broadcast(namespace),
            },
            _ => self.names.request(namespace),
        }
    }

    fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes <= self.max_message_bytes {
            return Ok(());
        }
        let context = format!("{bytes} bytes, allowed are {}", self.max_message_bytes);
        Err(Error::new(ErrorKind::TooLarge, context))
    }

    async fn publish_numbered(&self, from: &Node, mut message: Message, encoded: Encoded, numbered: bool) -> Result<()> {
        let channel = self.channel_of(&from.namespace, &message);
        let bytes = encoded.len() + OVERHEAD;
        let from = from.clone();
        self.outbox
            .push(bytes, move |numbering| {
                let stamp = if numbered { numbering.stamp(&from.id, Channel::ALL, &mut message) } else { None };
                let counters = match &message {
                    Message::Heartbeat(heartbeat) => heartbeat.counters.as_slice(),
                    _ => &[],
                };
                let payload = encoded.finish(stamp, counters);
                Post { from, slot: None, bytes, verb: Verb::Publish { sharded: false, channel, payload } }
            })
            .await
    }
}

#[async_trait]
impl Transport for ClassicTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::Census,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: true,
            room_interest: false,
            history: false,
            max_message_bytes: Some(self.max_message_bytes),
        }
    }

    async fn join(&self, seat: CoreSeat) -> Result<Inbox> {
        let node = seat.node.clone();
        let (member, inbox) = Member::new(seat);
        let Node { namespace, .. } = &node;
        let (broadcast, response) = (self.names.broadcast(namespace), self.names.response(namespace));
        let seat = Arc::new(Seat::new(member, broadcast, response, Arc::clone(&self.outbox)));
        let topics = self.topics(&node);
        self.seats.add(&seat, topics.clone())?;
        let mut taken = Taken { transport: self, node: Some(node) };
        self.feed.subscribe(topics.map(|(topic, _)| topic).to_vec()).await?;
        seat.member.tell(trunkline_core::inbox::Delivery::Connected);
        taken.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &Node, message: Message) -> Result<()> {
        let seat = self.seats.publishing(from)?;
        if let (Some(seat), Some(request)) = (&seat, message.request()) {
            seat.expect(request);
        }
        let is_broadcast = matches!(message, Message::Broadcast { request: None, .. });
        let numbered = seat.is_some_and(|seat| seat.numbered || !is_broadcast);
        let encoded = encode::message(from, &message)?;
        self.check_size(encoded.len() + encode::STAMP_BYTES)?;
        self.publish_numbered(from, message, encoded, numbered).await
    }

    async fn send(&self, from: &Node, to: &NodeId, response: Response) -> Result<()> {
        let seat = self.seats.publishing(from)?;
        let ids_only = seat.is_some_and(|seat| seat.takes_ids_only(&response.request));
        let payload = encode::response(Some(&from.id), &response, ids_only)?;
        self.check_size(payload.len())?;
        let is_private = self.options.specific_response_channel && !matches!(response.answer, Answer::ServerSideEmit(_));
        let channel = match is_private {
            true => self.names.private(&from.namespace, to),
            false => self.names.response(&from.namespace),
        };
        let bytes = payload.len() + OVERHEAD;
        let from = from.clone();
        let verb = Verb::Publish { sharded: false, channel, payload };
        self.outbox.push(bytes, move |_| Post { from, slot: None, bytes, verb }).await
    }

    async fn leave(&self, node: &Node) -> Result<()> {
        if self.seats.remove(node).is_none() {
            return Ok(());
        }
        self.outbox.forget(&node.id);
        let mut topics = self.topics(node).map(|(topic, _)| topic).to_vec();
        topics.reverse();
        self.feed.unsubscribe(topics).await
    }

    fn health(&self) -> Health {
        let (_, queued_messages, queued_bytes) = self.outbox.status();
        let (connected, reconnects) = (self.status.is_connected(), self.status.reconnects());
        Health { connected, queued_messages, queued_bytes, reconnects }
    }

    async fn close(&self) {
        self.seats.clear();
        self.reading.stop().await;
        self.outbox.close();
        let _ = tokio::time::timeout(LAST_WORDS, self.writing.ended()).await;
        self.writing.stop().await;
        self.servers.close();
    }
}

#[async_trait]
impl Census for ClassicTransport {
    async fn count(&self, node: &Node, known: &[NodeId]) -> Result<Headcount> {
        let namespace = &node.namespace;
        let own = |id: &NodeId| self.names.private(namespace, id);
        census::count(&self.servers, false, &self.names.request(namespace), known, own).await
    }
}

impl fmt::Debug for ClassicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicTransport").field("names", &self.names).field("options", &self.options).finish_non_exhaustive()
    }
}

/// A seat that is given back if joining ends early.
struct Taken<'a> {
    transport: &'a ClassicTransport,
    node: Option<Node>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        self.transport.seats.remove(&node);
        self.transport.feed.unsubscribe_later(self.transport.topics(&node).map(|(topic, _)| topic).to_vec());
    }
}

/// Takes in what the feed receives.
#[derive(Debug)]
struct Ears(Arc<Seats<Seat, Kind>>);

impl Listener for Ears {
    fn arrived(&self, batch: &mut Vec<Arrival>) {
        self.0.route(batch, |arrival| &arrival.topic, |arrival, seat, kind, wants| seat.take(arrival, kind, wants));
    }

    fn lost(&self, reason: &str) {
        self.0.all().iter().for_each(|seat| seat.member.lost(reason));
    }

    fn restored(&self) {
        self.0.all().iter().for_each(|seat| seat.member.restored(false));
    }

    /// Plain channels are everywhere.
    fn moved(&self, _: &Topic) {}
}

/// Counts what the server refused.
#[derive(Debug)]
struct Accounts(Arc<Seats<Seat, Kind>>);

impl Clerk for Accounts {
    fn allowance(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>> {
        Box::pin(std::future::ready(usize::MAX))
    }

    fn written(&self, post: Post, _: Reply) -> usize {
        post.bytes
    }

    fn refused(&self, post: Post, reason: &str) -> usize {
        tracing::warn!(node = %post.from.id, error = reason, "the server refuses a message");
        if let Some(seat) = self.0.get(&post.from) {
            seat.member.counters.publish_errors.increment();
        }
        post.bytes
    }
}
