//! The task that publishes: batch by batch, over one connection after the other.
//!
//! A batch stays here until the server has confirmed it; what is left when a connection breaks is sent again over the
//! next one, in the same order. Two writes may be unconfirmed, so that a lone message leaves at once; batches form
//! behind them.

use std::{
    collections::VecDeque,
    ops::{Deref, Range},
    sync::Arc,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::Client;
use trunkline_backend::{Backoff, Direction};
use trunkline_core::{Result, model::Delivery};

use super::{
    message::QueuedMessage,
    statements::{Statements, expect_next},
};
use crate::{
    connect::{ConnectionDriver, PgConnection},
    error::Failure,
    shared::{CLOSE_TIMEOUT, Shared},
};

/// Bytes that go into one transaction, unless a single message has more.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Writes that may be unconfirmed. While so many are, nothing is taken from the outbox, where batches form.
const WINDOW: usize = 2;

/// A connection that is ready to publish, and what was sent over it and not confirmed yet.
pub(crate) struct PublishConnection {
    client: Arc<Client>,
    driver: ConnectionDriver,
    statements: Arc<Statements>,
    /// Number of the next statement.
    next: i64,
    sent: FuturesOrdered<BoxFuture<'static, Result<(), Failure>>>,
}

impl PublishConnection {
    pub(crate) async fn new(mut connection: PgConnection, shared: &Shared) -> Result<Self> {
        let prepared = Statements::prepare(&mut connection, &shared.config, &shared.origin).await;
        let statements = prepared.map_err(|failure| failure.into_error("prepare the statements that publish"))?;
        let PgConnection { client, driver } = connection;
        let (client, statements) = (Arc::new(client), Arc::new(statements));
        Ok(Self { client, driver, statements, next: 1, sent: FuturesOrdered::new() })
    }

    fn send(&mut self, write: &Write, ping_channel: &str) {
        let (client, statements) = (Arc::clone(&self.client), Arc::clone(&self.statements));
        match write {
            Write::Batch(batch) => {
                let (batch, first) = (batch.clone(), self.next);
                self.next += Statements::count(&batch);
                self.sent.push_back(Box::pin(async move { statements.publish(&client, &batch, first).await }));
            }
            Write::Ping(_) => {
                let channel = ping_channel.to_owned();
                self.sent.push_back(Box::pin(async move { statements.ping(&client, &channel).await }));
            }
        }
    }

    /// Forgets what was sent behind a refused write: it is refused, too. Returns once it is.
    async fn clear(&mut self) -> Result<(), Failure> {
        self.sent.clear();
        self.driver.drive(self.client.batch_execute(&expect_next(self.next))).await
    }
}

/// A transaction of the writer.
#[derive(Debug)]
enum Write {
    Batch(Batch),
    /// A notification to the transport itself, and when it was sent.
    Ping(Instant),
}

/// Messages of one transaction.
#[derive(Clone, Debug)]
struct Batch {
    messages: Arc<[QueuedMessage]>,
    range: Range<usize>,
}

impl Batch {
    fn new(messages: Vec<QueuedMessage>) -> Self {
        Self { range: 0..messages.len(), messages: messages.into() }
    }

    /// A batch for each message.
    fn split(&self) -> impl DoubleEndedIterator<Item = Self> {
        self.range.clone().map(|index| Self { messages: Arc::clone(&self.messages), range: index..index + 1 })
    }
}

impl Deref for Batch {
    type Target = [QueuedMessage];

    fn deref(&self) -> &[QueuedMessage] {
        &self.messages[self.range.clone()]
    }
}

/// The task that publishes what is in the outbox.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// Number of the last message for the events table.
    last_stored: i64,
    /// In order; the first ones are on their way.
    unconfirmed: VecDeque<Write>,
    /// Whether the outbox is closed and empty.
    is_drained: bool,
    /// Whether the nodes know that publishing works.
    is_connected: bool,
    backoff: Backoff,
}

/// Something that happened while the connection was served.
enum Step {
    /// The server has answered the first unconfirmed write.
    Answered(Result<(), Failure>),
    /// It has not, for too long.
    Overdue,
    PingDue,
    Taken(Vec<QueuedMessage>),
    Drained,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            last_stored: 0,
            unconfirmed: VecDeque::new(),
            is_drained: false,
            is_connected: true,
            backoff: Backoff::default(),
        }
    }

    /// Runs until the transport is closed. The first connection has shown that it works.
    pub(crate) async fn run(mut self, first: PublishConnection) {
        let shared = Arc::clone(&self.shared);
        let overdue = async {
            shared.closing.cancelled().await;
            shared.outbox.close();
            sleep(CLOSE_TIMEOUT).await;
        };
        tokio::select! {
            () = self.publish_until_closed(first) => {}
            () = overdue => {}
        }
    }

    async fn publish_until_closed(&mut self, first: PublishConnection) {
        let mut outcome = self.serve(first).await;
        while let Err(failure) = outcome {
            tracing::debug!(reason = %failure, "not publishing");
            self.shared.lost(Direction::Outbound, &failure.to_string());
            self.is_connected = false;
            self.drop_pings();
            sleep(self.backoff.next_pause()).await;
            outcome = self.reconnect().await;
        }
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        let limit = self.shared.config.response_timeout;
        let opened = async { PublishConnection::new(self.shared.open().await?, &self.shared).await };
        let opened = timeout(limit, opened).await.map_err(|_| Failure::no_answer(limit))?;
        let mut connection = opened.map_err(|error| Failure::Lost(error.to_string()))?;
        tokio::select! {
            reason = connection.driver.ended() => return Err(Failure::Lost(reason)),
            () = self.shared.until_listening() => {}
        }
        self.serve(connection).await
    }

    /// Sends what is unconfirmed, or a ping, and then what comes.
    async fn serve(&mut self, mut connection: PublishConnection) -> Result<(), Failure> {
        // The first ping is due at once.
        let mut pings = interval(self.shared.config.ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !(self.is_drained && self.unconfirmed.is_empty()) {
            while connection.sent.len() < WINDOW
                && let Some(write) = self.unconfirmed.get(connection.sent.len())
            {
                connection.send(write, &self.shared.ping_channel);
            }
            let step = self.next_step(&mut connection, &mut pings).await?;
            self.step(step, &mut connection).await?;
        }
        Ok(())
    }

    /// Waits for an answer or, while the window is open, for something to send.
    async fn next_step(&self, connection: &mut PublishConnection, pings: &mut Interval) -> Result<Step, Failure> {
        let PublishConnection { driver, sent, .. } = connection;
        let limit = self.shared.config.response_timeout;
        let (is_waiting, is_open) = (!sent.is_empty(), self.unconfirmed.len() < WINDOW);
        driver
            .drive::<_, Failure>(async {
                Ok(tokio::select! {
                    biased;
                    answer = timeout(limit, sent.select_next_some()), if is_waiting => {
                        answer.map_or(Step::Overdue, Step::Answered)
                    }
                    _ = pings.tick(), if is_open && !self.is_drained => Step::PingDue,
                    step = self.take(), if is_open && !self.is_drained => step,
                })
            })
            .await
    }

    async fn take(&self) -> Step {
        self.shared.until_listening().await;
        let mut messages = Vec::new();
        match self.shared.outbox.take(&mut messages, MAX_BATCH_BYTES).await {
            Some(_) => Step::Taken(messages),
            None => Step::Drained,
        }
    }

    async fn step(&mut self, step: Step, connection: &mut PublishConnection) -> Result<(), Failure> {
        match step {
            Step::Answered(Ok(())) => self.confirmed(),
            Step::Answered(Err(failure)) => return self.failed(failure, connection).await,
            Step::Overdue => return Err(self.overdue(&connection.client).await),
            Step::PingDue => self.unconfirmed.push_back(Write::Ping(Instant::now())),
            Step::Taken(messages) => self.push(messages),
            Step::Drained => self.is_drained = true,
        }
        Ok(())
    }

    fn push(&mut self, mut messages: Vec<QueuedMessage>) {
        for number in messages.iter_mut().filter_map(|message| message.stored.as_mut()) {
            self.last_stored += 1;
            *number = self.last_stored;
        }
        self.unconfirmed.push_back(Write::Batch(Batch::new(messages)));
    }

    fn confirmed(&mut self) {
        match self.unconfirmed.pop_front() {
            Some(Write::Batch(batch)) => self.release(&batch),
            Some(Write::Ping(since)) => {
                self.shared.pinged.send_replace(Some(since));
            }
            None => {}
        }
        self.backoff.reset();
        if !std::mem::replace(&mut self.is_connected, true) {
            self.shared.restored(Direction::Outbound);
        }
    }

    fn release(&self, batch: &Batch) {
        self.shared.outbox.release(batch.iter().map(|message| message.bytes).sum());
    }

    /// The messages of a refused batch are sent one by one, and a refused message is dropped. Other failures end with
    /// the connection.
    async fn failed(&mut self, failure: Failure, connection: &mut PublishConnection) -> Result<(), Failure> {
        let batch = match self.unconfirmed.front() {
            Some(Write::Batch(batch)) if !failure.may_pass() => batch.clone(),
            _ => return Err(failure),
        };
        self.unconfirmed.pop_front();
        self.drop_pings();
        if batch.len() == 1 {
            self.drop_refused(&batch, &failure);
        } else {
            batch.split().rev().for_each(|single| self.unconfirmed.push_front(Write::Batch(single)));
        }
        self.backoff.reset();
        match timeout(self.shared.config.response_timeout, connection.clear()).await {
            Ok(cleared) => cleared,
            Err(_) => Err(self.overdue(&connection.client).await),
        }
    }

    /// A ping tells when it was sent, and so is never repeated.
    fn drop_pings(&mut self) {
        self.unconfirmed.retain(|write| matches!(write, Write::Batch(_)));
    }

    /// With history its sender has not delivered a refused broadcast yet.
    fn drop_refused(&self, batch: &Batch, failure: &Failure) {
        for QueuedMessage { channel, from, own_broadcast, .. } in batch.iter() {
            tracing::warn!(channel = &**channel, reason = %failure, "the server refused a message");
            let Some(node) = self.shared.joined.find(from) else { continue };
            node.metrics.publish_errors.increment();
            if let Some(message) = own_broadcast.clone() {
                node.inbox.push([Delivery::Stored { seq_no: None, message, offset: None }]);
            }
        }
        self.release(batch);
    }

    /// A statement that takes too long is cancelled, so that it is less likely to be carried out after it was repeated
    /// elsewhere.
    async fn overdue(&self, client: &Client) -> Failure {
        self.shared.cancel(client.cancel_token()).await;
        Failure::no_answer(self.shared.config.response_timeout)
    }
}
