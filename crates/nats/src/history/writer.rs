//! From the outbox into the history: one batch per namespace at a time, in order, each stored once.
//!
//! Batches form while the previous one is on its way. A batch that is not confirmed is stored again under the same id,
//! which the server recognises; nothing is sent after it before it is confirmed. So the order holds even when the
//! server that leads the stream changes.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use async_nats::{
    Subject,
    jetstream::{
        self,
        context::{PublishError, PublishErrorKind},
        message::PublishMessage,
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::sleep};
use trunkline_backend::{
    Backoff,
    batch::{Batch, BatchBuilder},
    batched::{BatchBroker as _, BatchConnection as _, OutgoingMessage, TransportState},
    connection::next_live,
};
use trunkline_core::{
    Message, NodeKey,
    codec::{self, Body, Decoded},
    model::Delivery,
};

use super::Streams;
use crate::{broker::Nats, connection::Connection};

/// The history is read by every node: its batches may be large.
const BATCH_BYTES: usize = 128 << 10;

/// What the headers of a stored batch take.
pub(crate) const HEADERS: usize = 96;

type Outgoing = OutgoingMessage<Nats>;

/// The task that writes to the history. It ends when nothing more can come and everything is stored.
#[derive(Debug)]
pub(crate) struct HistoryWriter {
    state: Arc<TransportState<Nats>>,
    streams: Streams,
    messages: mpsc::UnboundedReceiver<Outgoing>,
    /// What waits behind a batch that is on its way, by namespace.
    waiting: BTreeMap<Subject, VecDeque<Outgoing>>,
    pending: FuturesUnordered<BoxFuture<'static, Stored>>,
    next_number: u64,
}

/// A batch that is no longer on its way.
#[derive(Debug)]
struct Stored {
    subject: Subject,
    weight: usize,
}

impl HistoryWriter {
    /// What comes through `messages` is bounded by the outbox, which counts it until it is stored.
    pub(crate) fn new(
        state: Arc<TransportState<Nats>>,
        streams: Streams,
        messages: mpsc::UnboundedReceiver<Outgoing>,
    ) -> Self {
        let (waiting, pending) = (BTreeMap::new(), FuturesUnordered::new());
        Self { state, streams, messages, waiting, pending, next_number: 1 }
    }

    /// Runs until everything is stored, or the writer has given up.
    pub(crate) async fn run(mut self) {
        let state = Arc::clone(&self.state);
        state.writer_ended.run_until_cancelled(self.store_everything()).await;
        state.history_writer_ended.cancel();
    }

    async fn store_everything(&mut self) {
        let mut is_open = true;
        while is_open || !self.pending.is_empty() {
            tokio::select! {
                message = self.messages.recv(), if is_open => match message {
                    Some(message) => self.take(message),
                    None => is_open = false,
                },
                Some(stored) = self.pending.next() => self.stored(stored),
            }
        }
    }

    /// Takes what is there; it is sent at once for namespaces of which nothing is on its way.
    fn take(&mut self, first: Outgoing) {
        let mut idle = Vec::new();
        let mut next = Some(first);
        while let Some(message) = next {
            let subject = message.address.clone();
            if !self.waiting.contains_key(&subject) {
                idle.push(subject.clone());
            }
            self.waiting.entry(subject).or_default().push_back(message);
            next = self.messages.try_recv().ok();
        }
        idle.into_iter().for_each(|subject| self.store_next(subject));
    }

    fn stored(&mut self, stored: Stored) {
        self.state.outbox.release(stored.weight);
        self.store_next(stored.subject);
    }

    /// Sends as much of what waits as fits into one batch.
    fn store_next(&mut self, subject: Subject) {
        let max_bytes = self.max_bytes();
        let Some(waiting) = self.waiting.get_mut(&subject) else { return };
        let Some(first) = waiting.pop_front() else {
            self.waiting.remove(&subject);
            return;
        };
        let (sender, number, mut weight) = (self.state.broker.settings().sender, self.next_number, first.weight);
        self.next_number += 1;
        let mut batch = BatchBuilder::new(sender, number, first.message.len());
        batch.push(&first.message);
        while let Some(next) = waiting.pop_front_if(|next| batch.fits(&next.message, max_bytes)) {
            weight += next.weight;
            batch.push(&next.message);
        }
        let store = PendingStore {
            state: Arc::clone(&self.state),
            streams: self.streams.clone(),
            id: format!("{sender}-{number}"),
            batch: batch.finish(),
            subject,
            weight,
        };
        self.pending.push(Box::pin(store.run()));
    }

    fn max_bytes(&self) -> usize {
        let broker = &self.state.broker;
        let max = broker.max_batch_bytes().min(BATCH_BYTES);
        // A small history must not be replaced by one batch.
        broker.config.history.map_or(max, |history| max.min(history.bytes / 8))
    }
}

/// A batch on its way.
struct PendingStore {
    state: Arc<TransportState<Nats>>,
    streams: Streams,
    subject: Subject,
    id: String,
    batch: Bytes,
    weight: usize,
}

impl PendingStore {
    /// Tries until the batch is stored, or refused.
    async fn run(self) -> Stored {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
        let mut connections = self.state.outbound.subscribe();
        while let Some(connection) = next_live(&mut connections, Connection::has_ended).await {
            match self.store(&connection).await {
                Ok(()) => break,
                Err(error) if is_refusal(&error) => {
                    tracing::error!(%error, bytes = self.batch.len(), "the history refuses a batch");
                    self.deliver_locally();
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, "storing a batch failed");
                    self.repair(&connection, &error).await;
                    sleep(backoff.next_pause()).await;
                }
            }
        }
        Stored { subject: self.subject, weight: self.weight }
    }

    async fn store(&self, connection: &Connection) -> Result<(), PublishError> {
        let Ok(jetstream) = connection.jetstream() else { return Ok(()) };
        let message = PublishMessage::build().payload(self.batch.clone()).message_id(&self.id);
        jetstream.send_publish(self.subject.clone(), message).await?.await.map(drop)
    }

    /// Creates the stream again if it was deleted.
    async fn repair(&self, connection: &Connection, error: &PublishError) {
        if error.kind() == PublishErrorKind::StreamNotFound
            && let Ok(jetstream) = connection.jetstream()
            && let Err(error) = self.streams.set_up(jetstream).await
        {
            tracing::debug!(%error, "the history is not available");
        }
    }

    /// Own sockets get what the history did not take.
    fn deliver_locally(&self) {
        let Ok(batch) = Batch::parse(self.batch.clone()) else { return };
        for message in batch.flatten() {
            if let Ok(Decoded { from: Some(id), namespace: Some(namespace), body: Body::Message(message), .. }) =
                codec::decode(&message)
                && (message.changes_sockets() || matches!(message, Message::Broadcast { .. }))
                && let Some(node) = self.state.node(&NodeKey { id, namespace })
            {
                node.push(Delivery::Stored { seq_no: None, message, offset: None });
            }
        }
    }
}

/// Whether a batch will never be stored, however often it is tried.
fn is_refusal(error: &PublishError) -> bool {
    let answer = std::error::Error::source(error).and_then(|source| source.downcast_ref::<jetstream::Error>());
    // 4xx: the request is wrong; 404 and 5xx: what is needed is not there at the moment.
    let is_wrong = answer.is_some_and(|answer| (400..500).contains(&answer.code()) && answer.code() != 404);
    is_wrong || error.kind() == PublishErrorKind::MaxPayloadExceeded
}
