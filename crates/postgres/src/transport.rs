//! The transport: its tasks, and the operations of nodes and emitters.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_util::sync::DropGuard;
use trunkline_backend::Direction;
use trunkline_core::{
    Backend, Capabilities, Error, ErrorKind, IdScheme, Membership, Message, NodeId, NodeKey, Response, Result,
    Transport,
    codec::BodyRef,
    model::{Delivery, SeqNo},
    transport::{Health, Inbox, JoinRequest},
};

use crate::{
    config::Config,
    connect::check,
    error::Failure,
    joined_node::JoinedNode,
    listen::{Command, Reader},
    publish::{PublishConnection, UnnumberedMessage, Writer},
    query::{self, PgHistory, rows},
    shared::Shared,
};

/// Connects, and returns the backend for [`ClusterNode`](trunkline_core::ClusterNode) and
/// [`Emitter`](trunkline_core::Emitter).
///
/// # Errors
/// As [`Postgres::connect`].
pub async fn connect(config: Config) -> Result<Backend> {
    Ok(Postgres::connect(config).await?.backend())
}

/// Transport over PostgreSQL, shared by all namespaces of a process. Cheap to clone; when the last clone is dropped, or
/// [`Transport::close`] is called, its tasks and connections end.
#[derive(Clone, Debug)]
pub struct Postgres {
    shared: Arc<Shared>,
    /// Ends the tasks; what is queued, most likely the announcement of a leave, may still be sent.
    _on_drop: Arc<DropGuard>,
}

impl Postgres {
    /// Opens three connections (to listen, to publish, to query), creates tables if need be, and spawns a task for each
    /// on the current Tokio runtime.
    ///
    /// # Errors `Config` for what is set wrongly, `Disconnected` or `Broker` if no host can be reached or used,
    /// `Unsupported` if notifications do not come back: behind PgBouncer in transaction mode they cannot.
    pub async fn connect(config: Config) -> Result<Self> {
        config.check()?;
        let (commands, received_commands) = mpsc::channel(MAX_COMMANDS);
        let shared = Arc::new(Shared::new(config, commands)?);
        let on_drop = Arc::new(shared.closing.clone().drop_guard());
        let (mut listening, mut publishing, mut querying) = tokio::try_join!(
            shared.connect(&shared.inbound),
            shared.connect(&shared.outbound),
            shared.connect(&shared.queries.pulse)
        )?;
        check::check(&shared, &mut listening, &mut publishing).await?;
        for connection in [&mut listening, &mut publishing, &mut querying] {
            shared.set_up(connection).await?;
        }
        let publishing = PublishConnection::new(publishing, &shared).await?;
        shared.tasks.spawn(query::keep_open(Arc::clone(&shared), querying));
        let end_of_history = end_of_history(&shared).await?;
        shared.restored(Direction::Inbound);
        shared.restored(Direction::Outbound);
        shared.tasks.spawn(Reader::new(Arc::clone(&shared), received_commands, end_of_history).run(listening));
        shared.tasks.spawn(Writer::new(Arc::clone(&shared)).run(publishing));
        shared.tasks.spawn(query::maintenance::run(Arc::clone(&shared)));
        Ok(Self { shared, _on_drop: on_drop })
    }

    /// The backend for nodes and emitters.
    #[must_use]
    pub fn backend(&self) -> Backend {
        let backend = Backend::new(Arc::new(self.clone()), IdScheme::Hex16).with_name("postgres");
        match self.shared.config.history.clone() {
            Some(config) => backend.with_history(Arc::new(PgHistory::new(Arc::clone(&self.shared), config))),
            None => backend,
        }
    }

    /// Usage of the server's queue of notifications, from 0 to 1. It fills when a connection listens but does not read,
    /// or stays in a transaction; once full, every publish to the database fails.
    ///
    /// # Errors
    /// `Disconnected`, `Broker`.
    pub async fn notification_queue_usage(&self) -> Result<f64> {
        let usage = async {
            let rows = self.shared.queries.run("SELECT pg_notification_queue_usage()", &[]).await?;
            let row = rows.first().ok_or_else(|| Failure::Lost("no row".into()))?;
            Ok(row.try_get(0)?)
        };
        usage.await.map_err(|failure: Failure| failure.into_error("ask for the queue's usage"))
    }

    fn encode(&self, from: &NodeKey, body: BodyRef<'_>) -> Result<UnnumberedMessage> {
        let Shared { config, .. } = &*self.shared;
        UnnumberedMessage::encode(config, self.shared.encoding(), self.channel_of(from)?, from, body)
    }

    async fn push(&self, from: &NodeKey, body: BodyRef<'_>) -> Result<()> {
        let message = self.encode(from, body)?;
        let (channel, bytes) = (message.numbered_on, message.bytes());
        let number = |seq_no, marks: &[SeqNo]| message.number(seq_no, marks);
        self.shared.outbox.push_message(&from.id, channel, bytes, number).await
    }

    /// Channel on which a node, or an emitter, publishes.
    fn channel_of(&self, from: &NodeKey) -> Result<Arc<str>> {
        if from.id.is_emitter() {
            return self.shared.channel_of(from);
        }
        Ok(Arc::clone(&self.shared.joined.of(from)?.channel))
    }

    /// Waits until the server sends the node's channel, over reconnects.
    async fn listen(&self, node: &Arc<JoinedNode>) -> Result<()> {
        loop {
            self.shared.until_listening().await;
            let (listens, answer) = oneshot::channel();
            let command = Command::Join(Arc::clone(node), listens);
            self.shared.commands.send(command).await.map_err(|_| closed())?;
            match answer.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(failure)) if !failure.may_pass() => {
                    return Err(failure.into_error(format!("LISTEN {:?}", node.channel)));
                }
                // The connection was lost meanwhile.
                Ok(Err(_)) | Err(_) if self.shared.closing.is_cancelled() => return Err(closed()),
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    fn leave_now(&self, key: &NodeKey) {
        let shared = &self.shared;
        if let Some(node) = shared.joined.find(key) {
            shared.joined.remove(key);
            // If the queue is full, the reader notices by itself that the inbox is gone.
            let _ = shared.commands.try_send(Command::Leave(node));
        }
        shared.outbox.forget(&key.id);
    }
}

/// Offset of the last message stored so far; `None` without history.
async fn end_of_history(shared: &Shared) -> Result<Option<i64>> {
    if shared.config.history.is_none() {
        return Ok(None);
    }
    let end = rows::end_of_history(shared).await;
    end.map(Some).map_err(|failure| failure.into_error("find the end of the history"))
}

#[async_trait]
impl Transport for Postgres {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_max_message_bytes(Some(self.shared.config.max_message_bytes))
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let shared = &self.shared;
        let (node, inbox) = JoinedNode::new(request.clone(), shared.channel_of(&request.node)?);
        shared.joined.add(&node.key, &node)?;
        // The node leaves if joining fails or is given up.
        let mut pending = PendingJoin { transport: self, node: Some(&node.key) };
        let limit = shared.config.response_timeout;
        let listening = timeout(limit, self.listen(&node)).await;
        listening.map_err(|_| Failure::no_answer(limit).into_error(format!("LISTEN {:?}", node.channel)))??;
        node.set_joined_after(end_of_history(shared).await?.unwrap_or(0));
        node.inbox.push([Delivery::Connected]);
        pending.node = None;
        Ok(inbox)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let encoded = self.encode(from, (&message).into())?;
        let (channel, bytes) = (encoded.numbered_on, encoded.bytes());
        let number = |seq_no, marks: &[SeqNo]| encoded.number(seq_no, marks);
        let is_queued = self.shared.outbox.try_push_message(&from.id, channel, bytes, number)?;
        Ok((!is_queued).then_some(message))
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.push(from, (&message).into()).await
    }

    async fn send(&self, from: &NodeKey, _to: &NodeId, response: &Response) -> Result<()> {
        self.push(from, response.into()).await
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.leave_now(node);
        self.shared.outbox.flushed().await;
        Ok(())
    }

    async fn flush(&self) -> Result<()> {
        self.shared.outbox.flush().await
    }

    fn health(&self) -> Health {
        self.shared.health()
    }

    async fn close(&self) {
        self.shared.close();
        self.shared.closed().await;
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
            self.transport.leave_now(node);
        }
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}

/// Commands that may wait for the reader.
const MAX_COMMANDS: usize = 256;
