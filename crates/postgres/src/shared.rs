//! State that the tasks of one transport share.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_backend::{Direction, JoinedNodes, LinkState, Outbox};
use trunkline_core::{IdScheme, NodeId, NodeKey, Result, model::Delivery, transport::Health};

use crate::{
    channel::{self, Encoding},
    config::Config,
    connect::{Connector, PgConnection, Pulse, schema},
    error::Failure,
    joined_node::JoinedNode,
    listen::Command,
    publish::QueuedMessage,
    query::QueryHandle,
};

/// Time in which queued messages may still be sent once the transport is closed.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Shared {
    pub(crate) config: Config,
    connector: Connector,
    /// Id of this transport in the events table, for as long as it lives and however often it reconnects.
    pub(crate) origin: NodeId,
    /// Channel on which this transport notifies itself.
    pub(crate) ping_channel: String,
    pub(crate) outbox: Outbox<QueuedMessage>,
    pub(crate) joined: JoinedNodes<JoinedNode>,
    /// To the reader.
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) queries: QueryHandle,
    /// Of the listening connections.
    pub(crate) inbound: Arc<Pulse>,
    /// Of the publishing connections.
    pub(crate) outbound: Arc<Pulse>,
    /// Encoding of the database, once it is known.
    encoding: OnceLock<Encoding>,
    link: LinkState,
    /// Whether the nodes did not listen for a while, and peers were not told yet that they are back.
    owes_hello: AtomicBool,
    pub(crate) closing: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(config: Config, commands: mpsc::Sender<Command>) -> Result<Self> {
        let origin = IdScheme::Hex16.node_id();
        Ok(Self {
            connector: config.server.connector()?,
            ping_channel: channel::of_ping(origin.as_str()),
            origin,
            outbox: Outbox::new(config.outbox),
            joined: JoinedNodes::default(),
            commands,
            queries: QueryHandle::new(config.response_timeout),
            inbound: Arc::default(),
            outbound: Arc::default(),
            encoding: OnceLock::new(),
            link: LinkState::of("PostgreSQL"),
            owes_hello: AtomicBool::new(false),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        })
    }

    /// Opens one more connection, for the purpose that the pulse belongs to.
    pub(crate) async fn open(&self, pulse: &Arc<Pulse>) -> Result<PgConnection> {
        let mut connection = self.connect(pulse).await?;
        let limit = self.config.response_timeout;
        let set_up = timeout(limit, self.set_up(&mut connection)).await;
        set_up.map_err(|_| Failure::no_answer(limit).into_error("set up the connection"))??;
        Ok(connection)
    }

    /// Opens a connection with the settings of the server.
    pub(crate) async fn connect(&self, pulse: &Arc<Pulse>) -> Result<PgConnection> {
        let connection = self.config.server.open(&self.connector, pulse).await?;
        self.encoding.get_or_init(|| connection.driver.encoding());
        Ok(connection)
    }

    /// Takes back the server's settings that would end what is idle or slow, and creates the tables that are missing.
    /// No wait is endless, neither of this node for locks nor of others for those of this node.
    pub(crate) async fn set_up(&self, connection: &mut PgConnection) -> Result<()> {
        let limit = self.config.response_timeout.as_millis();
        // Which of them there are depends on the server's version.
        let settings = format!(
            "SELECT set_config(name, '0', false) FROM pg_settings
             WHERE name IN ('idle_session_timeout', 'statement_timeout', 'transaction_timeout');
             SET lock_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit};
             SET default_transaction_isolation = 'read committed'"
        );
        connection.execute(&settings).await.map_err(|failure| failure.into_error("set up the connection"))?;
        schema::prepare(connection, &self.config).await
    }

    /// Encoding of the database.
    pub(crate) fn encoding(&self) -> Encoding {
        *self.encoding.get().unwrap_or(&Encoding::Any)
    }

    /// Channel of the namespace of a node or emitter.
    pub(crate) fn channel_of(&self, node: &NodeKey) -> Result<Arc<str>> {
        channel::name(&self.config.prefix, &node.namespace, self.encoding()).map(Into::into)
    }

    // --- the link ---

    /// A direction is connected (again). The nodes are told once both are.
    pub(crate) fn restored(&self, direction: Direction) {
        self.link.restored(direction, |is_return| {
            self.outbox.set_connected(true);
            if is_return {
                for node in self.joined.all() {
                    node.metrics.reconnects.increment();
                    node.inbox.push([Delivery::Connected]);
                }
            }
        });
    }

    /// A direction is lost. The nodes are told unless the other one was lost already.
    pub(crate) fn lost(&self, direction: Direction, reason: &str) {
        if direction == Direction::Inbound {
            self.owe_hello();
        }
        if self.closing.is_cancelled() {
            self.link.silence();
        }
        self.link.lost(direction, reason, |was_up, reason| {
            self.outbox.set_connected(false);
            if was_up {
                for node in self.joined.all() {
                    node.inbox.push([Delivery::Lost(reason.to_owned())]);
                }
            }
        });
    }

    /// Waits until notifications are received. A message that is published earlier might miss its answers.
    pub(crate) async fn until_listening(&self) {
        self.link.until_listening().await;
    }

    /// Notes that peers are to be told that the nodes are back. With a history, what is held reaches those that come
    /// later.
    pub(crate) fn owe_hello(&self) {
        self.owes_hello.store(self.config.history.is_none(), Ordering::Relaxed);
    }

    /// Whether peers are to be told that the nodes are back.
    pub(crate) fn owes_hello(&self) -> bool {
        self.owes_hello.load(Ordering::Relaxed)
    }

    /// As [`Shared::owes_hello`]; from now on they were told.
    pub(crate) fn takes_hello(&self) -> bool {
        self.owes_hello.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn health(&self) -> Health {
        self.outbox.add_to(self.link.health())
    }

    // --- closing ---

    /// Tells all tasks to end, and lets no more nodes join; queued messages may still be sent.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.outbox.close();
        self.joined.close();
    }

    /// Waits until all tasks have ended, and ends the inboxes.
    pub(crate) async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        for node in self.joined.all() {
            self.joined.remove(&node.key);
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("config", &self.config).finish_non_exhaustive()
    }
}
