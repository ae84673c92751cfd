//! State that the tasks of one transport share.

use std::{fmt, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_backend::{Direction, JoinedNodes, LinkState, Outbox};
use trunkline_core::{IdScheme, NodeId, Result, model::Delivery, transport::Health};

use crate::{
    channel, config::Config, connect::PgConnection, joined_node::JoinedNode, listen::Command, publish::QueuedMessage,
    query::QueryHandle,
};

/// Time in which queued messages may still be sent once the transport is closed.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) struct Shared {
    pub(crate) config: Config,
    connector: MakeRustlsConnect,
    /// Id of this transport in the events table, for as long as it lives and however often it reconnects.
    pub(crate) origin: NodeId,
    /// Channel on which this transport notifies itself.
    pub(crate) ping_channel: String,
    pub(crate) outbox: Outbox<QueuedMessage>,
    pub(crate) joined: JoinedNodes<JoinedNode>,
    /// To the reader.
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) queries: QueryHandle,
    /// When the last ping was sent that the server has taken.
    pub(crate) pinged: watch::Sender<Option<Instant>>,
    link: LinkState,
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
            pinged: watch::Sender::default(),
            link: LinkState::default(),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            config,
        })
    }

    /// Opens one more connection.
    pub(crate) async fn open(&self) -> Result<PgConnection> {
        self.config.server.open(&self.connector).await
    }

    /// Asks the server to cancel the statement that a connection is running. Best effort: the connection is given up
    /// anyway.
    pub(crate) async fn cancel(&self, token: tokio_postgres::CancelToken) {
        const TIMEOUT: Duration = Duration::from_secs(1);
        let _ = tokio::time::timeout(TIMEOUT, token.cancel_query(self.connector.clone())).await;
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
        self.link.lost(direction, reason, |was_up, reason| {
            self.outbox.set_connected(false);
            if was_up {
                tracing::debug!(reason, "lost a connection");
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

    pub(crate) fn health(&self) -> Health {
        let (_, queued_messages, queued_bytes) = self.outbox.status();
        self.link.health().with_queued_messages(queued_messages).with_queued_bytes(queued_bytes)
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
