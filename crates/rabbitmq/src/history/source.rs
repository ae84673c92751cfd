//! Reads the stream for one node, and reads on from where it was.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt as _, stream::ReadyChunks};
use lapin::{Channel, Consumer, message::Delivery, options::BasicAckOptions};
use trunkline_backend::{
    batch::{Batch, ConnectionId},
    batched::{BatchConnection as _, HistoryEntry, HistorySource, JoinedNode, NamespaceState},
};
use trunkline_core::{Error, ErrorKind, Offset, Result};

use super::{Start, position::Position, read, records::Record, sequence, session_key};
use crate::{
    broker::RabbitMq,
    connection::{Connection, is_not_found},
};

/// Deliveries that are acknowledged together.
const CHUNK: usize = 64;

/// What a node reads from the stream, and how far it has come.
pub(crate) struct StreamSource {
    prefix: String,
    sender: ConnectionId,
    namespace: Arc<NamespaceState<RabbitMq>>,
    deliveries: Option<(Channel, ReadyChunks<Consumer>)>,
    /// Taken from the consumer and not yet handed over.
    chunk: VecDeque<Delivery>,
    unacknowledged: Option<u64>,
    /// The next position; `None` before anything came.
    next: Option<u64>,
    /// Whether entries are missing in front of the next one.
    is_gap: bool,
}

impl StreamSource {
    pub(crate) fn new(broker: &RabbitMq, node: &JoinedNode<RabbitMq>) -> Self {
        Self {
            prefix: broker.config.prefix.clone(),
            sender: broker.settings.sender,
            namespace: Arc::clone(&node.namespace),
            deliveries: None,
            chunk: VecDeque::new(),
            unacknowledged: None,
            next: None,
            is_gap: false,
        }
    }

    /// Begins to read there. On return a record was stored behind, so that something arrives, and with it a position: to
    /// read on from, since to begin at what comes next a second time would lose what came meanwhile; and to tell whether
    /// it is the same stream.
    async fn read_from(&mut self, connection: &Arc<Connection>, start: Start) -> Result<()> {
        (self.chunk, self.unacknowledged) = (VecDeque::new(), None);
        let opened = connection.outcome(read(connection, &self.prefix, start)).await;
        let (channel, consumer) = opened.map_err(|error| {
            if is_not_found(&error) {
                // The next connection declares it again.
                connection.abort("the stream of the history is gone");
            }
            broken("the stream is not available").with_source(error)
        })?;
        self.deliveries = Some((channel, consumer.ready_chunks(CHUNK)));
        let mark = Record::claim("", fastrand::u64(..)).batch(self.sender);
        connection.store_record(session_key(&self.namespace), mark).await
    }

    /// The next delivery, which stays in front. What was handed over before is acknowledged.
    async fn peek(&mut self, connection: &Connection) -> Result<&Delivery> {
        if self.chunk.is_empty() {
            self.refill(connection).await?;
        }
        self.chunk.front().ok_or_else(|| broken("the stream has ended"))
    }

    async fn refill(&mut self, connection: &Connection) -> Result<()> {
        let (channel, deliveries) = self.deliveries.as_mut().ok_or_else(|| broken("it is not open"))?;
        let failed = |error| broken("reading failed").with_source(error);
        if let Some(tag) = self.unacknowledged.take() {
            let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple: true });
            connection.outcome(acknowledged).await.map_err(failed)?;
        }
        let chunk = connection.outcome(async { Ok(deliveries.next().await) }).await.map_err(failed)?;
        let chunk = chunk.ok_or_else(|| broken("the stream is gone"))?;
        self.chunk = chunk.into_iter().collect::<lapin::Result<_>>().map_err(failed)?;
        self.unacknowledged = self.chunk.back().map(|delivery| delivery.delivery_tag);
        Ok(())
    }
}

impl HistorySource for StreamSource {
    type Connection = Connection;

    async fn open(&mut self, connection: &Arc<Connection>) -> Result<()> {
        let start = self.next.map_or(Start::Next, Start::At);
        self.read_from(connection, start).await?;
        let first = sequence(self.peek(connection).await?);
        // It is another stream of the same name: the other one was deleted, or forgotten by a broker that crashed when it
        // had only just declared it.
        if self.next.is_some_and(|next| first.is_some_and(|first| first < next)) {
            self.is_gap = true;
            self.next = Some(0);
            self.read_from(connection, Start::At(0)).await?;
        }
        Ok(())
    }

    /// Positions are not consecutive: the broker takes some for itself, above all where a segment of the stream ends.
    /// What is missing of what was skipped, numbers tell.
    async fn next(&mut self, connection: &Connection) -> Result<HistoryEntry> {
        if std::mem::take(&mut self.is_gap) {
            return Ok(HistoryEntry::Gap);
        }
        loop {
            let position = sequence(self.peek(connection).await?);
            let position = position.ok_or_else(|| broken("a delivery without position"))?;
            self.next = Some(position + 1);
            if let Some(delivery) = self.chunk.pop_front()
                && delivery.routing_key == self.namespace.log
            {
                return Ok(HistoryEntry::Batch { batch: Batch::parse(delivery.data.into()), sequence: position });
            }
        }
    }

    fn offset(&self, batch: &Batch, sequence: u64, remaining: usize) -> Offset {
        Position::new(sequence, remaining, batch).offset()
    }
}

fn broken(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Broker, context)
}
