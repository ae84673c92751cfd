//! The task that publishes.

use std::sync::Arc;

use mongodb::bson::{doc, oid::ObjectId};
use tokio::time::{sleep, timeout};
use trunkline_backend::Backoff;
use trunkline_core::{Result, model::Delivery};

use crate::{
    error::describe,
    insert::{Outcome, insert},
    server::Server,
    shared::{Direction, LAST_WORDS, Shared},
    wire::{Document, Ids},
};

/// Bytes that go into one insert, unless a single message has more.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// How often the server may have no room for a document before it is taken to be too large for it: with the pauses in between, that
/// takes about forty seconds.
const MOST_WITHOUT_ROOM: u32 = 16;

/// Inserts what is queued, batch by batch, one after the other.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    server: Server,
    ids: Ids,
    /// What was taken from the queue and is not known to be inserted. An id is inserted once, however often it is tried.
    batch: Vec<Document>,
    /// Its ids.
    batch_ids: Vec<ObjectId>,
    /// How many bytes of the batch are accounted for in the queue.
    bytes: usize,
    /// So many documents go one by one, because one of them was refused.
    one_by_one: usize,
    /// How often in a row the server had no room for the first document.
    without_room: u32,
    backoff: Backoff,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, server: Server) -> Self {
        Self {
            shared,
            server,
            ids: Ids::new(),
            batch: Vec::new(),
            batch_ids: Vec::new(),
            bytes: 0,
            one_by_one: 0,
            without_room: 0,
            backoff: Backoff::default(),
        }
    }

    /// Runs until the transport is closed.
    pub(crate) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let last_words = async {
            shared.closing().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.publish_until_closed() => {}
            () = last_words => {}
        }
    }

    async fn publish_until_closed(&mut self) {
        let mut is_lost = false;
        loop {
            if self.batch.is_empty() && !self.take().await {
                return;
            }
            match self.publish().await {
                Ok(()) if std::mem::take(&mut is_lost) => {
                    self.backoff.reset();
                    self.shared.restored(Direction::Outbound);
                }
                Ok(()) => {}
                Err(reason) => {
                    self.shared.lost(Direction::Outbound, &reason);
                    is_lost = true;
                    sleep(self.backoff.next_pause()).await;
                }
            }
        }
    }

    /// Takes what is queued, all at once. False when there will be no more.
    async fn take(&mut self) -> bool {
        let mut taken = Vec::new();
        let Some(bytes) = self.shared.outbox.take(&mut taken, MAX_BATCH_BYTES).await else { return false };
        self.bytes = bytes;
        for document in taken {
            if let Err(error) = self.identify(document) {
                // Checked before it was queued.
                tracing::warn!(%error, "a message cannot be written");
            }
        }
        if self.batch.is_empty() {
            self.shared.outbox.release(std::mem::take(&mut self.bytes));
        }
        true
    }

    fn identify(&mut self, document: Result<Document>) -> Result<()> {
        let mut document = document?;
        self.batch_ids.push(ObjectId::from_bytes(document.identify(&mut self.ids)));
        self.batch.push(document);
        Ok(())
    }

    /// Inserts the batch, or what is left of it. An error says why it has to be tried again.
    async fn publish(&mut self) -> Result<(), String> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let count = if self.one_by_one > 0 { 1 } else { self.batch.len() };
        let limit = self.shared.config.operation_timeout;
        let outcome = timeout(limit, insert(&self.server, &self.batch[..count])).await;
        match outcome.map_err(|_| format!("no answer in {limit:?}"))? {
            Outcome::Done => self.done(count),
            Outcome::MayPass(reason) => return Err(reason),
            Outcome::Repeated(index) => {
                self.done(index + 1);
                self.skip_inserted().await?;
            }
            Outcome::Refused(index, reason) => {
                self.done(index);
                self.give_up(&reason);
            }
            Outcome::NoRoom(index, reason) => {
                self.done(index);
                self.without_room += 1;
                if self.without_room < MOST_WITHOUT_ROOM {
                    return Err(reason);
                }
                self.give_up(&reason);
            }
            Outcome::AllRefused(reason) if count == 1 => self.give_up(&reason),
            Outcome::AllRefused(_) => self.one_by_one = count,
        }
        Ok(())
    }

    /// An earlier attempt has got further than was known: as inserts are ordered, a first part of the batch is there.
    async fn skip_inserted(&mut self) -> Result<(), String> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let limit = self.shared.config.operation_timeout;
        let repeated = doc! { "_id": { "$in": &self.batch_ids } };
        let count = async { self.server.collection.count_documents(repeated).await };
        match timeout(limit, count).await {
            Ok(Ok(count)) => {
                self.done(usize::try_from(count).unwrap_or(usize::MAX).min(self.batch.len()));
                Ok(())
            }
            Ok(Err(error)) => Err(describe(&error)),
            Err(_) => Err(format!("no answer in {limit:?}")),
        }
    }

    fn done(&mut self, count: usize) {
        self.batch.drain(..count);
        self.batch_ids.drain(..count);
        self.one_by_one = self.one_by_one.saturating_sub(count);
        if count > 0 {
            self.without_room = 0;
        }
        if self.batch.is_empty() {
            self.shared.outbox.release(std::mem::take(&mut self.bytes));
        }
    }

    /// The server will never take the first document. Its sender has not delivered it yet.
    fn give_up(&mut self, reason: &str) {
        let Some(document) = self.batch.first_mut() else { return };
        tracing::warn!(namespace = %document.from.namespace, bytes = document.len(), reason, "the server refused a message");
        let own = document.own.take();
        if let Some(taken) = self.shared.seats.find(&document.from) {
            taken.metrics.publish_errors.increment();
            if let Some(message) = own {
                taken.inbox.push([Delivery::Stored { message, offset: None }]);
            }
        }
        self.done(1);
    }
}
