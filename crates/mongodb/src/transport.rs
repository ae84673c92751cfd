//! The transport: what nodes and emitters ask of MongoDB.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::time::timeout;
use trunkline_backend::Direction;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Payload, Response, Result,
    Transport,
    codec::BodyRef,
    model::{Delivery, SeqChannel, SeqNo},
    transport::{Health, Inbox, JoinRequest},
};

use crate::{
    change_stream::{self, StreamError},
    collection,
    config::Config,
    error,
    history::MongoHistory,
    joined::JoinedNode,
    publisher::Publisher,
    server,
    subscriber::Subscriber,
    time_limit::TimeLimit,
    transport_core::{TransportCore, closed},
    wire::EncodedMessage,
};

/// Connects to MongoDB and returns the backend for a [`ClusterNode`](trunkline_core::ClusterNode) or an
/// [`Emitter`](trunkline_core::Emitter).
///
/// # Errors
/// As [`MongoDb::connect`].
pub async fn connect(config: Config) -> Result<Backend> {
    Ok(MongoDb::connect(config).await?.backend())
}

/// A transport over a MongoDB collection and its change stream, shared by all namespaces of a process.
///
/// Cheap to clone. Its tasks and connections end when the last clone is dropped or [`Transport::close`] is called.
#[derive(Clone)]
pub struct MongoDb {
    inner: Arc<Inner>,
}

struct Inner {
    core: Arc<TransportCore>,
    /// The node id in all namespaces of this process.
    id: NodeId,
}

impl MongoDb {
    /// Connects, creates the collection if it is missing and [`Config::create`] allows it, opens the change stream, and
    /// spawns the tasks that publish and subscribe on the current Tokio runtime.
    ///
    /// # Errors
    /// `Config` for a wrong setting or a collection of the wrong kind, `Unsupported` for a server without change
    /// streams, `Disconnected` or `Broker` if the server cannot be reached or refuses.
    pub async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let server = server::open(&config).await?;
        let kind = collection::prepare(&server.database, &config).await?;
        server::check_insert(&server).await?;
        let opened = change_stream::open(&server, &mut TimeLimit::new(config.response_timeout), &None).await;
        let events = opened.map_err(|failed| {
            let what = format!("open the change stream of {:?}", config.collection);
            match failed {
                StreamError::Driver(failed) => error::into_error(what, &failed),
                failed => Error::new(ErrorKind::Broker, format!("{what}: {failed}")),
            }
        })?;
        let core = Arc::new(TransportCore::new(config, server.clone(), kind));
        core.restored(Direction::Inbound);
        core.restored(Direction::Outbound);
        core.tasks.spawn(Subscriber::new(Arc::clone(&core), server.clone()).run(events));
        core.tasks.spawn(Publisher::new(Arc::clone(&core), server).run());
        Ok(Self { inner: Arc::new(Inner { core, id: IdScheme::Hex16.node_id() }) })
    }

    /// The backend of this transport, for nodes and emitters.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let history = MongoHistory::new(Arc::clone(&self.inner.core));
        Backend::new(Arc::new(self.clone()), IdScheme::Shared(self.inner.id.clone()))
            .with_name("mongodb")
            .with_history(Arc::new(history))
    }

    fn encode(&self, from: &NodeKey, to: Option<&NodeId>, body: BodyRef<'_>) -> Result<EncodedMessage> {
        let core = &self.inner.core;
        let limit = core.max_message_bytes();
        check_size(body.payload().map_or(0, Payload::len), limit)?;
        let encoded = EncodedMessage::new(from, to, body, core.kind.is_expiring())?;
        check_size(encoded.document_bytes(), limit)?;
        Ok(encoded)
    }

    /// The id under which messages of a node or an emitter are numbered.
    ///
    /// # Errors
    /// `Closed` for a node that has not joined.
    fn sequence_id(&self, from: &NodeKey) -> Result<NodeId> {
        if from.id.is_emitter() {
            return Ok(from.id.clone());
        }
        Ok(self.inner.core.nodes.of(from)?.sequence_id.clone())
    }
}

fn check_size(bytes: usize, limit: usize) -> Result<()> {
    if bytes > limit {
        let context = format!("message of {bytes} bytes; the largest document is {limit}");
        return Err(Error::new(ErrorKind::TooLarge, context));
    }
    Ok(())
}

/// The channel on which a message is numbered. All emitters have one id, so they number nothing.
fn channel(from: &NodeKey, message: &Message) -> Option<SeqChannel> {
    (message.is_numbered() && !from.id.is_emitter()).then_some(SeqChannel::ALL)
}

#[async_trait]
impl Transport for MongoDb {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_max_message_bytes(Some(self.inner.core.max_message_bytes()))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let core = &self.inner.core;
        if core.closing.is_cancelled() {
            return Err(closed());
        }
        let limit = core.config.response_timeout;
        let away = |_| Error::new(ErrorKind::Disconnected, format!("the change stream is not back after {limit:?}"));
        timeout(limit, core.until_listening()).await.map_err(away)?;
        let (node, inbox) = JoinedNode::new(request);
        let node = Arc::new(node);
        core.nodes.add(&node.key, &node)?;
        if core.is_up() {
            node.inbox.push([Delivery::Connected]);
        }
        Ok(inbox)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let id = self.sequence_id(from)?;
        let encoded = self.encode(from, None, (&message).into())?;
        let (channel, bytes) = (channel(from, &message), encoded.bytes());
        let make = |seq_no, marks: &[SeqNo]| encoded.finish(from, seq_no, marks);
        let is_queued = self.inner.core.outbox.try_push_message(&id, channel, bytes, make)?;
        Ok((!is_queued).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let id = self.sequence_id(from)?;
        let encoded = self.encode(from, None, (&message).into())?;
        let (channel, bytes) = (channel(from, &message), encoded.bytes());
        let make = |seq_no, marks: &[SeqNo]| encoded.finish(from, seq_no, marks);
        self.inner.core.outbox.push_message(&id, channel, bytes, make).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        let id = self.sequence_id(from)?;
        let encoded = self.encode(from, Some(to), response.into())?;
        let bytes = encoded.bytes();
        let make = |seq_no, marks: &[SeqNo]| encoded.finish(from, seq_no, marks);
        self.inner.core.outbox.push_message(&id, None, bytes, make).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        // Its sequence numbers are kept: the id serves all namespaces of the process and comes back with the next join.
        self.inner.core.nodes.remove(node);
        self.inner.core.outbox.flushed().await;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.inner.core.outbox.flush().await
    }

    fn health(&self) -> Health {
        self.inner.core.health()
    }

    async fn close(&self) {
        self.inner.core.close();
        self.inner.core.closed().await;
    }
}

impl Drop for Inner {
    /// The tasks end by themselves: queued messages, most likely the announcement of a leave, may still be sent.
    fn drop(&mut self) {
        self.core.close();
    }
}

impl fmt::Debug for MongoDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoDb").field("config", &self.inner.core.config).field("id", &self.inner.id).finish()
    }
}
