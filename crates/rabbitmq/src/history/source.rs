//! Reads the stream for one node, and reads on from where it was.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt as _, stream::ReadyChunks};
use lapin::{Channel, Consumer, message::Delivery, options::BasicAckOptions};
use trunkline_backend::{
    batch::{Batch, ConnectionId},
    batched::{HistoryEntry, HistorySource, JoinedNode, NamespaceState, OutgoingBatch},
};
use trunkline_core::{Error, ErrorKind, Offset, Result};

use super::{Start, position::Position, read, records::Record, sequence, session_key};
use crate::{broker::RabbitMq, connection::Connection};

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
        }
    }

    /// Stores a record, so that something arrives, and with it a position to read on from: beginning at what comes next
    /// a second time would lose what came meanwhile.
    async fn store_mark(&self, connection: &Connection) -> Result<()> {
        let bytes = Record::claim("", fastrand::u64(..)).batch(self.sender);
        let mark = OutgoingBatch { address: session_key(&self.namespace), bytes, is_probe: false };
        let stored = connection.outcome(connection.publish_batch(mark)).await;
        stored.map(drop).map_err(|error| broken("the stream takes nothing").with_source(error))
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
        (self.chunk, self.unacknowledged) = (VecDeque::new(), None);
        let opened = connection.outcome(read(connection, &self.prefix, self.next.map_or(Start::Next, Start::At))).await;
        let (channel, consumer) = opened.map_err(|error| broken("the stream is not available").with_source(error))?;
        self.deliveries = Some((channel, consumer.ready_chunks(CHUNK)));
        if self.next.is_none() {
            self.store_mark(connection).await?;
            self.peek(connection).await?;
        }
        Ok(())
    }

    async fn next(&mut self, connection: &Connection) -> Result<HistoryEntry> {
        loop {
            let position = sequence(self.peek(connection).await?);
            let position = position.ok_or_else(|| broken("a delivery without position"))?;
            // Later, something was trimmed. Earlier, it is another stream: a broker that crashes may forget one that it
            // has only just declared.
            if self.next.replace(position).is_some_and(|next| position != next) {
                return Ok(HistoryEntry::Gap);
            }
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
