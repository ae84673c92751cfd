//! Transport over streams.

use std::{fmt, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use trunkline_backend::Outbox;
use trunkline_core::{
    Backend, Capabilities, IdScheme, Membership, NodeId, NodeKey, Offset, Result, Room, SessionId, Transport,
    codec::{self, Format},
    model::{Ack, Answer, Delivery, Message, Response, SeqChannel, SeqNo, Session},
    payload::Rules,
    transport::{Health, History, Inbox, JoinRequest, MissedBroadcast, NodeCount, NodeCounter, RestoredSession},
};

use super::{
    entry::{self, Entry},
    history,
    lag::ReadLagLimit,
    names::Names,
    node::{StreamNode, comes_back, stored},
    reader::{EntryHandler, StreamReader},
};
use crate::{
    config::{Config, Streams},
    connect::{Reply, ServerPool, slot_of},
    publish::{Command, Publication, PublishObserver},
    subscribe::{MessageHandler as _, Topic},
    transport_core::{
        ChannelKind, Complete, NodeInbox, Outgoing, Route, SubscribedNodes, TransportCore, count_nodes, count_rejected,
    },
};

/// Channel on which messages over pub/sub are numbered; those in the stream are numbered on [`SeqChannel::ALL`].
const PUBSUB: SeqChannel = SeqChannel(1);

/// Least size of an entry in the outbox, so that the number of entries under way is bounded too.
const LEAST_BYTES: usize = 256;

/// How long a node with a full inbox holds up the others that read the same stream.
const MAX_HOLD: Duration = Duration::from_secs(1);

/// Backend of `mode=streams`.
pub(crate) fn backend(config: &Config, options: &Streams, servers: Arc<ServerPool>) -> Backend {
    let transport = Arc::new(StreamsTransport::new(config, options, servers));
    let backend = Backend::new(Arc::clone(&transport) as _, IdScheme::Hex16).with_name("redis-streams");
    backend.with_history(Arc::clone(&transport) as _).with_node_counter(transport)
}

/// Transport over streams for what lasts, and pub/sub for the rest.
struct StreamsTransport {
    names: Names,
    options: Streams,
    core: TransportCore<StreamNode>,
    shared: Arc<Shared>,
    readers: Vec<StreamReader>,
}

/// What callers and tasks share.
#[derive(Debug)]
struct Shared {
    nodes: Arc<SubscribedNodes<StreamNode>>,
    outbox: Arc<Outbox<Publication>>,
    limit: ReadLagLimit,
}

impl StreamsTransport {
    fn new(config: &Config, options: &Streams, servers: Arc<ServerPool>) -> Self {
        let (nodes, outbox) = (Arc::<SubscribedNodes<StreamNode>>::default(), Arc::new(Outbox::new(config.outbox)));
        let limit = ReadLagLimit::new(options.max_len);
        let shared = Arc::new(Shared { nodes: Arc::clone(&nodes), outbox: Arc::clone(&outbox), limit });
        let core = TransportCore::new(config, servers, outbox, nodes, Arc::clone(&shared) as _);
        let names = Names::new(&config.prefix, options);
        let reader = |(index, name): (usize, &Bytes)| {
            let (servers, status, tasks) = (Arc::clone(&core.servers), Arc::clone(&core.status), core.tasks.clone());
            StreamReader::new(index, name.clone(), servers, status, tasks, config, options)
        };
        let readers = names.streams().iter().enumerate().map(reader).collect();
        Self { names, options: options.clone(), core, shared, readers }
    }

    fn topic(&self, name: Bytes) -> Topic {
        if self.options.sharded_pubsub { Topic::Shard(name) } else { Topic::Channel(name) }
    }

    fn topics(&self, node: &NodeKey) -> Vec<(Topic, ChannelKind)> {
        vec![
            (self.topic(self.names.public(&node.namespace)), ChannelKind::Public),
            (self.topic(self.names.private(&node.namespace, &node.id)), ChannelKind::Private),
        ]
    }

    /// A message for the stream.
    fn append<'a>(&self, from: &'a NodeKey, message: &'a Message) -> Result<Outgoing<'a, impl Complete + use<'a>>> {
        let joined = self.shared.nodes.joined.publishing(from)?;
        let data = entry::encode(message, self.options.plaintext)?;
        self.core.check_size(data.len())?;
        let own = joined.as_ref().filter(|_| comes_back(message)).map(|_| message.compact());
        let bytes = data.len().max(LEAST_BYTES) + own.as_ref().map_or(0, Message::weight);
        let (stream, max_len) = (self.stream(from).clone(), Bytes::from(self.options.max_len.to_string()));
        let channel = joined.as_ref().filter(|_| message.is_numbered()).map(|_| SeqChannel::ALL);
        let make = move |seq_no: Option<SeqNo>, _: &[SeqNo]| {
            let fields = entry::fields(&from.id, &from.namespace, message, data, seq_no);
            let own = joined.zip(own).zip(seq_no);
            let number = own.map(|((joined, own), SeqNo { number, .. })| {
                joined.pending_own.add(number, own, bytes);
                number
            });
            let slot = Some(slot_of(&stream));
            Publication {
                from: from.clone(),
                slot,
                bytes,
                command: Command::Append { stream, max_len, fields, number },
            }
        };
        Ok(Outgoing { from, channel, bytes, make })
    }

    /// A message for subscribers.
    fn announce<'a>(&self, from: &'a NodeKey, message: &Message) -> Result<Outgoing<'a, impl Complete + use<'a>>> {
        let joined = self.shared.nodes.joined.publishing(from)?;
        let encoded = codec::encode(FORMAT, &from.id, &from.namespace, message)?;
        self.core.check_size(encoded.len())?;
        let numbered = joined.filter(|_| message.is_numbered()).map(|_| PUBSUB);
        let (route, bytes) = (self.route(self.names.public(&from.namespace), numbered), encoded.len());
        Ok(route.outgoing(from, bytes, |seq_no, marks| encoded.finish(seq_no, marks)))
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

/// Whether a message goes into the stream.
fn lasts(message: &Message) -> bool {
    match message {
        Message::Broadcast { request, .. } => request.is_none(),
        Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. } => true,
        _ => false,
    }
}

const FORMAT: Format = Format::MsgPack(Rules::MsgpackJs);

#[async_trait]
impl Transport for StreamsTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::BrokerCount)
            .with_total_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_max_message_bytes(Some(self.core.max_message_bytes))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let (inbox, receiver) = NodeInbox::new(request);
        let topics = self.topics(&inbox.node);
        let stream = self.names.index(&inbox.node.namespace);
        // Emitters write the messages of a namespace into any of the streams, and Node.js servers read all.
        let begun = self.readers.iter().map(|reader| reader.begin(&self.shared));
        let since = try_join_all(begun).await?;
        let joined = Arc::new(StreamNode::new(inbox, stream, since));
        self.core.join(&joined, topics).await?;
        joined.inbox.push(Delivery::Subscribed(PUBSUB));
        joined.inbox.push(Delivery::Connected);
        Ok(receiver)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let is_queued = match lasts(&message) {
            true => self.core.try_push(self.append(from, &message)?)?,
            false => self.core.try_push(self.announce(from, &message)?)?,
        };
        Ok((!is_queued).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        match lasts(&message) {
            true => self.core.push(self.append(from, &message)?).await,
            false => self.core.push(self.announce(from, &message)?).await,
        }
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.shared.nodes.joined.publishing(from)?;
        let format = match response.answer {
            // Node.js writes null for `undefined`; left out, both stay apart.
            Answer::Ack(Ack { value: None, .. }) | Answer::ServerSideEmit(None) => Format::MsgPack(Rules::Notepack),
            _ => FORMAT,
        };
        let payload = codec::encode(format, &from.id, &from.namespace, response)?.finish(None, &[]);
        let route = self.route(self.names.private(&from.namespace, to), None);
        self.core.send(from, route, payload).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        let Some(joined) = self.shared.nodes.remove(node) else { return Ok(()) };
        self.shared.forget(&joined);
        self.core.leave(node, self.topics(node)).await
    }

    async fn flush(&self) -> Result<()> {
        self.core.outbox.flush().await
    }

    fn health(&self) -> Health {
        self.core.health()
    }

    async fn close(&self) {
        self.shared.nodes.joined.all().iter().for_each(|joined| self.shared.forget(joined));
        self.core.close().await;
    }
}

#[async_trait]
impl NodeCounter for StreamsTransport {
    async fn count_nodes(&self, node: &NodeKey, known: &[NodeId]) -> Result<NodeCount> {
        let NodeKey { namespace, .. } = node;
        let own = |id: &NodeId| self.names.private(namespace, id);
        let counted = self.names.public(namespace);
        count_nodes(&self.core.servers, self.options.sharded_pubsub, &counted, &node.id, known, own).await
    }
}

#[async_trait]
impl History for StreamsTransport {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let key = self.session_key(&session.id);
        history::persist(&self.core.servers, &key, &node.namespace, &session, self.options.session_ttl).await
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        entry::EntryId::of_offset(since)?;
        let key = self.session_key(id);
        let Some(session) = history::take(&self.core.servers, &key, &node.namespace).await? else {
            return Ok(None);
        };
        let missed = self.replay(node, since, &session.rooms_with_own()).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        history::replay(&self.core.servers, self.stream(node), &node.namespace, since, rooms).await
    }

    async fn reach(&self, node: &NodeKey) -> Result<Option<Duration>> {
        history::reach(&self.core.servers, self.stream(node)).await
    }
}

impl fmt::Debug for StreamsTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamsTransport").field("names", &self.names).finish_non_exhaustive()
    }
}

impl EntryHandler for Shared {
    async fn entries(&self, stream: usize, entries: Vec<Entry>) {
        for joined in self.nodes.joined.all() {
            match joined.stream == stream {
                true => self.hand_over(&joined, &entries).await,
                false => hand_over_foreign(&joined, stream, &entries).await,
            }
        }
    }

    fn asking(&self, stream: usize) {
        self.readers_of(stream).for_each(|joined| joined.asking());
    }

    fn at_end(&self, stream: usize) {
        self.readers_of(stream).for_each(|joined| joined.at_end());
    }

    fn cut(&self, stream: usize, gap: Delivery) {
        for joined in self.readers_of(stream) {
            // Own messages among what is gone will not come back.
            let returned = joined.pending_own.take_written();
            self.outbox.release(returned.bytes);
            self.limit.returned(returned.written);
            let mut deliveries = vec![gap.clone()];
            deliveries.extend(returned.lost.into_iter().map(|(number, message)| stored(number, message, None)));
            deliveries.into_iter().for_each(|delivery| joined.inbox.push(delivery));
        }
    }

    fn lost(&self, reason: &str) {
        self.nodes.lost(reason);
    }

    fn restored(&self) {
        self.nodes.restored();
    }
}

impl Shared {
    fn readers_of(&self, stream: usize) -> impl Iterator<Item = Arc<StreamNode>> {
        self.nodes.joined.all().into_iter().filter(move |joined| joined.stream == stream)
    }

    /// Own entries split what comes from others: each has its place. Before each part the inbox has to be ready.
    async fn hand_over(&self, joined: &StreamNode, entries: &[Entry]) {
        for run in entries.chunk_by(|entry, next| joined.is_own(entry) == joined.is_own(next)) {
            joined.ready(MAX_HOLD).await;
            let concerned = run.iter().filter(|entry| joined.concerns(joined.stream, entry));
            if joined.is_own(&run[0]) {
                concerned.for_each(|entry| self.own_entry(joined, entry));
            } else {
                joined.has_read(run);
                joined.inbox.deliver(concerned.filter_map(|entry| joined.read(entry)));
            }
        }
    }

    fn own_entry(&self, joined: &StreamNode, entry: &Entry) {
        let Some(seq_no) = entry.seq_no else {
            joined.inbox.metrics.own_echoes.increment();
            return;
        };
        let (deliveries, bytes, written) = joined.returned(entry.id, seq_no.number);
        self.outbox.release(bytes);
        self.limit.returned(written);
        deliveries.into_iter().for_each(|delivery| joined.inbox.push(delivery));
    }

    /// The node is gone: what has not come back is not waited for.
    fn forget(&self, joined: &StreamNode) {
        let rest = joined.pending_own.take_all();
        self.outbox.release(rest.bytes);
        self.limit.returned(rest.written);
    }
}

/// Hands over what others have written into the stream of other namespaces.
async fn hand_over_foreign(joined: &StreamNode, stream: usize, entries: &[Entry]) {
    let is_foreign = |entry: &Entry| joined.concerns(stream, entry) && !joined.is_own(entry);
    if entries.iter().any(is_foreign) {
        joined.ready(MAX_HOLD).await;
        let foreign = entries.iter().filter(|entry| is_foreign(entry));
        joined.inbox.deliver(foreign.filter_map(|entry| joined.read_elsewhere(entry)));
    }
}

impl PublishObserver for Shared {
    fn credit(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>> {
        Box::pin(async { self.limit.entries_left().await.saturating_mul(LEAST_BYTES) })
    }

    /// Own broadcasts count as queued until they come back.
    fn acknowledged(&self, publication: Publication, _: Reply) -> usize {
        let Command::Append { number: Some(number), .. } = publication.command else { return publication.bytes };
        match self.nodes.joined.find(&publication.from) {
            Some(joined) if joined.pending_own.acknowledged(number) => {
                self.limit.written();
                0
            }
            _ => publication.bytes,
        }
    }

    fn lost(&self, reason: &str) {
        self.nodes.lost(reason);
    }

    fn restored(&self) {
        self.nodes.restored();
    }

    fn rejected(&self, publication: Publication, reason: &str) -> usize {
        count_rejected(&self.nodes, &publication, reason);
        let Command::Append { number: Some(number), .. } = publication.command else { return publication.bytes };
        let Some(joined) = self.nodes.joined.find(&publication.from) else { return publication.bytes };
        let returned = joined.pending_own.returned(number);
        self.limit.returned(returned.written);
        // What the stream still brings of those before it is not delivered a second time.
        let found = returned.found.map(|message| (number, message));
        let messages = returned.lost.into_iter().chain(found);
        messages.for_each(|(number, message)| joined.inbox.push(stored(number, message, None)));
        publication.bytes + returned.bytes
    }
}
