//! The transport over pub/sub.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use trunkline_backend::Outbox;
use trunkline_core::{
    Backend, Capabilities, IdScheme, Membership, Namespace, NodeId, NodeKey, Result, Transport,
    model::{Answer, Delivery, Message, Response, SeqChannel},
    transport::{Health, Inbox, JoinRequest as CoreSeat, NodeCount, NodeCounter},
};

use super::{
    encode,
    names::Names,
    seat::{Kind, Seat},
};
use crate::{
    config::{Config, PubSub},
    feed::{Arrival, Feed, FeedLimits, Listener, Topic},
    node_counter,
    plumbing::{Accounts, Plumbing, Route},
    seats::{Member, Seats},
    task::Task,
    topology::{Place, Servers},
};

/// Makes the backend, once a server has been reached.
pub(crate) fn backend(config: &Config, options: PubSub, servers: Arc<Servers>) -> Backend {
    let transport = Arc::new(ClassicTransport::new(config, options, servers));
    Backend {
        transport: Arc::clone(&transport) as Arc<dyn Transport>,
        history: None,
        interest: None,
        node_counter: Some(transport),
        ids: IdScheme::Short6,
    }
}

/// Pub/sub.
struct ClassicTransport {
    names: Names,
    options: PubSub,
    plumbing: Plumbing,
    seats: Arc<Seats<Seat, Kind>>,
    feed: Feed,
    reading: Task,
}

impl ClassicTransport {
    fn new(config: &Config, options: PubSub, servers: Arc<Servers>) -> Self {
        let seats = Arc::<Seats<Seat, Kind>>::default();
        let clerk = Arc::new(Accounts(Arc::clone(&seats)));
        let plumbing = Plumbing::new(config, servers, Arc::new(Outbox::new(config.outbox)), clerk);
        let listener = Arc::new(Ears(Arc::clone(&seats)));
        let (servers, status) = (Arc::clone(&plumbing.servers), Arc::clone(&plumbing.status));
        let (feed, reading) = Feed::new(Place::Anywhere, servers, status, listener, FeedLimits::of(config));
        let names = Names::new(&config.prefix);
        let reading = plumbing.crew.take_on(reading);
        Self { names, options, plumbing, seats, feed, reading }
    }

    /// In the order in which they are subscribed to: a node is never seen by its own channel without being counted.
    fn topics(&self, node: &NodeKey) -> [(Topic, Kind); 4] {
        let NodeKey { id, namespace } = node;
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
}

#[async_trait]
impl Transport for ClassicTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::BrokerCount,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: true,
            room_interest: false,
            history: false,
            max_message_bytes: Some(self.plumbing.max_message_bytes),
        }
    }

    async fn join(&self, seat: CoreSeat) -> Result<Inbox> {
        let node = seat.node.clone();
        let (member, inbox) = Member::new(seat);
        let NodeKey { namespace, .. } = &node;
        let (broadcast, response) = (self.names.broadcast(namespace), self.names.response(namespace));
        let seat = Arc::new(Seat::new(member, broadcast, response, Arc::clone(&self.plumbing.outbox)));
        let topics = self.topics(&node);
        self.seats.add(&seat, topics.clone())?;
        let mut taken = Taken { transport: self, node: Some(node) };
        self.feed.subscribe(topics.map(|(topic, _)| topic).to_vec()).await?;
        seat.member.tell(Delivery::Connected);
        taken.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let seat = self.seats.publishing(from)?;
        if let (Some(seat), Some(request)) = (&seat, message.request()) {
            seat.expect(request);
        }
        let is_broadcast = matches!(message, Message::Broadcast { request: None, .. });
        let numbered = seat.is_some_and(|seat| seat.numbered || !is_broadcast);
        let encoded = encode::message(from, &message)?;
        let channel = self.channel_of(&from.namespace, &message);
        let route = Route { sharded: false, channel, numbered: numbered.then_some(SeqChannel::ALL) };
        let bytes = encoded.len() + encode::STAMP_BYTES;
        self.plumbing.publish(from, route, message, bytes, |seq_no, metrics| encoded.finish(seq_no, metrics)).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        let seat = self.seats.publishing(from)?;
        let ids_only = seat.is_some_and(|seat| seat.takes_ids_only(&response.request));
        let payload = encode::response(Some(&from.id), &response, ids_only)?;
        let is_private =
            self.options.specific_response_channel && !matches!(response.answer, Answer::ServerSideEmit(_));
        let channel = match is_private {
            true => self.names.private(&from.namespace, to),
            false => self.names.response(&from.namespace),
        };
        self.plumbing.send(from, Route { sharded: false, channel, numbered: None }, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        if self.seats.remove(node).is_none() {
            return Ok(());
        }
        self.plumbing.outbox.forget(&node.id);
        let mut topics = self.topics(node).map(|(topic, _)| topic).to_vec();
        topics.reverse();
        self.feed.unsubscribe(topics).await
    }

    fn health(&self) -> Health {
        self.plumbing.health()
    }

    async fn close(&self) {
        self.seats.clear();
        self.reading.stop().await;
        self.plumbing.close().await;
    }
}

#[async_trait]
impl NodeCounter for ClassicTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let namespace = &node.namespace;
        let own = |id: &NodeId| self.names.private(namespace, id);
        census::count(&self.plumbing.servers, false, &self.names.request(namespace), known, own).await
    }
}

impl fmt::Debug for ClassicTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassicTransport")
            .field("names", &self.names)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// A seat that is given back if joining ends early.
struct Taken<'a> {
    transport: &'a ClassicTransport,
    node: Option<NodeKey>,
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
        self.0.all().iter().for_each(|seat| seat.member.restored());
    }

    /// Plain channels are everywhere.
    fn moved(&self, _: &Topic) {}
}
