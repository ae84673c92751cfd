//! State that the tasks and callers of one transport share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_backend::{Direction, JoinedNodes, LinkState, Outbox};
use trunkline_core::{Error, ErrorKind, Result, model::Delivery, transport::Health};

use crate::{collection::CollectionKind, config::Config, joined::JoinedNode, server::Server, wire::QueuedMessage};

/// How long queued messages may still be inserted once the transport is closed.
pub(crate) const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct TransportCore {
    pub(crate) config: Config,
    /// The kind of the collection when the transport was made; a dropped one is created again as that.
    pub(crate) kind: CollectionKind,
    pub(crate) outbox: Outbox<QueuedMessage>,
    pub(crate) nodes: JoinedNodes<JoinedNode>,
    pub(crate) tasks: TaskTracker,
    /// Cancelled by [`TransportCore::close`].
    pub(crate) closing: CancellationToken,
    /// `None` once closed: some tasks of the driver end only when all handles of its client are dropped.
    server: Mutex<Option<Server>>,
    /// Held while the application is asked for credentials.
    renewing: tokio::sync::Mutex<()>,
    link: LinkState,
}

impl TransportCore {
    pub(crate) fn new(config: Config, server: Server, kind: CollectionKind) -> Self {
        Self {
            outbox: Outbox::new(config.outbox),
            config,
            kind,
            nodes: JoinedNodes::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            server: Mutex::new(Some(server)),
            renewing: tokio::sync::Mutex::default(),
            link: LinkState::of("MongoDB"),
        }
    }

    /// The largest document that can be inserted.
    pub(crate) fn max_message_bytes(&self) -> usize {
        let collection = match self.kind {
            CollectionKind::Capped { bytes } => usize::try_from(bytes).unwrap_or(usize::MAX),
            CollectionKind::Expiring { .. } => usize::MAX,
        };
        self.config.max_message_bytes.min(collection)
    }

    /// Marks a direction as connected. Nodes get [`Delivery::Connected`] when both are connected again.
    pub(crate) fn restored(&self, direction: Direction) {
        self.link.restored(direction, |is_return| {
            self.outbox.set_connected(true);
            if is_return {
                self.nodes.all().iter().for_each(|node| node.metrics.reconnects.increment());
                self.push_to_all(&Delivery::Connected);
            }
        });
    }

    /// Marks a direction as lost. Nodes get [`Delivery::Lost`] unless the other one was lost before.
    pub(crate) fn lost(&self, direction: Direction, reason: &str) {
        self.link.lost(direction, reason, |was_up, reason| {
            self.outbox.set_connected(false);
            if was_up {
                self.push_to_all(&Delivery::Lost(reason.to_owned()));
            }
        });
    }

    /// Pushes a delivery into every inbox.
    pub(crate) fn push_to_all(&self, delivery: &Delivery) {
        for node in self.nodes.all() {
            node.inbox.push([delivery.clone()]);
        }
    }

    /// Waits until the change stream is open.
    pub(crate) async fn until_listening(&self) {
        self.link.until_listening().await;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    pub(crate) fn health(&self) -> Health {
        self.outbox.add_to(self.link.health())
    }

    /// The driver's handles, not to be held longer than an operation takes.
    pub(crate) fn server(&self) -> Result<Server> {
        self.lock_server().clone().ok_or_else(closed)
    }

    /// Replaces handles with which something has failed, if the application has other credentials now.
    ///
    /// # Errors
    /// If the application does not tell its credentials: they stay as they are.
    pub(crate) async fn renew(&self, server: &mut Server) -> Result<()> {
        if self.config.provider.is_none() {
            return Ok(());
        }
        let _renewing = self.renewing.lock().await;
        let Ok(current) = self.server() else { return Ok(()) };
        server.clone_from(&current);
        if let Some(renewed) = current.renewed(&self.config).await? {
            if let Some(current) = self.lock_server().as_mut() {
                current.clone_from(&renewed);
            }
            *server = renewed;
        }
        Ok(())
    }

    /// Tells all tasks to end and lets no more nodes join; queued messages may still be sent.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.link.silence();
        self.outbox.close();
        self.tasks.close();
        self.nodes.close();
    }

    /// Waits until all tasks have ended, then ends the inboxes and the driver.
    pub(crate) async fn closed(&self) {
        self.tasks.wait().await;
        for node in self.nodes.close() {
            self.nodes.remove(&node.key);
        }
        let server = self.lock_server().take();
        if let Some(server) = server {
            server.close().await;
        }
    }

    fn lock_server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}
