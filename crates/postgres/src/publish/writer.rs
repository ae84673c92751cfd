//! The task that publishes: batch by batch, over one connection after the other.
//!
//! A batch stays here until the server has confirmed it; what is left when a connection breaks is sent again over the
//! next one, in the same order. Two writes may be unconfirmed, so that a lone message leaves at once; batches form
//! behind them.

use std::{
    collections::VecDeque,
    ops::{Deref, Range},
    pin::{Pin, pin},
    sync::Arc,
};

use futures_util::{StreamExt, future::BoxFuture, stream::FuturesOrdered};
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, types::Type};
use trunkline_backend::{Backoff, Direction, known_peers::until_back};
use trunkline_core::{
    Gap, GapCause, Message, NodeKey, Result,
    codec::{self, Format},
    model::{Delivery, Heartbeat},
};

use super::{
    message::QueuedMessage,
    statements::{Statements, expect_next},
};
use crate::{
    channel::Encoding,
    connect::{ConnectionDriver, PgConnection},
    error::Failure,
    joined_node::JoinedNode,
    shared::{CLOSE_TIMEOUT, Shared},
};

/// Bytes that go into one transaction, unless a single message has more.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// Writes that may be unconfirmed. While so many are, nothing is taken from the outbox, where batches form.
const WINDOW: usize = 2;

/// Nothing, by a name with which an administrator finds the connection.
const PING: &str = "/* trunkline: publishing */";

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

    fn send(&mut self, batch: Batch) {
        let (client, statements, first) = (Arc::clone(&self.client), Arc::clone(&self.statements), self.next);
        self.next += Statements::count(&batch);
        self.sent.push_back(Box::pin(async move { statements.publish(&client, &batch, first).await }));
    }

    /// Forgets what was sent behind a refused write: it is refused, too. Returns once it is.
    async fn clear(&mut self, silence: Pin<&mut impl Future<Output = Failure>>) -> Result<(), Failure> {
        self.sent.clear();
        let (client, statement) = (&self.client, expect_next(self.next));
        self.driver
            .drive(async {
                tokio::select! {
                    failure = silence => Err(failure),
                    cleared = client.batch_execute(&statement) => Ok(cleared?),
                }
            })
            .await
    }
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
    unconfirmed: VecDeque<Batch>,
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
    Taken(Vec<QueuedMessage>),
    /// The nodes listen again.
    Returned,
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
            sleep(self.backoff.next_pause()).await;
            outcome = self.reconnect().await;
        }
    }

    async fn reconnect(&mut self) -> Result<(), Failure> {
        let shared = Arc::clone(&self.shared);
        let limit = shared.config.response_timeout;
        let connection = shared.open(&shared.outbound).await.map_err(|error| Failure::Lost(error.to_string()))?;
        let prepared = timeout(limit, PublishConnection::new(connection, &shared)).await;
        let prepared = prepared.map_err(|_| Failure::no_answer(limit))?;
        let mut connection = prepared.map_err(|error| Failure::Lost(error.to_string()))?;
        // The other direction may have died with this one, and not have been noticed yet.
        let listening = async {
            shared.inbound.proven().await;
            shared.until_listening().await;
        };
        let client = Arc::clone(&connection.client);
        // It shows the reader that this direction works.
        let silence = shared.outbound.keep_alive(&client, PING, &shared.config);
        let waiting = async {
            tokio::select! {
                failure = silence => Err(failure),
                () = listening => Ok(()),
            }
        };
        connection.driver.drive(waiting).await?;
        if self.unconfirmed.is_empty() {
            self.connected();
        }
        self.serve(connection).await
    }

    /// Sends what is unconfirmed, and then what comes.
    async fn serve(&mut self, mut connection: PublishConnection) -> Result<(), Failure> {
        let (shared, client) = (Arc::clone(&self.shared), Arc::clone(&connection.client));
        let mut silence = pin!(shared.outbound.keep_alive(&client, PING, &shared.config));
        self.come_back(&mut connection, silence.as_mut()).await?;
        while !(self.is_drained && self.unconfirmed.is_empty()) {
            while connection.sent.len() < WINDOW
                && let Some(batch) = self.unconfirmed.get(connection.sent.len())
            {
                connection.send(batch.clone());
            }
            match self.next_step(&mut connection, silence.as_mut()).await? {
                Step::Answered(Ok(())) => self.confirmed(),
                Step::Answered(Err(failure)) => {
                    self.failed(failure)?;
                    connection.clear(silence.as_mut()).await?;
                }
                Step::Taken(messages) => self.push(messages),
                Step::Returned => self.come_back(&mut connection, silence.as_mut()).await?,
                Step::Drained => self.is_drained = true,
            }
        }
        Ok(())
    }

    /// Says hello for the nodes if they did not listen for a while. What is held waits until the peers that they knew
    /// listen again.
    async fn come_back(
        &self,
        connection: &mut PublishConnection,
        silence: Pin<&mut impl Future<Output = Failure>>,
    ) -> Result<(), Failure> {
        if !self.shared.takes_hello() {
            return Ok(());
        }
        let PublishConnection { client, driver, .. } = connection;
        let nodes = self.shared.joined.all();
        nodes.iter().for_each(|node| node.peers.lost());
        let report_gap = || {
            let gap = || Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None });
            nodes.iter().for_each(|node| _ = node.inbox.push([gap()]));
        };
        let back = async {
            for node in &nodes {
                say_hello(client, node, self.shared.encoding()).await?;
            }
            until_back(nodes.iter().map(|node| &node.peers), self.shared.closing.cancelled(), report_gap).await;
            Ok(())
        };
        let back = async {
            tokio::select! {
                failure = silence => Err(failure),
                back = back => back,
            }
        };
        // It is owed over the next connection.
        driver.drive(back).await.inspect_err(|_| self.shared.owe_hello())
    }

    /// Waits for an answer or, while the window is open, for something to send.
    async fn next_step(
        &self,
        connection: &mut PublishConnection,
        silence: Pin<&mut impl Future<Output = Failure>>,
    ) -> Result<Step, Failure> {
        let PublishConnection { driver, sent, .. } = connection;
        let (is_waiting, is_open) = (!sent.is_empty(), self.unconfirmed.len() < WINDOW);
        driver
            .drive(async {
                tokio::select! {
                    biased;
                    failure = silence => Err(failure),
                    answer = sent.select_next_some(), if is_waiting => Ok(Step::Answered(answer)),
                    step = self.take(), if is_open && !self.is_drained => Ok(step),
                }
            })
            .await
    }

    async fn take(&self) -> Step {
        self.shared.until_listening().await;
        if self.shared.owes_hello() {
            return Step::Returned;
        }
        let mut messages = Vec::new();
        match self.shared.outbox.take(&mut messages, MAX_BATCH_BYTES).await {
            Some(_) => Step::Taken(messages),
            None => Step::Drained,
        }
    }

    fn push(&mut self, mut messages: Vec<QueuedMessage>) {
        for number in messages.iter_mut().filter_map(|message| message.stored.as_mut()) {
            self.last_stored += 1;
            *number = self.last_stored;
        }
        self.unconfirmed.push_back(Batch::new(messages));
    }

    fn confirmed(&mut self) {
        if let Some(batch) = self.unconfirmed.pop_front() {
            self.release(&batch);
        }
        self.connected();
    }

    fn connected(&mut self) {
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
    fn failed(&mut self, failure: Failure) -> Result<(), Failure> {
        if failure.may_pass() {
            return Err(failure);
        }
        let Some(batch) = self.unconfirmed.pop_front() else { return Err(failure) };
        if batch.len() == 1 {
            self.drop_refused(&batch, &failure);
        } else {
            batch.split().rev().for_each(|single| self.unconfirmed.push_front(single));
        }
        self.backoff.reset();
        Ok(())
    }

    /// With history its sender has not delivered a refused broadcast yet.
    fn drop_refused(&self, batch: &Batch, failure: &Failure) {
        self.shared.outbox.refused(batch.len() as u64, &failure.to_string());
        for QueuedMessage { from, own_broadcast, .. } in batch.iter() {
            let Some(node) = self.shared.joined.find(from) else { continue };
            node.metrics.publish_errors.increment();
            if let Some(message) = own_broadcast.clone() {
                node.inbox.push([Delivery::Stored { seq_no: None, message, offset: None }]);
            }
        }
        self.release(batch);
    }
}

/// Tells the peers of a node that it is back: by a heartbeat that asks them for theirs. It goes ahead of what is held,
/// and so without the numbers of what was sent.
async fn say_hello(client: &Client, node: &JoinedNode, encoding: Encoding) -> Result<(), Failure> {
    let NodeKey { id, namespace } = &node.key;
    let encoded = codec::encode(Format::Json, id, namespace, &Message::Heartbeat(Heartbeat::new(true)));
    let encoded = encoded.map_err(|error| Failure::Lost(error.to_string()))?;
    let encoded = if encoding == Encoding::Any { encoded } else { encoded.escaped() };
    let text = String::from_utf8_lossy(&encoded.finish(None, &[])).into_owned();
    let notified =
        client.query_typed("SELECT pg_notify($1, $2)", &[(&&*node.channel, Type::TEXT), (&text, Type::TEXT)]).await;
    match notified.map_err(Failure::from) {
        Err(failure) if failure.is_lost() => Err(failure),
        Err(failure) => {
            tracing::debug!(reason = %failure, "peers were not told that a node is back");
            Ok(())
        }
        Ok(_) => Ok(()),
    }
}
