//! From the outbox to the broker: everything that is queued goes into as few batches as order allows.
//!
//! At most [`WINDOW`] writes are unconfirmed. While both are on their way messages gather in the outbox, and go
//! together into the next write: that is how batches form. A message that finds the window open leaves at once. A write
//! stays here until the broker has confirmed it. What is left when a connection breaks is sent again over the next one,
//! with the same numbers, so that receivers drop what they have.
//!
//! After a loss nodes say hello first, and what was held waits for the peers that were there before, or two seconds.
//! Where one batch of a write is refused, all that are unconfirmed are sent again one by one, so that only that one is
//! dropped. What finds no room is tried until it does.

use std::{collections::VecDeque, pin::pin, slice, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::FuturesOrdered};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use trunkline_core::{Error, ErrorKind, Result};

use super::{
    BatchBroker, BatchConnection, Confirmation, Obstacle, OutgoingBatch, OutgoingMessage, Undelivered,
    publish::Outgoing, reader::connection_gap, state::TransportState,
};
use crate::{
    Backoff,
    batch::BatchBuilder,
    connection::{next_live, until_replaced},
    known_peers::until_back,
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

/// The first pause before something that found no room is tried again.
const RETRY: Duration = Duration::from_millis(50);

/// The task that publishes.
#[derive(Debug)]
pub(super) struct Writer<B: BatchBroker> {
    state: Arc<TransportState<B>>,
    connections: watch::Receiver<Option<Arc<B::Connection>>>,
    unconfirmed: VecDeque<Write<B>>,
    next_number: u64,
    /// Whether what is unconfirmed is sent one by one, because the broker did not take one of them.
    is_careful: bool,
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

fn no_stream() -> Error {
    Error::new(ErrorKind::Disconnected, "the queue of the history is gone, or not bound")
}

/// Publishes, and waits for what becomes of it. A client may never tell that of what was on its way when the connection
/// ended.
async fn outcome<C: BatchConnection>(
    connection: &C,
    batches: &[OutgoingBatch<C::Address>],
) -> Result<Undelivered<C::Address>> {
    let published = async { connection.publish(batches).await?.await };
    tokio::select! {
        biased;
        outcome = published => outcome,
        () = connection.ended() => Err(Error::new(ErrorKind::Disconnected, connection.end_reason())),
    }
}

type Confirmations<B> = FuturesOrdered<Confirmation<<B as BatchBroker>::Address>>;

impl<B: BatchBroker> Writer<B> {
    pub(super) fn new(
        state: Arc<TransportState<B>>,
        stored: Option<mpsc::UnboundedSender<OutgoingMessage<B>>>,
    ) -> Self {
        let connections = state.outbound.subscribe();
        Self { state, connections, unconfirmed: VecDeque::new(), next_number: 1, is_careful: false, stored }
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
            match self.serve(&connection).await {
                Ok(End::Outbox) => break,
                Ok(End::Connection) => {}
                Err(error) => self.failed(&connection, &error).await,
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

    async fn serve(&mut self, connection: &Arc<B::Connection>) -> Result<End> {
        self.come_back(connection).await?;
        if self.is_careful {
            self.send_again_one_by_one(connection).await?;
        }
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
                Some(confirmed) = confirmations.next() => self.confirmed(connection, confirmed?)?,
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

    /// Says hello for the nodes that have been away. Without a history, what is held waits until the peers that they
    /// knew are subscribed again.
    async fn come_back(&mut self, connection: &B::Connection) -> Result<()> {
        let nodes: Vec<_> = self.state.nodes.all().into_iter().filter(|node| node.takes_hello()).collect();
        if nodes.is_empty() {
            return Ok(());
        }
        let hellos = nodes.iter().map(|node| self.state.hello(node)).collect::<Result<Vec<_>>>()?;
        outcome(connection, &hellos).await?;
        if self.state.has_history() {
            return Ok(());
        }
        let given_up = async {
            tokio::select! {
                () = connection.ended() => {}
                () = self.state.closing.cancelled() => {}
            }
        };
        let report_gap = || nodes.iter().for_each(|node| node.push(connection_gap()));
        until_back(nodes.iter().map(|node| &node.peers), given_up, report_gap).await;
        Ok(())
    }

    /// Sends again what is unconfirmed, so that it is known which batch is refused. What finds no room waits, and what
    /// follows behind it.
    async fn send_again_one_by_one(&mut self, connection: &B::Connection) -> Result<()> {
        let mut backoff = Backoff::new(RETRY, RETRY * 20);
        while let Some(write) = self.unconfirmed.pop_front() {
            let Write { batches, weight } = write;
            let mut batches = VecDeque::from(batches);
            while let Some(batch) = batches.pop_front() {
                let mut end = None;
                match outcome(connection, slice::from_ref(&batch)).await {
                    Ok(mut undelivered) => {
                        self.refused(&undelivered.refused, slice::from_ref(&batch));
                        let is_deferred = !undelivered.deferred.is_empty();
                        if is_deferred {
                            batches.push_front(batch);
                        }
                        self.returned(connection, &mut undelivered.returned);
                        if !undelivered.returned.is_empty() {
                            end = Some(no_stream());
                        } else if is_deferred {
                            self.state.obstruct(Obstacle::Full, Some("there is no room for a message".into()));
                            sleep(backoff.next_pause()).await;
                        } else {
                            backoff.reset();
                        }
                        undelivered.returned.into_iter().rev().for_each(|batch| batches.push_front(batch));
                    }
                    Err(error) => {
                        if error.kind() == ErrorKind::Disconnected {
                            batches.push_front(batch);
                        } else {
                            self.state.refused(&batch.bytes, &error);
                        }
                        end = Some(error);
                    }
                }
                if let Some(error) = end {
                    self.unconfirmed.push_front(Write { batches: batches.into(), weight });
                    return Err(error);
                }
            }
            self.state.outbox.release(weight);
        }
        self.is_careful = false;
        self.state.obstruct(Obstacle::Full, None);
        Ok(())
    }

    /// Handles the judgement on the oldest unconfirmed write. What the broker did not take stays unconfirmed.
    ///
    /// # Errors
    /// `Disconnected` if a connection has to set up what is missing, `QueueFull` if something finds no room.
    fn confirmed(&mut self, connection: &B::Connection, mut undelivered: Undelivered<B::Address>) -> Result<()> {
        let Some(Write { batches, weight }) = self.unconfirmed.pop_front() else { return Ok(()) };
        self.refused(&undelivered.refused, &batches);
        self.returned(connection, &mut undelivered.returned);
        let error = if !undelivered.returned.is_empty() {
            no_stream()
        } else if !undelivered.deferred.is_empty() {
            Error::new(ErrorKind::QueueFull, "there is no room for a message")
        } else {
            self.state.outbox.release(weight);
            return Ok(());
        };
        let deferred = undelivered.deferred.into_iter().filter_map(|index| batches.get(index).cloned());
        let batches = undelivered.returned.into_iter().chain(deferred).collect();
        self.unconfirmed.push_front(Write { batches, weight });
        Err(error)
    }

    fn refused(&self, refused: &[usize], batches: &[OutgoingBatch<B::Address>]) {
        for batch in refused.iter().filter_map(|index| batches.get(*index)) {
            self.state.refused(&batch.bytes, &"too large for this server, or not permitted");
        }
    }

    /// Takes out the probes.
    fn returned(&self, connection: &B::Connection, returned: &mut Vec<OutgoingBatch<B::Address>>) {
        for probe in returned.extract_if(.., |batch| batch.is_probe()) {
            self.state.queue_gone(&probe.address, connection);
        }
    }

    /// Lets go of a connection that still stands, without letting what follows overtake what it carries.
    async fn hand_over(&mut self, connection: &B::Connection, mut confirmations: Confirmations<B>) -> End {
        let confirmed = async {
            while let Some(Ok(undelivered)) = confirmations.next().await {
                self.confirmed(connection, undelivered)?;
            }
            Ok::<_, Error>(())
        };
        if !connection.has_ended() && timeout(HEAD_START * 10, pin!(confirmed)).await.is_ok() {
            sleep(HEAD_START).await;
        }
        End::Connection
    }

    async fn failed(&mut self, connection: &B::Connection, error: &Error) {
        if error.kind() != ErrorKind::Disconnected {
            self.is_careful = true;
            match connection.reopen().await {
                Ok(()) => return,
                Err(error) => tracing::debug!(%error, "publishing is not possible any more"),
            }
        }
        connection.abort(&error.to_string());
    }

    /// Passes on what another task stores, and packs the rest: one batch per run of messages to one address. `None` if
    /// there is no rest.
    fn pack(&mut self, taken: &mut Vec<Outgoing<B>>) -> Option<Write<B>> {
        let max_bytes = self.state.broker.max_batch_bytes().min(BATCH_BYTES);
        let live: Vec<_> = taken.drain(..).flat_map(|outgoing| self.set_apart(outgoing)).collect();
        let mut write = Write { batches: Vec::new(), weight: live.iter().map(|message| message.weight).sum() };
        let mut messages = live.into_iter().peekable();
        while let Some(OutgoingMessage { address, message, is_stored, .. }) = messages.next() {
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
            let is_mandatory = B::RETURNS_UNROUTABLE && (is_probe || is_stored);
            write.batches.push(OutgoingBatch { address, bytes: batch.finish(), is_mandatory });
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
