//! One transport for every broker that carries batches of encoded messages between connections, as RabbitMQ and NATS
//! do.
//!
//! [`BatchedTransport`] does what is the same for all of them: it queues and numbers messages, packs them into
//! [batches](crate::batch), keeps a connection, resends what was not confirmed when it broke, reads for each node,
//! subscribes to the buckets of its rooms, and reads the history. A broker's part is [`BatchBroker`] (how to connect,
//! which addresses there are) and what it returns: a [`BatchConnection`] that publishes and confirms, a
//! [`NodeSubscription`] per node, and a [`HistorySource`] where broadcasts are stored.

mod connection_manager;
mod history;
mod node;
mod publish;
mod reader;
mod state;
#[cfg(test)]
mod tests;
mod token;
mod transport;
mod writer;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};
use tokio_util::task::TaskTracker;
use trunkline_core::{Namespace, Offset, Result, transport::History};

pub use self::{
    history::missed_in,
    node::{JoinedNode, NamespaceState},
    publish::Outgoing,
    state::{Obstacle, TransportState},
    token::token,
    transport::BatchedTransport,
};
use crate::{
    batch::{self, Batch, ConnectionId},
    outbox::OutboxLimits,
    rooms::{Bucket, Buckets},
};

/// What a broker does for [`BatchedTransport`].
pub trait BatchBroker: fmt::Debug + Sized + Send + Sync + 'static {
    /// The name of the product, for logs and errors.
    const NAME: &'static str;

    /// Bytes of messages that are taken from the outbox for one write.
    const WRITE_BYTES: usize;

    /// Which settings bound a message, for errors.
    const SIZE_LIMITED_BY: &'static str;

    /// Whether the broker keeps what a node has not acknowledged. If so, a full inbox is waited for; otherwise it drops
    /// and counts.
    const KEEPS_UNACKNOWLEDGED: bool;

    /// Whether the broker returns a message that no queue receives. If so, nodes that should answer a request are
    /// probed, and one whose queue is gone counts as gone.
    const RETURNS_UNROUTABLE: bool;

    /// A routing key or a subject.
    type Address: Clone + fmt::Debug + Eq + From<String> + Send + Sync + 'static;

    /// An open connection.
    type Connection: BatchConnection<Address = Self::Address>;

    /// What one node receives over one connection.
    type Subscription: NodeSubscription<Address = Self::Address>;

    /// What one node reads from the history.
    type HistorySource: HistorySource<Connection = Self::Connection>;

    /// The settings that all brokers have.
    fn settings(&self) -> &BatchSettings;

    /// The first words of a namespace's addresses.
    ///
    /// # Errors
    /// `Config` if the broker does not take names of this length.
    fn namespace_prefix(&self, namespace: &Namespace) -> Result<String>;

    /// Text as one word of an address.
    fn token(text: &str) -> String;

    /// The largest batch that the broker takes.
    fn max_batch_bytes(&self) -> usize;

    /// Connects to one server. `number` counts the connections of the transport, from 1; the tasks of the connection
    /// belong to `tasks`.
    fn open(
        &self,
        server: &str,
        number: u64,
        tasks: &TaskTracker,
    ) -> impl Future<Output = Result<Self::Connection>> + Send;

    /// Subscribes to everything that a node receives: what goes to all, to the node and to these buckets. On return it
    /// arrives.
    fn subscribe(
        &self,
        connection: &Arc<Self::Connection>,
        node: &JoinedNode<Self>,
        buckets: &[Bucket],
    ) -> impl Future<Output = Result<Self::Subscription>> + Send;

    /// Sets up the history over the first connection, before any node joins.
    fn set_up_history(&self, connection: &Self::Connection) -> impl Future<Output = Result<()>> + Send;

    /// Reads the history for a node; `None` without a history.
    fn history_source(&self, node: &JoinedNode<Self>) -> Option<Self::HistorySource>;

    /// Sessions and replay; `None` without a history.
    fn history(state: &Arc<TransportState<Self>>) -> Option<Arc<dyn History>>;

    /// Starts the task that stores messages, where this is more than publishing them: otherwise the writer does it. The
    /// task ends when the channel does and everything is stored, or when the writer ends, and then cancels
    /// [`TransportState::history_writer_ended`].
    fn start_history_writer(state: &Arc<TransportState<Self>>) -> Option<mpsc::UnboundedSender<OutgoingMessage<Self>>>;
}

/// Settings that all brokers of [`BatchedTransport`] have.
#[derive(Clone, Debug)]
pub struct BatchSettings {
    /// The id under which this transport numbers its batches.
    pub sender: ConnectionId,
    /// The servers to connect to, as `host:port`.
    pub servers: Vec<String>,
    /// How rooms are spread over addresses.
    pub buckets: Buckets,
    /// How long a bucket without rooms stays subscribed.
    pub linger: Duration,
    /// How long messages for a room go to all nodes after sockets of other nodes were asked to join it.
    pub join_grace: Duration,
    /// How long everything that needs an answer of the broker may take.
    pub connect_timeout: Duration,
    /// Bounds of what waits to be sent.
    pub outbox: OutboxLimits,
    /// Whether broadcasts are stored, and read from there.
    pub has_history: bool,
}

/// An open connection to a broker. It never reconnects: the client's own recovery would send what it still holds before
/// what was lost can be sent again, and so out of order.
pub trait BatchConnection: fmt::Debug + Send + Sync + 'static {
    /// A routing key or a subject.
    type Address;

    /// Sends batches behind those sent before. On return they have their order on the connection.
    ///
    /// # Errors
    /// `Disconnected` if the connection has ended, or has to. Any other kind says that the broker refuses one of the
    /// batches for good; what became of the others is not known.
    fn publish(
        &self,
        batches: &[OutgoingBatch<Self::Address>],
    ) -> impl Future<Output = Result<Confirmation<Self::Address>>> + Send;

    /// The server it leads to.
    fn server(&self) -> &str;

    /// The servers that this one knows of its cluster, as `host:port`.
    fn cluster_servers(&self) -> Vec<String>;

    /// Why the broker takes no messages at the moment, if it does not.
    fn blocked(&self) -> watch::Receiver<Option<String>>;

    /// Makes it possible to publish again after a batch was refused.
    fn reopen(&self) -> impl Future<Output = Result<()>> + Send;

    /// Returns when the server announces that it will shut down. *Cancel safe.*
    fn shutdown_announced(&self) -> impl Future<Output = ()> + Send;

    /// Returns when the connection has ended. *Cancel safe.*
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// Whether the connection has ended, or is about to.
    fn has_ended(&self) -> bool;

    /// Why it has ended.
    fn end_reason(&self) -> String;

    /// Ends the connection at once, for this reason if it has not ended yet.
    fn abort(&self, reason: &str);

    /// Says goodbye to the broker, in bounded time, and ends the connection.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// Resolves when the broker has judged all batches of a write, with those that it did not take.
///
/// # Errors
/// As [`BatchConnection::publish`].
pub type Confirmation<A> = BoxFuture<'static, Result<Undelivered<A>>>;

/// Batches that the broker did not take.
#[derive(Clone, Debug)]
pub struct Undelivered<A> {
    /// Those that no queue receives, also of other writes.
    pub returned: Vec<OutgoingBatch<A>>,
    /// Positions in the write of those for which there is no room at the moment.
    pub deferred: Vec<usize>,
    /// Positions in the write of those that it will never take.
    pub refused: Vec<usize>,
}

impl<A> Default for Undelivered<A> {
    fn default() -> Self {
        Self { returned: Vec::new(), deferred: Vec::new(), refused: Vec::new() }
    }
}

/// A batch to be published.
#[derive(Clone, Debug)]
pub struct OutgoingBatch<A> {
    /// Where it goes.
    pub address: A,
    /// The batch.
    pub bytes: Bytes,
    /// Whether the broker is to return it if no queue receives it.
    pub is_mandatory: bool,
}

impl<A> OutgoingBatch<A> {
    /// Whether there is no message in it: only whether it comes back matters.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.bytes.len() == batch::HEADER
    }
}

/// An encoded message on its way to the broker.
#[derive(Debug)]
pub struct OutgoingMessage<B: BatchBroker> {
    /// Where it goes.
    pub address: B::Address,
    /// The message; empty for a probe.
    pub message: Vec<u8>,
    /// Whether the history keeps it.
    pub is_stored: bool,
    /// What the outbox counts for it until [`Outbox::release`](crate::Outbox::release).
    pub weight: usize,
}

/// What one node receives over one connection.
pub trait NodeSubscription: fmt::Debug + Send + Sync + 'static {
    /// A routing key or a subject.
    type Address;

    /// Waits for batches. *Cancel safe.*
    fn next(&mut self) -> impl Future<Output = Arrived> + Send;

    /// The batches that have arrived already.
    fn arrived(&mut self) -> impl Future<Output = Vec<ReceivedBatch>> + Send;

    /// Subscribes to a bucket. On return this has its order among other changes; what is returned resolves when the
    /// broker delivers the bucket, with the number of batches that waited in the broker then.
    fn subscribe(&mut self, bucket: Bucket, address: Self::Address)
    -> impl Future<Output = Result<Subscribing>> + Send;

    /// Unsubscribes from a bucket.
    fn unsubscribe(&mut self, bucket: Bucket, address: Self::Address) -> BoxFuture<'static, Result<()>>;

    /// Lets the broker forget a batch and all before it.
    fn acknowledge(&self, tag: u64) -> impl Future<Output = ()> + Send;

    /// Ends the subscription of a node that leaves, in bounded time.
    fn close(self) -> impl Future<Output = ()> + Send;
}

/// Resolves when the broker delivers a bucket. See [`NodeSubscription::subscribe`].
pub type Subscribing = BoxFuture<'static, Result<u64>>;

/// What comes next to a node.
#[derive(Debug)]
pub enum Arrived {
    /// Batches, in order.
    Batches(Vec<ReceivedBatch>),
    /// The client had to drop batches.
    Overflowed,
    /// Nothing more comes, for this reason.
    Ended(String),
}

/// A batch that has arrived.
#[derive(Debug)]
pub struct ReceivedBatch {
    /// The batch, if it can be understood.
    pub batch: Result<Batch>,
    /// By which it is acknowledged.
    pub tag: u64,
}

/// Reads the history for one node, and knows how far it has come.
pub trait HistorySource: Send + 'static {
    /// An open connection.
    type Connection;

    /// Goes on behind what was read, over this connection. At first it begins with what is stored from now on.
    fn open(&mut self, connection: &Arc<Self::Connection>) -> impl Future<Output = Result<()>> + Send;

    /// Waits for the next entry.
    fn next(&mut self, connection: &Self::Connection) -> impl Future<Output = Result<HistoryEntry>> + Send;

    /// The offset of a message that so many others follow in its batch.
    fn offset(&self, batch: &Batch, sequence: u64, remaining: usize) -> Offset;
}

/// What is read from the history.
#[derive(Debug)]
pub enum HistoryEntry {
    /// A batch and its position.
    Batch {
        /// The batch, if it can be understood.
        batch: Result<Batch>,
        /// Its position.
        sequence: u64,
    },
    /// Entries are missing here: they were trimmed before they could be read.
    Gap,
}
