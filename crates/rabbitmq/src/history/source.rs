//! Reads the stream for one node, and reads on from where it was.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hasher as _},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream::ReadyChunks};
use lapin::{Channel, Consumer, message::Delivery, options::BasicAckOptions};
use trunkline_backend::{
    batch::{Batch, ConnectionId},
    batched::{BatchConnection as _, HistoryEntry, HistorySource, JoinedNode, NamespaceState},
};
use trunkline_core::{Error, ErrorKind, Offset, Result};

use super::{PREFETCH, Start, position::Position, read, records::Record, sequence, session_key};
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
    /// What was handed over last; `None` before anything came.
    last: Option<Entry>,
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
            last: None,
            is_gap: false,
        }
    }

    /// Begins to read behind this entry. Returns whether it is not there: it was in another stream of the same name, which
    /// was deleted, or forgotten by a broker that crashed when it had only just declared it.
    async fn read_behind(&mut self, connection: &Arc<Connection>, last: Entry) -> Result<bool> {
        // Nothing would come from a position beyond the end, until a new stream has grown up to it.
        self.read_from(connection, Start::Next).await?;
        if sequence(self.peek(connection).await?).is_some_and(|next| next <= last.position) {
            return Ok(true);
        }
        self.read_from(connection, Start::At(last.position)).await?;
        match Entry::of(self.peek(connection).await?) {
            Some(first) if first.position == last.position => {
                self.chunk.pop_front();
                Ok(first != last)
            }
            // It was trimmed.
            _ => Ok(false),
        }
    }

    /// Begins to read there. On return a record was stored behind, so that something arrives, and with it a position: to
    /// read on from, since to begin at what comes next a second time would lose what came meanwhile; and to tell whether
    /// it is the same stream.
    async fn read_from(&mut self, connection: &Arc<Connection>, start: Start) -> Result<()> {
        (self.chunk, self.unacknowledged) = (VecDeque::new(), None);
        let opened = connection.outcome(read(connection, &self.prefix, start, PREFETCH)).await;
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
        let Some(last) = self.last else {
            self.read_from(connection, Start::Next).await?;
            self.peek(connection).await?;
            return Ok(());
        };
        if self.read_behind(connection, last).await? {
            self.is_gap = true;
            self.read_from(connection, Start::At(0)).await?;
            self.peek(connection).await?;
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
            let entry = Entry::of(self.peek(connection).await?);
            let entry = entry.ok_or_else(|| broken("a delivery without position"))?;
            self.last = Some(entry);
            if let Some(delivery) = self.chunk.pop_front()
                && delivery.routing_key == self.namespace.log
            {
                return Ok(HistoryEntry::Batch { batch: Batch::parse(delivery.data.into()), sequence: entry.position });
            }
        }
    }

    fn offset(&self, batch: &Batch, sequence: u64, remaining: usize) -> Offset {
        Position::new(sequence, remaining, batch).offset()
    }
}

/// An entry of the stream. No other stream has the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    position: u64,
    hash: u64,
}

impl Entry {
    /// `None` for a delivery without a position.
    fn of(delivery: &Delivery) -> Option<Self> {
        let mut hasher = DefaultHasher::new();
        hasher.write(&delivery.data);
        Some(Self { position: sequence(delivery)?, hash: hasher.finish() })
    }
}

fn broken(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Broker, context)
}
