//! From the outbox to the broker: everything that is queued goes into as few batches as order allows.
//!
//! At most [`WINDOW`] writes are unconfirmed. While both are on their way messages gather in the outbox, and go
//! together into the next write: that is how batches form. A message that finds the window open leaves at once. A write
//! stays here until the broker has confirmed it. What is left when a connection breaks is sent again over the next one,
//! with the same numbers, so that receivers drop what they have.

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use trunkline_core::{Error, ErrorKind, Result};

use super::{
    BatchBroker, BatchConnection as _, Confirmation, OutgoingBatch, OutgoingMessage, publish::Outgoing,
    state::TransportState,
};
use crate::{
    batch::BatchBuilder,
    connection::{next_live, until_replaced},
};

/// Writes that may be unconfirmed. Two, so that the broker has the next one when it confirms the first: with one, it
/// would idle for a round trip after each.
const WINDOW: usize = 2;

/// Messages to one address share a batch up to this size, so that a receiver need not wait long for the whole of it.
const BATCH_BYTES: usize = 32 << 10;

/// How long what is queued may still be sent once the transport is closed.
const FINAL_WRITES: Duration = Duration::from_secs(2);

/// When the server is changed while the connection stands, what went over the old one gets this head start on its way
/// through the cluster.
const HEAD_START: Duration = Duration::from_millis(100);

/// The task that publishes.
#[derive(Debug)]
pub(super) struct Writer<B: BatchBroker> {
    state: Arc<TransportState<B>>,
    connections: watch::Receiver<Option<Arc<B::Connection>>>,
    unconfirmed: VecDeque<Write<B>>,
    next_number: u64,
    /// The way to the task that stores, if there is one.
    stored: Option<mpsc::UnboundedSender<OutgoingMessage<B>>>,
}

/// Batches that are sent together.
#[derive(Debug)]
struct Write<B: BatchBroker> {
    batches: Vec<OutgoingBatch<B::Address>>,
    /// As the outbox counts.
    weight: usize,
}

/// Why a connection is no longer written to.
enum End {
    /// It has ended, or will.
    Connection,
    /// The outbox is closed, and everything in it confirmed.
    Outbox,
}

type Confirmations<B> = FuturesOrdered<Confirmation<<B as BatchBroker>::Address>>;

impl<B: BatchBroker> Writer<B> {
    pub(super) fn new(
        state: Arc<TransportState<B>>,
        stored: Option<mpsc::UnboundedSender<OutgoingMessage<B>>>,
    ) -> Self {
        let connections = state.outbound.subscribe();
        Self { state, connections, unconfirmed: VecDeque::new(), next_number: 1, stored }
    }

    /// Runs until the outbox is closed and empty, or for a moment longer if the broker takes nothing any more.
    pub(super) async fn run(mut self) {
        let closing = self.state.closing.clone();
        let overdue = async {
            closing.cancelled().await;
            sleep(FINAL_WRITES).await;
        };
        tokio::select! {
            () = self.write_everything() => {}
            () = overdue => {}
        }
        if !self.unconfirmed.is_empty() {
            tracing::debug!(writes = self.unconfirmed.len(), "closed before everything was confirmed");
        }
        self.state.writer_ended.cancel();
    }

    async fn write_everything(&mut self) {
        while let Some(connection) = self.next_connection().await {
            if matches!(self.write_to(&connection).await, Ok(End::Outbox)) {
                break;
            }
        }
        self.stored = None;
        self.state.history_writer_ended.cancelled().await;
    }

    /// `None` if there will be none, or not soon enough to wait for it while closing.
    async fn next_connection(&mut self) -> Option<Arc<B::Connection>> {
        tokio::select! {
            biased;
            connection = next_live(&mut self.connections, B::Connection::has_ended) => connection,
            () = self.state.closing.cancelled() => None,
        }
    }

    async fn write_to(&mut self, connection: &Arc<B::Connection>) -> Result<End> {
        let end = self.serve(connection).await;
        if let Err(error) = &end {
            self.failed(connection, error);
        }
        end
    }

    async fn serve(&mut self, connection: &Arc<B::Connection>) -> Result<End> {
        let state = Arc::clone(&self.state);
        let mut confirmations = Confirmations::<B>::new();
        for write in &self.unconfirmed {
            confirmations.push_back(connection.publish(&write.batches).await?);
        }
        let (mut taken, mut is_closed) = (Vec::new(), false);
        while !is_closed || !confirmations.is_empty() {
            let may_write = !is_closed && confirmations.len() < WINDOW;
            tokio::select! {
                biased;
                Some(confirmed) = confirmations.next() => self.confirmed(&confirmed?),
                () = until_replaced(&mut self.connections, connection) => {
                    return Ok(self.hand_over(connection, confirmations).await);
                }
                weight = state.outbox.take(&mut taken, B::WRITE_BYTES), if may_write => {
                    is_closed = weight.is_none();
                    if let Some(write) = self.pack(&mut taken) {
                        // It is sent again if this fails.
                        self.unconfirmed.push_back(write);
                        let write = &self.unconfirmed[self.unconfirmed.len() - 1];
                        confirmations.push_back(connection.publish(&write.batches).await?);
                    }
                }
            }
        }
        Ok(End::Outbox)
    }

    fn confirmed(&mut self, unroutable: &[B::Address]) {
        if let Some(write) = self.unconfirmed.pop_front() {
            self.state.outbox.release(write.weight);
        }
        for address in unroutable {
            self.state.nodes.all().iter().for_each(|node| node.peer_queue_gone(address));
        }
    }

    /// Lets go of a connection that still stands, without letting what follows overtake what it carries.
    async fn hand_over(&mut self, connection: &B::Connection, mut confirmations: Confirmations<B>) -> End {
        let confirmed = async {
            while let Some(Ok(unroutable)) = confirmations.next().await {
                self.confirmed(&unroutable);
            }
        };
        if !connection.has_ended() && timeout(HEAD_START * 10, pin!(confirmed)).await.is_ok() {
            sleep(HEAD_START).await;
        }
        End::Connection
    }

    fn failed(&mut self, connection: &B::Connection, error: &Error) {
        connection.abort();
        if error.kind() != ErrorKind::Disconnected {
            tracing::error!(%error, writes = self.unconfirmed.len(), "{} refuses what is published: dropped", B::NAME);
            self.state.outbox.release(self.unconfirmed.drain(..).map(|write| write.weight).sum());
        }
    }

    /// Passes on what another task stores, and packs the rest: one batch per run of messages to one address. `None` if
    /// there is no rest.
    fn pack(&mut self, taken: &mut Vec<Outgoing<B>>) -> Option<Write<B>> {
        let max_bytes = self.state.broker.max_batch_bytes().min(BATCH_BYTES);
        let live: Vec<_> = taken.drain(..).flat_map(|outgoing| self.set_apart(outgoing)).collect();
        let mut write = Write { batches: Vec::new(), weight: live.iter().map(|message| message.weight).sum() };
        let mut messages = live.into_iter().peekable();
        while let Some(OutgoingMessage { address, message, .. }) = messages.next() {
            let mut batch = BatchBuilder::new(self.state.broker.settings().sender, self.next_number, message.len());
            self.next_number += 1;
            let is_probe = message.is_empty();
            if !is_probe {
                batch.push(&message);
                let fits = |batch: &BatchBuilder, next: &OutgoingMessage<B>| {
                    next.address == address && !next.message.is_empty() && batch.fits(&next.message, max_bytes)
                };
                while let Some(next) = messages.next_if(|next| fits(&batch, next)) {
                    batch.push(&next.message);
                }
            }
            write.batches.push(OutgoingBatch { address, bytes: batch.finish(), is_probe });
        }
        (!write.batches.is_empty()).then_some(write)
    }

    /// What the writer itself publishes of an item.
    fn set_apart(&self, outgoing: Outgoing<B>) -> impl Iterator<Item = OutgoingMessage<B>> + use<B> {
        let (live, mut stored) = match outgoing {
            Outgoing::Live(live) => (Some(live), None),
            Outgoing::Stored(stored) => (None, Some(stored)),
            Outgoing::LiveAndStored(live, stored) => (Some(live), Some(stored)),
        };
        if let Some(storing) = &self.stored
            && let Some(message) = stored.take()
        {
            // Fails only when that task has ended, which it does after this one.
            let _ = storing.send(message);
        }
        live.into_iter().chain(stored)
    }
}
