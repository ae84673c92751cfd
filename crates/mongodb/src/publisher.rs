//! The task that inserts queued messages into the collection.

use std::{sync::Arc, time::Duration};

use mongodb::bson::{Bson, doc, oid::ObjectId};
use tokio::time::sleep;
use trunkline_backend::{Backoff, Direction};
use trunkline_core::model::Delivery;

use crate::{
    error::describe,
    insert::{InsertOutcome, insert},
    server::Server,
    time_limit::TimeLimit,
    transport_core::{DRAIN_TIMEOUT, TransportCore},
    wire::{self, ObjectIdGenerator, QueuedMessage},
};

/// Bytes in one insert, unless a single message has more.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// How often the server's cache may be too full for a document until the document counts as too large for it: with the
/// pauses in between, about forty seconds.
const MAX_CACHE_FULL: u32 = 16;

/// A message that could not be inserted for so many seconds gets a new id. A replay looks for ids that are not much
/// older than that of the message before.
const MAX_ID_AGE_SECONDS: u64 = 20;

/// Inserts queued messages, in order, batch by batch. While an insert is unconfirmed the next batch gathers in the
/// outbox.
///
/// The window is one unconfirmed insert. A second one would change the order: the driver has one command at a time on a
/// connection, so it would take another connection, and the server commits what comes over two connections in either
/// order. And where the first one fails and is tried again, the second one is in the collection already.
#[derive(Debug)]
pub(crate) struct Publisher {
    core: Arc<TransportCore>,
    server: Server,
    ids: ObjectIdGenerator,
    /// Messages taken from the outbox and not known to be in the collection. Each keeps its id, unless no earlier attempt
    /// can have inserted it, so that it is inserted once however often it is tried.
    batch: Vec<QueuedMessage>,
    /// Bytes to release in the outbox once the batch is empty.
    bytes: usize,
    /// So many messages are inserted singly, because the server refused an insert without saying which document is to
    /// blame.
    singly: usize,
    /// How often in a row the server's cache was too full for the first message.
    cache_full: u32,
    limit: TimeLimit,
    backoff: Backoff,
}

impl Publisher {
    pub(crate) fn new(core: Arc<TransportCore>, server: Server) -> Self {
        Self {
            limit: TimeLimit::new(core.config.response_timeout),
            core,
            server,
            ids: ObjectIdGenerator::new(),
            batch: Vec::new(),
            bytes: 0,
            singly: 0,
            cache_full: 0,
            backoff: Backoff::default(),
        }
    }

    /// Runs until the transport is closed and the outbox empty, or [`DRAIN_TIMEOUT`] has passed since the close.
    pub(crate) async fn run(mut self) {
        let closing = self.core.closing.clone();
        let drain_timeout = async {
            closing.cancelled().await;
            sleep(DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            () = self.publish() => {}
            () = drain_timeout => {}
        }
    }

    async fn publish(&mut self) {
        let mut is_lost = false;
        while !self.batch.is_empty() || self.take_batch().await {
            match self.insert().await {
                Ok(()) if std::mem::take(&mut is_lost) => {
                    self.backoff.reset();
                    self.core.restored(Direction::Outbound);
                }
                Ok(()) => {}
                Err(reason) => {
                    self.core.lost(Direction::Outbound, &reason);
                    is_lost = true;
                    sleep(self.backoff.next_pause()).await;
                    if let Err(error) = self.core.renew(&mut self.server).await {
                        self.core.lost(Direction::Outbound, &error.to_string());
                    }
                }
            }
        }
    }

    /// Takes all queued messages, up to [`MAX_BATCH_BYTES`]. False once the outbox is closed and empty.
    async fn take_batch(&mut self) -> bool {
        let Some(bytes) = self.core.outbox.take(&mut self.batch, MAX_BATCH_BYTES).await else { return false };
        self.bytes = bytes;
        self.identify();
        true
    }

    /// Inserts the batch, or the next part of it. An error says why it has to be tried again.
    async fn insert(&mut self) -> Result<(), String> {
        self.renew_ids().await?;
        let count = if self.singly > 0 { 1 } else { self.batch.len() };
        match self.limit.run(insert(&self.server, &self.batch[..count])).await.map_err(no_answer)? {
            InsertOutcome::Inserted => self.remove_first(count),
            InsertOutcome::Retryable(reason) => return Err(reason),
            InsertOutcome::Duplicate(index) => {
                self.remove_first(index + 1);
                self.remove_inserted().await?;
            }
            InsertOutcome::Rejected(index, reason) => {
                self.remove_first(index);
                self.reject_first(&reason);
            }
            InsertOutcome::CacheFull(index, reason) => {
                self.remove_first(index);
                self.cache_full += 1;
                if self.cache_full < MAX_CACHE_FULL {
                    return Err(reason);
                }
                self.reject_first(&reason);
            }
            InsertOutcome::CommandRejected(reason) if count == 1 => self.reject_first(&reason),
            InsertOutcome::CommandRejected(_) => self.singly = count,
        }
        Ok(())
    }

    /// Removes what an earlier attempt has inserted beyond what was known: as inserts are ordered, the first messages
    /// of the batch. Returns their number.
    async fn remove_inserted(&mut self) -> Result<usize, String> {
        let ids: Vec<Bson> =
            self.batch.iter().map(|message| ObjectId::from_bytes(message.document.id()).into()).collect();
        let inserted = doc! { "_id": { "$in": ids }, "type": { "$ne": i32::from(wire::SESSION) } };
        let counting = async { self.server.collection.count_documents(inserted).await };
        let count = self.limit.run(counting).await.map_err(no_answer)?.map_err(|failed| describe(&failed))?;
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(self.batch.len());
        self.remove_first(count);
        Ok(count)
    }

    /// Gives the messages of the batch new ids if theirs are old and none of them is inserted.
    ///
    /// An earlier attempt may still be under way at the server. As it inserts in order, it inserts none of them once the
    /// id of the first one is taken: by a document that no node reads, like that of a session that was restored.
    async fn renew_ids(&mut self) -> Result<(), String> {
        while let Some(first) = self.batch.first().filter(|first| first.document.age_seconds() > MAX_ID_AGE_SECONDS) {
            let tombstone = wire::tombstone(&first.from, "", self.core.kind.is_expiring());
            let mut document = tombstone.map_err(|failed| failed.to_string())?;
            document.identify(&mut self.ids);
            document.set_id(first.document.id());
            let taken = [QueuedMessage { from: first.from.clone(), document, own_broadcast: None }];
            match self.limit.run(insert(&self.server, &taken)).await.map_err(no_answer)? {
                InsertOutcome::Inserted | InsertOutcome::Duplicate(_) => {
                    if self.remove_inserted().await? == 0 {
                        self.identify();
                    }
                }
                InsertOutcome::Retryable(reason) | InsertOutcome::CacheFull(_, reason) => return Err(reason),
                // If the server does not take such a document, the old ids have to do.
                InsertOutcome::Rejected(..) | InsertOutcome::CommandRejected(_) => return Ok(()),
            }
        }
        Ok(())
    }

    fn identify(&mut self) {
        for message in &mut self.batch {
            message.document.identify(&mut self.ids);
        }
    }

    fn remove_first(&mut self, count: usize) {
        self.batch.drain(..count);
        self.singly = self.singly.saturating_sub(count);
        if count > 0 {
            self.cache_full = 0;
        }
        if self.batch.is_empty() {
            self.core.outbox.release(std::mem::take(&mut self.bytes));
        }
    }

    /// Drops the first message, which the server will never take. Its sender delivers it to its own sockets only.
    fn reject_first(&mut self, reason: &str) {
        let Some(message) = self.batch.first_mut() else { return };
        self.core.outbox.refused(1, reason);
        let own_broadcast = message.own_broadcast.take();
        if let Some(node) = self.core.nodes.find(&message.from) {
            node.metrics.publish_errors.increment();
            if let Some(message) = own_broadcast {
                node.inbox.push([Delivery::Stored { seq_no: None, message, offset: None }]);
            }
        }
        self.remove_first(1);
    }
}

fn no_answer(limit: Duration) -> String {
    format!("no answer in {limit:?}")
}
