//! The transport over sharded pub/sub.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;
use trunkline_backend::Outbox;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Namespace, NodeId, NodeKey, Result, Room, Transport,
    codec::{self, BINARY_KINDS, BodyRef, Format},
    model::{Delivery, Message, Response, SeqChannel, SeqNo},
    payload::Rules,
    transport::{Health, Inbox, JoinRequest as CoreSeat, NodeCount, NodeCounter, RoomInterest},
};

use super::{
    fresh::Fresh,
    names::Names,
    rooms::{Entrance, Rooms},
    seat::Seat,
    shared::{Shared, sweep},
};
use crate::{
    config::{Config, Sharded, SubscriptionMode},
    envelope::Door,
    feed::{FeedLimits, Topic},
    node_counter,
    plumbing::{Accounts, Plumbing, Route},
    seats::Member,
    shards::Shards,
    task::Task,
    topology::{Servers, slot_of},
};

/// Makes the backend, once a server has been reached that can do it.
pub(crate) fn backend(config: &Config, options: Sharded, servers: Arc<Servers>) -> Backend {
    let transport = Arc::new(ShardedTransport::new(config, options, servers));
    let is_static = options.subscription == SubscriptionMode::Static;
    Backend {
        transport: Arc::clone(&transport) as Arc<dyn Transport>,
        history: None,
        interest: (!is_static).then(|| Arc::clone(&transport) as Arc<dyn RoomInterest>),
        node_counter: Some(transport),
        ids: IdScheme::Hex16,
    }
}

/// Sharded pub/sub.
struct ShardedTransport {
    names: Names,
    options: Sharded,
    plumbing: Plumbing,
    shared: Arc<Shared>,
    shards: Shards,
    fresh: Fresh,
    sweeping: Task,
}

impl ShardedTransport {
    fn new(config: &Config, options: Sharded, servers: Arc<Servers>) -> Self {
        let shared = Arc::<Shared>::default();
        let clerk = Arc::new(Accounts(Arc::clone(&shared.seats)));
        let plumbing = Plumbing::new(config, servers, Arc::new(Outbox::new(config.outbox)), clerk);
        let (servers, status) = (Arc::clone(&plumbing.servers), Arc::clone(&plumbing.status));
        let fresh = Fresh::new(options.join_grace, servers.is_cluster());
        let shards = Shards::new(&plumbing.crew, servers, status, Arc::clone(&shared) as _, FeedLimits::of(config));
        let sweeping = Task::spawn(sweep(Arc::clone(&shared), shards.clone()));
        let names = Names::new(&config.prefix, options.subscription);
        Self { names, options, plumbing, shared, shards, fresh, sweeping }
    }

    fn is_static(&self) -> bool {
        self.options.subscription == SubscriptionMode::Static
    }

    fn is_cluster(&self) -> bool {
        self.plumbing.servers.is_cluster()
    }

    fn topics(&self, node: &NodeKey) -> [(Topic, Door); 2] {
        [
            (Topic::Shard(self.names.public(&node.namespace)), Door::Public),
            (Topic::Shard(self.names.private(&node.namespace, &node.id)), Door::Private),
        ]
    }

    fn seat(&self, node: &NodeKey) -> Result<Arc<Seat>> {
        let gone =
            || Error::new(ErrorKind::Closed, format!("node {} of namespace {} has left", node.id, node.namespace));
        self.shared.seats.get(node).ok_or_else(gone)
    }

    /// Which channel a message takes, and as what it is numbered there. A plain broadcast to one room takes that of the room, if it has one;
    /// what is answered, or changes rooms, concerns everybody.
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
        self.names.room(namespace, room).filter(|_| !self.fresh.contains(namespace, room))
    }

    /// What goes to rooms is numbered apart. On a cluster each slot has numbers of its own, since only what has the same way keeps its order.
    fn number_of(&self, channel: &Bytes) -> SeqChannel {
        SeqChannel(1 + if self.is_cluster() { slot_of(channel) } else { 0 })
    }

    async fn leave_topics(&self, node: &NodeKey, seat: &Seat) -> Result<()> {
        let rooms: Vec<_> = seat.rooms().take_all().into_iter().map(Topic::Shard).collect();
        let [(public, _), (private, _)] = self.topics(node);
        // Who is seen by its own channel is always counted.
        let private = rooms.into_iter().chain([private]).collect();
        let (first, last) = (self.shards.unsubscribe(private).await, self.shards.unsubscribe(vec![public]).await);
        first.and(last)
    }
}

/// JSON, unless that has no way for what is in the message.
fn format_of<'a>(body: impl Into<BodyRef<'a>>) -> Format {
    if codec::contains_binary(body, &BINARY_KINDS) { Format::MsgPack(Rules::Notepack) } else { Format::Json }
}

/// Heartbeats tell only what all nodes receive: who receives which rooms the sender does not know.
fn told(metrics: &[SeqNo]) -> Vec<SeqNo> {
    let all = metrics.iter().find(|seq_no| seq_no.channel == SeqChannel::ALL).copied();
    vec![all.unwrap_or(SeqNo { channel: SeqChannel::ALL, number: 0 })]
}

#[async_trait]
impl Transport for ShardedTransport {
    /// In the static mode, everything in a namespace has one channel, and its order, on a cluster too. In the dynamic modes rooms have channels
    /// of their own. A single server keeps the order among them; on a cluster channels live on different servers, with a connection to each, and
    /// only the order in each room is kept, and that of what goes to everybody. Acknowledged broadcasts are of the latter kind.
    ///
    /// Nobody can tell what is missing in the channels of rooms, since no node receives all of them: in the dynamic modes messages have numbers,
    /// by which repeats are dropped, but that holes are noticed is not promised.
    fn capabilities(&self) -> Capabilities {
        let one_way = self.is_static() || !self.is_cluster();
        Capabilities {
            membership: Membership::BrokerCount,
            total_order: one_way,
            acknowledged_in_order: one_way,
            numbered: self.is_static(),
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: !self.is_static(),
            history: false,
            max_message_bytes: Some(self.plumbing.max_message_bytes),
        }
    }

    async fn join(&self, seat: CoreSeat) -> Result<Inbox> {
        let node = seat.node.clone();
        let (member, inbox) = Member::new(seat);
        let seat = Arc::new(Seat::new(member, Rooms::new(self.options.linger)));
        let topics = self.topics(&node);
        self.shared.seats.add(&seat, topics.clone())?;
        let mut taken = Taken { transport: self, node: Some(node), topics: Vec::new() };
        // One after the other: who is seen by its own channel is always counted.
        for (topic, _) in topics {
            let turn = self.shards.turn().await?;
            taken.topics.push(topic.clone());
            turn.subscribe(vec![topic]).await?;
        }
        seat.member.tell(Delivery::Connected);
        taken.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let seat = self.shared.seats.publishing(from)?;
        let frame = codec::encode(format_of(&message), &from.id, &from.namespace, &message)?;
        if let Message::Join { rooms, .. } = &message
            && !self.is_static()
        {
            self.fresh.note(&from.namespace, rooms);
        }
        let (channel, number) = self.route(&from.namespace, &message);
        let route = Route { sharded: true, channel, numbered: seat.map(|_| number) };
        let bytes = frame.len();
        self.plumbing.publish(from, route, message, bytes, |seq_no, metrics| frame.finish(seq_no, &told(metrics))).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        self.shared.seats.publishing(from)?;
        let payload = codec::encode(format_of(&response), &from.id, &from.namespace, &response)?.finish(None, &[]);
        let channel = self.names.private(&from.namespace, to);
        self.plumbing.send(from, Route { sharded: true, channel, numbered: None }, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let Some(seat) = self.shared.seats.remove(node) else { return Ok(()) };
        self.plumbing.outbox.forget(&node.id);
        self.leave_topics(node, &seat).await
    }

    fn health(&self) -> Health {
        self.plumbing.health()
    }

    async fn close(&self) {
        self.shared.seats.clear();
        self.sweeping.stop().await;
        self.shards.close().await;
        self.plumbing.close().await;
    }
}

#[async_trait]
impl NodeCounter for ShardedTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let NodeKey { namespace, .. } = node;
        let own = |id: &NodeId| self.names.private(namespace, id);
        census::count(&self.plumbing.servers, true, &self.names.public(namespace), known, own).await
    }
}

#[async_trait]
impl RoomInterest for ShardedTransport {
    fn buckets(&self) -> Option<u16> {
        None
    }

    /// While the connection is lost this returns at once: the next one begins with the room, and that messages may be missing is reported.
    async fn room_created(&self, node: &NodeKey, room: &Room) -> Result<()> {
        let Some(channel) = self.names.room(&node.namespace, room) else { return Ok(()) };
        let seat = self.seat(node)?;
        let topic = Topic::Shard(channel.clone());
        let turn = self.shards.turn().await?;
        let entrance = {
            let mut rooms = seat.rooms();
            let entrance = rooms.enter(&channel, room);
            if entrance == Entrance::New {
                self.shared.seats.connect(&seat, topic.clone(), Door::Public);
            }
            entrance
        };
        match entrance {
            Entrance::Open => return Ok(()),
            Entrance::New => turn.subscribe_unless_lost(vec![topic]).await?,
            Entrance::Coming => {
                let _extra = Extra { shards: &self.shards, topic: topic.clone() };
                turn.subscribe_unless_lost(vec![topic]).await?;
            }
        }
        seat.rooms().confirm(&channel);
        Ok(())
    }

    async fn room_deleted(&self, node: &NodeKey, room: &Room) -> Result<()> {
        let Some(channel) = self.names.room(&node.namespace, room) else { return Ok(()) };
        let is_new = self.seat(node)?.rooms().leave(Instant::now(), &channel, room);
        if is_new {
            self.shared.left_rooms.notify_one();
        }
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

/// A seat that is given back if joining ends early.
struct Taken<'a> {
    transport: &'a ShardedTransport,
    node: Option<NodeKey>,
    topics: Vec<Topic>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        self.transport.shared.seats.remove(&node);
        self.transport.shards.unsubscribe_later(std::mem::take(&mut self.topics));
    }
}

/// A subscription that is there twice, in order to wait for it.
struct Extra<'a> {
    shards: &'a Shards,
    topic: Topic,
}

impl Drop for Extra<'_> {
    fn drop(&mut self) {
        self.shards.unsubscribe_later(vec![self.topic.clone()]);
    }
}
