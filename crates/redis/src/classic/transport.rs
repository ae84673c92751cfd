//! Transport over pub/sub.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use trunkline_backend::{
    Outbox,
    rooms::{Interest, RecentJoins, SubscriptionQueue},
};
use trunkline_core::{
    Backend, Capabilities, IdScheme, Membership, Namespace, NodeId, NodeKey, Result, Room, Transport,
    model::{Answer, Delivery, Heartbeat, Message, Response, SeqChannel},
    transport::{Health, Inbox, JoinRequest, NodeCount, NodeCounter, RoomInterest},
};

use super::{
    encode,
    names::Names,
    node::{ClassicNode, Kind, RoomChannels},
};
use crate::{
    config::{Config, PubSub, PubSubSubscription},
    connect::ServerPool,
    subscribe::Topic,
    transport_core::{
        Complete, Fallback, Hello, JoinedNode as _, NodeInbox, NodeRooms, Outgoing, RejectionCounter,
        RoomSubscriptions, Route, SubscribedNodes, TransportCore, count_nodes,
    },
};

/// Backend of `mode=pubsub`. A server has been reached before.
pub(crate) fn backend(config: &Config, options: PubSub, servers: Arc<ServerPool>) -> Backend {
    let transport = Arc::new(ClassicTransport::new(config, options, servers));
    let hears_rooms = transport.hears_rooms();
    let backend = Backend::new(Arc::clone(&transport) as _, IdScheme::Short6)
        .with_name("redis-classic")
        .with_node_counter(Arc::clone(&transport) as _);
    if hears_rooms { backend.with_interest(transport) } else { backend }
}

/// Numbers of broadcasts on the channels of rooms. Not all nodes receive all of them.
const ROOMS: SeqChannel = SeqChannel(1);

/// Transport over pub/sub.
struct ClassicTransport {
    names: Names,
    options: PubSub,
    core: TransportCore<ClassicNode>,
    recent_joins: RecentJoins<Bytes>,
}

impl ClassicTransport {
    fn new(config: &Config, options: PubSub, servers: Arc<ServerPool>) -> Self {
        let nodes = Arc::<SubscribedNodes<ClassicNode>>::default();
        let observer = Arc::new(RejectionCounter(Arc::clone(&nodes)));
        let core = TransportCore::new(config, servers, Arc::new(Outbox::new(config.outbox)), nodes, observer);
        Self { names: Names::new(&config.prefix), options, core, recent_joins: RecentJoins::new(options.join_grace) }
    }

    fn hears_rooms(&self) -> bool {
        self.options.subscription == PubSubSubscription::Rooms
    }

    /// Topics of a node in the order in which they are subscribed to: a node is never seen by its own channel without
    /// being counted.
    fn topics(&self, node: &NodeKey) -> Vec<(Topic, Kind)> {
        let NodeKey { id, namespace } = node;
        let broadcasts = match self.options.subscription {
            PubSubSubscription::Pattern => self.names.broadcasts(namespace),
            PubSubSubscription::Rooms => self.names.unnamed_broadcasts(namespace),
        };
        vec![
            (broadcasts, Kind::Broadcasts),
            (Topic::Channel(self.names.response(namespace)), Kind::Responses),
            (Topic::Channel(self.names.request(namespace)), Kind::Requests),
            (Topic::Channel(self.names.private(namespace, id)), Kind::Responses),
        ]
    }

    fn encode<'a>(&self, from: &'a NodeKey, message: &Message) -> Result<Outgoing<'a, impl Complete + use<'a>>> {
        let joined = self.core.nodes.joined.publishing(from)?;
        if let (Some(joined), Some(request)) = (&joined, message.request()) {
            joined.expect(request);
        }
        let is_broadcast = matches!(message, Message::Broadcast { request: None, .. });
        let is_numbered = message.is_numbered() && joined.is_some_and(|joined| joined.numbered || !is_broadcast);
        let encoded = encode::message(from, message)?;
        if let Message::Join { rooms, .. } = message {
            self.recent_joins.note(rooms.iter().map(|room| self.names.room(&from.namespace, room)));
        }
        let (channel, number) = self.route(&from.namespace, message);
        let route = Route { sharded: false, channel, numbered: is_numbered.then_some(number) };
        let bytes = encoded.len() + encode::SEQ_NO_BYTES;
        self.core.check_size(bytes)?;
        Ok(route.outgoing(from, bytes, |seq_no, marks| encoded.finish(seq_no, marks)))
    }

    /// Pub/sub channel of a message, and the channel on which it is numbered. A plain broadcast to one room takes that
    /// of the room, unless a node may still be subscribing to it.
    fn route(&self, namespace: &Namespace, message: &Message) -> (Bytes, SeqChannel) {
        let Message::Broadcast { request: None, target, .. } = message else {
            return (self.names.request(namespace), SeqChannel::ALL);
        };
        let room = target.single_room().map(|room| self.names.room(namespace, room));
        match room.filter(|channel| !self.recent_joins.contains(channel)) {
            Some(channel) => (channel, ROOMS),
            None => (self.names.broadcast(namespace), SeqChannel::ALL),
        }
    }

    fn rooms_of(&self, node: &NodeKey) -> (NodeRooms<RoomChannels>, SubscriptionQueue<RoomChannels>) {
        let channels = RoomChannels { names: self.names.clone(), namespace: node.namespace.clone() };
        NodeRooms::new(node.clone(), Interest::new(channels, self.options.linger))
    }

    /// Subscribes to the channels of a node's rooms from now on.
    fn follow_rooms(&self, joined: &Arc<ClassicNode>, queue: SubscriptionQueue<RoomChannels>) {
        let (Some(rooms), namespace) = (&joined.rooms, &joined.inbox().node.namespace) else { return };
        let fallback = Fallback {
            max_channels: self.options.max_subscriptions,
            pattern: self.names.broadcasts(namespace),
            contained: self.names.unnamed_broadcasts(namespace),
        };
        let to_topic = (Topic::Channel as fn(Bytes) -> Topic, Kind::Broadcasts);
        RoomSubscriptions::spawn(&self.core, joined, rooms, queue, to_topic, Some(fallback));
    }
}

#[async_trait]
impl Transport for ClassicTransport {
    /// Where nodes subscribe to rooms, what is missing in these cannot be told, since no node receives all of them.
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::BrokerCount)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(!self.hears_rooms())
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_all_rooms_request(true)
            .with_max_message_bytes(Some(self.core.max_message_bytes))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (inbox, receiver) = NodeInbox::new(request);
        let node = inbox.node.clone();
        let channels = [self.names.broadcast(&node.namespace), self.names.response(&node.namespace)];
        let topics = self.topics(&node);
        let hello = encode::message(&node, &Message::Heartbeat(Heartbeat::new(true)))?.finish(None, &[]);
        let hello = Hello::new(false, self.names.request(&node.namespace), &hello, !self.hears_rooms());
        let (rooms, queue) = self.hears_rooms().then(|| self.rooms_of(&node)).unzip();
        let joined = Arc::new(ClassicNode::new(inbox, hello, rooms, channels, Arc::clone(&self.core.outbox)));
        if let Some(queue) = queue {
            self.follow_rooms(&joined, queue);
        }
        self.core
            .join(&joined, topics)
            .await
            .inspect_err(|_| joined.rooms.iter().for_each(NodeRooms::leave_all_later))?;
        if joined.rooms.is_none() {
            joined.inbox().push(Delivery::Subscribed(ROOMS));
        }
        joined.inbox().push(Delivery::Connected);
        Ok(receiver)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let is_queued = self.core.try_push(self.encode(from, &message)?)?;
        Ok((!is_queued).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.core.push(self.encode(from, &message)?).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        let joined = self.core.nodes.joined.publishing(from)?;
        let ids_only = joined.is_some_and(|joined| joined.takes_ids_only(&response.request));
        let payload = encode::response(Some(&from.id), response, ids_only)?;
        let is_private =
            self.options.specific_response_channel && !matches!(response.answer, Answer::ServerSideEmit(_));
        let channel = match is_private {
            true => self.names.private(&from.namespace, to),
            false => self.names.response(&from.namespace),
        };
        self.core.send(from, Route { sharded: false, channel, numbered: None }, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let Some(joined) = self.core.nodes.remove(node) else { return Ok(()) };
        let mut topics = self.topics(node);
        if let Some(rooms) = &joined.rooms {
            rooms.leave_all().await;
            topics.retain(|(_, kind)| !(rooms.uses_pattern() && *kind == Kind::Broadcasts));
        }
        self.core.leave(node, topics).await
    }

    async fn flush(&self) -> Result<()> {
        self.core.outbox.flush().await
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    async fn close(&self) {
        self.core.close().await;
    }
}

#[async_trait]
impl NodeCounter for ClassicTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let namespace = &node.namespace;
        let own = |id: &NodeId| self.names.private(namespace, id);
        count_nodes(&self.core.servers, false, &self.names.request(namespace), &node.id, known, own).await
    }
}

#[async_trait]
impl RoomInterest for ClassicTransport {
    fn buckets(&self) -> Option<u16> {
        None
    }

    fn subscriptions(&self, node: &NodeKey) -> usize {
        let joined = self.core.nodes.joined.of(node).ok();
        joined.and_then(|joined| Some(joined.rooms.as_ref()?.subscriptions())).unwrap_or(0)
    }

    fn is_active(&self, node: &NodeKey, room: &Room) -> bool {
        let joined = self.core.nodes.joined.of(node);
        joined.is_ok_and(|joined| joined.rooms.as_ref().is_none_or(|rooms| rooms.is_entered(room)))
    }

    /// Returns at once while the connection is lost: the next one begins with the room, and the loss is reported as a
    /// gap.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()> {
        match &self.core.nodes.joined.of(node)?.rooms {
            Some(rooms) => rooms.enter(room).await,
            None => Ok(()),
        }
    }

    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()> {
        if let Some(rooms) = &self.core.nodes.joined.of(node)?.rooms {
            rooms.leave(room);
        }
        Ok(())
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
