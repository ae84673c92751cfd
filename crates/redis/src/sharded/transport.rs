//! Transport over sharded pub/sub.

use std::{fmt, iter, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use trunkline_backend::{
    Outbox,
    rooms::{Interest, RecentJoins},
};
use trunkline_core::{
    Backend, Capabilities, IdScheme, Membership, Namespace, NodeId, NodeKey, Result, Room, Transport,
    codec::{self, BINARY_KINDS, BodyRef, Format},
    model::{Delivery, Heartbeat, Message, Response, SeqChannel, SeqNo},
    payload::Rules,
    transport::{Health, Inbox, JoinRequest, NodeCount, NodeCounter, RoomInterest},
};

use super::{
    names::Names,
    node::{RoomChannels, ShardedNode},
};
use crate::{
    config::{Config, Sharded, SubscriptionMode},
    connect::{ServerPool, slot_of},
    subscribe::Topic,
    transport_core::{
        ChannelKind, Complete, Hello, JoinedNode as _, NodeInbox, NodeRooms, Outgoing, RejectionCounter,
        RoomSubscriptions, Route, SubscribedNodes, TransportCore, count_nodes,
    },
};

/// Channel on which messages to rooms are numbered; on a cluster, those in the first slot.
const ROOMS: SeqChannel = SeqChannel(1);

/// Backend of `mode=sharded`. A server that knows sharded pub/sub has been reached before.
pub(crate) fn backend(config: &Config, options: Sharded, servers: Arc<ServerPool>) -> Backend {
    let transport = Arc::new(ShardedTransport::new(config, options, servers));
    let is_static = options.subscription == SubscriptionMode::Static;
    let backend = Backend::new(Arc::clone(&transport) as _, IdScheme::Hex16)
        .with_name("redis-sharded")
        .with_node_counter(Arc::clone(&transport) as _);
    if is_static { backend } else { backend.with_interest(transport) }
}

/// Transport over sharded pub/sub.
struct ShardedTransport {
    names: Names,
    options: Sharded,
    core: TransportCore<ShardedNode>,
    recent_joins: RecentJoins<Bytes>,
}

impl ShardedTransport {
    fn new(config: &Config, options: Sharded, servers: Arc<ServerPool>) -> Self {
        let nodes = Arc::<SubscribedNodes<ShardedNode>>::default();
        let observer = Arc::new(RejectionCounter(Arc::clone(&nodes)));
        let recent_joins = RecentJoins::new(options.join_grace).extended_by_use(servers.is_cluster());
        let core = TransportCore::new(config, servers, Arc::new(Outbox::new(config.outbox)), nodes, observer);
        Self { names: Names::new(&config.prefix, options.subscription), options, core, recent_joins }
    }

    fn is_static(&self) -> bool {
        self.options.subscription == SubscriptionMode::Static
    }

    fn is_cluster(&self) -> bool {
        self.core.servers.is_cluster()
    }

    fn topics(&self, node: &NodeKey) -> Vec<(Topic, ChannelKind)> {
        vec![
            (Topic::Shard(self.names.public(&node.namespace)), ChannelKind::Public),
            (Topic::Shard(self.names.private(&node.namespace, &node.id)), ChannelKind::Private),
        ]
    }

    fn encode<'a>(&self, from: &'a NodeKey, message: &Message) -> Result<Outgoing<'a, impl Complete + use<'a>>> {
        let joined = self.core.nodes.joined.publishing(from)?;
        let encoded = codec::encode(format_of(message), &from.id, &from.namespace, message)?;
        self.core.check_size(encoded.len())?;
        if let Message::Join { rooms, .. } = message {
            self.recent_joins.note(rooms.iter().filter_map(|room| self.names.room(&from.namespace, room)));
        }
        let (channel, number) = self.route(&from.namespace, message);
        let numbered = joined.filter(|_| message.is_numbered()).map(|_| number);
        let (route, bytes) = (Route { sharded: true, channel, numbered }, encoded.len());
        Ok(route.outgoing(from, bytes, |seq_no, marks| encoded.finish(seq_no, &told_marks(marks))))
    }

    /// Pub/sub channel of a message, and the channel on which it is numbered. A plain broadcast to one room takes that
    /// of the room, if it has one; what is answered, or changes rooms, goes to all nodes.
    fn route(&self, namespace: &Namespace, message: &Message) -> (Bytes, SeqChannel) {
        let room = match message {
            Message::Broadcast { request: None, target, .. } => target.single_room(),
            _ => None,
        };
        match room.and_then(|room| self.room_channel(namespace, room)) {
            Some(channel) => {
                let number = self.number_of(&channel);
                (channel, number)
            }
            None => (self.names.public(namespace), SeqChannel::ALL),
        }
    }

    fn room_channel(&self, namespace: &Namespace, room: &Room) -> Option<Bytes> {
        self.names.room(namespace, room).filter(|channel| !self.recent_joins.contains(channel))
    }

    /// Channel on which messages to rooms are numbered. On a cluster each slot has numbers of its own: only messages
    /// over the same connection keep their order.
    fn number_of(&self, channel: &Bytes) -> SeqChannel {
        SeqChannel(ROOMS.0 + if self.is_cluster() { slot_of(channel) } else { 0 })
    }
}

/// Format of a message: JSON, unless it contains binary.
fn format_of<'a>(body: impl Into<BodyRef<'a>>) -> Format {
    if codec::contains_binary(body, &BINARY_KINDS) { Format::MsgPack(Rules::Notepack) } else { Format::Json }
}

/// High-water marks that a heartbeat carries: of what all nodes receive, and of rooms where these have one channel of
/// numbers. The latter say nothing of what is missing, since the sender does not know which nodes receive a room; but they
/// contradict forged ones. On a cluster there are too many.
fn told_marks(marks: &[SeqNo]) -> Vec<SeqNo> {
    let mark = |channel| marks.iter().find(|seq_no| seq_no.channel == channel).copied();
    let all = mark(SeqChannel::ALL).unwrap_or(SeqNo { channel: SeqChannel::ALL, number: 0 });
    iter::once(all).chain(mark(ROOMS)).collect()
}

#[async_trait]
impl Transport for ShardedTransport {
    /// In the static mode, everything in a namespace has one channel, and its order, on a cluster too. In the dynamic
    /// modes rooms have channels of their own. A single server keeps the order among them; on a cluster channels live
    /// on different servers, with a connection to each, and only the order in each room is kept, and that of what goes
    /// to all nodes. Acknowledged broadcasts are of the latter kind.
    ///
    /// What is missing in the channels of rooms cannot be told, since no node receives all of them: in the dynamic
    /// modes messages have numbers, by which repeats are dropped, but that holes are noticed is not promised.
    fn capabilities(&self) -> Capabilities {
        let one_way = self.is_static() || !self.is_cluster();
        Capabilities::new(Membership::BrokerCount)
            .with_total_order(one_way)
            .with_acknowledged_in_order(one_way)
            .with_numbered(self.is_static())
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_max_message_bytes(Some(self.core.max_message_bytes))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (inbox, receiver) = NodeInbox::new(request);
        let node = inbox.node.clone();
        let channels = RoomChannels { names: self.names.clone(), namespace: node.namespace.clone() };
        let (rooms, queue) = NodeRooms::new(node.clone(), Interest::new(channels, self.options.linger));
        let message = Message::Heartbeat(Heartbeat::new(true));
        let hello = codec::encode(Format::Json, &node.id, &node.namespace, &message)?.finish(None, &[]);
        let hello = Hello::new(true, self.names.public(&node.namespace), &hello, self.is_static());
        let joined = Arc::new(ShardedNode { inbox, hello, rooms });
        let to_topic = (Topic::Shard as fn(Bytes) -> Topic, ChannelKind::Public);
        RoomSubscriptions::spawn(&self.core, &joined, &joined.rooms, queue, to_topic, None);
        self.core.join(&joined, self.topics(&node)).await.inspect_err(|_| joined.rooms.leave_all_later())?;
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
        self.core.nodes.joined.publishing(from)?;
        let payload = codec::encode(format_of(response), &from.id, &from.namespace, response)?.finish(None, &[]);
        let channel = self.names.private(&from.namespace, to);
        self.core.send(from, Route { sharded: true, channel, numbered: None }, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let Some(joined) = self.core.nodes.remove(node) else { return Ok(()) };
        joined.rooms.leave_all().await;
        // A node that is seen by its own channel is always counted: that is given up first.
        self.core.leave(node, self.topics(node)).await
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
impl NodeCounter for ShardedTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let NodeKey { namespace, .. } = node;
        let own = |id: &NodeId| self.names.private(namespace, id);
        count_nodes(&self.core.servers, true, &self.names.public(namespace), &node.id, known, own).await
    }
}

#[async_trait]
impl RoomInterest for ShardedTransport {
    fn buckets(&self) -> Option<u16> {
        None
    }

    fn subscriptions(&self, node: &NodeKey) -> usize {
        self.core.nodes.joined.of(node).map_or(0, |node| node.rooms.subscriptions())
    }

    fn is_active(&self, node: &NodeKey, room: &Room) -> bool {
        self.core.nodes.joined.of(node).is_ok_and(|node| node.rooms.is_entered(room))
    }

    /// Returns at once while the connection is lost: the next one begins with the room, and the loss is reported as a
    /// gap.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.core.nodes.joined.of(node)?.rooms.enter(room).await
    }

    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()> {
        self.core.nodes.joined.of(node)?.rooms.leave(room);
        Ok(())
    }
}

impl fmt::Debug for ShardedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedTransport")
            .field("names", &self.names)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
