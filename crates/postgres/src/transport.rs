//! The transport: its tasks, and the operations of nodes and emitters.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use trunkline_backend::Direction;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result,
    Transport,
    codec::BodyRef,
    model::Delivery,
    transport::{Health, History, Inbox, JoinRequest},
};

use crate::{
    channel,
    config::Config,
    connect::{check, schema},
    error::Failure,
    joined_node::JoinedNode,
    listen::{Command, Reader},
    publish::{PublishConnection, UnnumberedMessage, Writer},
    query::{PgHistory, QueryConnectionTask, QueryHandle, SharedClient, maintenance, rows},
    shared::Shared,
};

/// Connects, and returns the backend for [`ClusterNode`](trunkline_core::ClusterNode) and [`Emitter`](trunkline_core::Emitter).
///
/// # Errors
/// As [`Postgres::connect`].
pub async fn connect(config: Config) -> Result<Backend> {
    Ok(Postgres::connect(config).await?.backend())
}

/// Transport over PostgreSQL, shared by all namespaces of a process. Cheap to clone; when the last clone is dropped, or
/// [`Transport::close`] is called, its tasks and connections end.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    queries: QueryHandle,
    commands: mpsc::Sender<Command>,
}

impl Postgres {
    /// Opens three connections (to listen, to publish, to query), creates tables if need be, and spawns a task for each on the current Tokio
    /// runtime.
    ///
    /// # Errors
    /// `Config` for what is set wrongly, `Disconnected` or `Broker` if no host can be reached or used, `Unsupported` if notifications do
    /// not come back: behind PgBouncer in transaction mode they cannot.
    pub async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let connector = config.server.connector()?;
        let shared = Arc::new(Shared::new(config, connector, IdScheme::Hex16.node_id()));
        let (mut listening, mut publishing, querying) = tokio::try_join!(shared.open(), shared.open(), shared.open())?;
        check::check(&shared, &mut listening, &mut publishing).await?;
        schema::prepare(&mut publishing, &shared.config).await?;
        let publishing = PublishConnection::new(publishing, &shared).await?;

        let (query_task, queries) = QueryConnectionTask::new(Arc::clone(&shared));
        let (commands, received_commands) = mpsc::channel(MAX_COMMANDS);
        // From here on an error ends the tasks.
        let transport = Self { inner: Arc::new(Inner { shared, queries, commands }) };
        let Inner { shared, queries, .. } = &*transport.inner;
        shared.tasks.spawn(query_task.run(querying));
        let end_of_history = transport.end_of_history().await?;
        shared.restored(Direction::Inbound);
        shared.restored(Direction::Outbound);
        let reader = Reader::new(Arc::clone(shared), queries.clone(), received_commands, end_of_history);
        shared.tasks.spawn(reader.run(listening));
        shared.tasks.spawn(Writer::new(Arc::clone(shared)).run(publishing));
        shared.tasks.spawn(maintenance::run(Arc::clone(shared), queries.clone()));
        Ok(transport)
    }

    /// The backend for nodes and emitters.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let Inner { shared, queries, .. } = &*self.inner;
        let history = shared.config.history.clone();
        let history = history
            .map(|config| Arc::new(PgHistory::new(Arc::clone(shared), config, queries.clone())) as Arc<dyn History>);
        Backend { transport: Arc::new(self.clone()), history, interest: None, node_counter: None, ids: IdScheme::Hex16 }
    }

    /// Usage of the server's queue of notifications, from 0 to 1. It fills when a connection listens but does not read, or stays in a
    /// transaction; once full, every publish to the database fails.
    ///
    /// # Errors
    /// `Disconnected`, `Broker`.
    pub async fn notification_queue_usage(&self) -> Result<f64> {
        let query = async |client: Arc<SharedClient>| {
            client.query_typed_one("SELECT pg_notification_queue_usage()", &[]).await?.try_get(0)
        };
        self.inner.queries.run(query).await.map_err(|failure| failure.into_error("ask for the queue's usage"))
    }

    async fn queue(&self, from: &NodeKey, body: BodyRef<'_>) -> Result<()> {
        let shared = &self.inner.shared;
        let message = UnnumberedMessage::encode(&shared.config, self.channel_of(from)?, from, body)?;
        shared.outbox.push(message.bytes(), |sequencer| message.number(sequencer, &shared.origin)).await
    }

    /// Channel on which a node, or an emitter, publishes.
    fn channel_of(&self, from: &NodeKey) -> Result<Arc<str>> {
        if from.id.is_emitter() {
            return self.channel(from);
        }
        Ok(Arc::clone(&self.inner.shared.joined.of(from)?.channel))
    }

    fn channel(&self, node: &NodeKey) -> Result<Arc<str>> {
        channel::name(&self.inner.shared.config.prefix, &node.namespace).map(Into::into)
    }

    /// Waits until the server sends the node's channel, over reconnects.
    async fn listen(&self, node: &Arc<JoinedNode>) -> Result<()> {
        loop {
            self.inner.shared.until_listening().await;
            let (listens, answer) = oneshot::channel();
            let command = Command::Join(Arc::clone(node), listens);
            self.inner.commands.send(command).await.map_err(|_| closed())?;
            match answer.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) if !failure.may_pass() => {
                    return Err(failure.into_error(format!("LISTEN {:?}", node.channel)));
                }
                // The connection was lost meanwhile.
                Ok(Err(_)) | Err(_) if self.inner.shared.closing.is_cancelled() => return Err(closed()),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Offset of the last message stored so far; `None` without history.
    async fn end_of_history(&self) -> Result<Option<i64>> {
        let Inner { shared, queries, .. } = &*self.inner;
        if !shared.has_history() {
            return Ok(None);
        }
        let end = rows::end_of_history(queries, shared).await;
        end.map(Some).map_err(|failure| failure.into_error("find the end of the history"))
    }
}

#[async_trait]
impl Transport for Postgres {
    fn capabilities(&self) -> Capabilities {
        let Shared { config, .. } = &*self.inner.shared;
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: false,
            room_interest: false,
            history: config.history.is_some(),
            max_message_bytes: Some(config.max_message_bytes),
        }
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let shared = &self.inner.shared;
        let (node, inbox) = JoinedNode::new(request.clone(), self.channel(&request.node)?);
        shared.joined.add(&node.key, &node)?;
        // The node leaves if joining fails or is given up.
        let mut pending = PendingJoin { transport: self, node: Some(&node.key) };
        let limit = shared.config.response_timeout;
        let listening = timeout(limit, self.listen(&node)).await;
        listening.map_err(|_| Failure::no_answer(limit).into_error(format!("LISTEN {:?}", node.channel)))??;
        node.set_joined_after(self.end_of_history().await?.unwrap_or(0));
        node.inbox.push([Delivery::Connected]);
        pending.node = None;
        Ok(inbox)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.queue(from, (&message).into()).await
    }

    async fn send(&self, from: &NodeKey, _to: &NodeId, response: Response) -> Result<()> {
        self.queue(from, (&response).into()).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.inner.leave(node);
        Ok(())
    }

    fn health(&self) -> Health {
        self.inner.shared.health()
    }

    async fn close(&self) {
        self.inner.shared.close();
        self.inner.shared.closed().await;
    }
}

impl Inner {
    fn leave(&self, key: &NodeKey) {
        let Self { shared, commands, .. } = self;
        if let Some(node) = shared.joined.find(key) {
            shared.joined.remove(key);
            // If the queue is full, the reader notices by itself that the inbox is gone.
            let _ = commands.try_send(Command::Leave(node));
        }
        shared.outbox.forget(&key.id);
    }
}

impl Drop for Inner {
    /// The tasks end by themselves: what is queued, most likely the announcement of a leave, may still be sent.
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// A node that has not joined yet.
struct PendingJoin<'a> {
    transport: &'a Postgres,
    node: Option<&'a NodeKey>,
}

impl Drop for PendingJoin<'_> {
    fn drop(&mut self) {
        if let Some(node) = self.node {
            self.transport.inner.leave(node);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}

/// Commands that may wait for the reader.
const MAX_COMMANDS: usize = 256;

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.inner.shared;
        f.debug_struct("Postgres")
            .field("config", &shared.config)
            .field("nodes", &shared.joined.all().len())
            .finish_non_exhaustive()
    }
}
