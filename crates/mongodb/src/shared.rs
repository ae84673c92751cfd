//! What the tasks of one transport share.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
pub(crate) use trunkline_backend::Direction;
use trunkline_backend::{LinkState, Outbox};
use trunkline_core::{Error, ErrorKind, Result, model::Delivery, transport::Health};

use crate::{collection::Kind, config::Config, seats::Seats, server::Server, wire::Document};

/// How long what is queued may still be sent once the transport is closed.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    /// What the collection was when the transport was made. It is made that again if it has to be created anew.
    pub(crate) kind: Kind,
    /// What is refused takes no number and stays out.
    pub(crate) outbox: Outbox<Result<Document>>,
    pub(crate) seats: Seats,
    /// `None` once closed: some of the driver's tasks end when nobody holds its client any more.
    server: Mutex<Option<Server>>,
    link: LinkState,
    closing: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(config: Config, server: Server, kind: Kind) -> Self {
        Self {
            server: Mutex::new(Some(server)),
            kind,
            outbox: Outbox::new(config.outbox),
            seats: Seats::default(),
            link: LinkState::default(),
            closing: watch::Sender::default(),
            config,
        }
    }

    /// The largest document that the collection takes.
    pub(crate) fn max_message_bytes(&self) -> usize {
        let fits = match self.kind {
            Kind::Capped { bytes } => usize::try_from(bytes).unwrap_or(usize::MAX),
            Kind::Expiring { .. } => usize::MAX,
        };
        self.config.max_message_bytes.min(fits)
    }

    // --- the link ---

    /// A direction is there (again). The nodes are told once both are.
    pub(crate) fn restored(&self, side: Direction) {
        self.link.restored(side, |is_return| {
            self.outbox.set_connected(true);
            if is_return {
                self.seats.each(|taken| taken.metrics.reconnects.increment());
                self.seats.tell(&Delivery::Connected);
            }
        });
    }

    /// A direction is gone. The nodes are told unless the other one was gone already.
    pub(crate) fn lost(&self, side: Direction, reason: &str) {
        self.link.lost(side, |was_up| {
            self.outbox.set_connected(false);
            if was_up {
                tracing::debug!(reason, "lost the connection for {side}");
                self.seats.tell(&Delivery::Lost(format!("{side}: {reason}")));
            }
        });
    }

    /// Waits until the change stream is open.
    pub(crate) async fn until_listening(&self) {
        self.link.until_listening().await;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    pub(crate) fn health(&self) -> Health {
        let (_, queued_messages, queued_bytes) = self.outbox.status();
        let (connected, reconnects) = (self.link.is_up(), self.link.reconnects());
        Health { connected, queued_messages, queued_bytes, reconnects }
    }

    /// The driver, to be held no longer than a task or an operation lives.
    pub(crate) fn server(&self) -> Result<Server> {
        self.lock_server().clone().ok_or_else(closed)
    }

    fn lock_server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // --- closing ---

    /// Takes the driver away.
    pub(crate) fn give_up_server(&self) -> Option<Server> {
        self.lock_server().take()
    }

    /// Tells all tasks to end; what is queued may still be sent.
    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
        self.outbox.close();
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Waits until the transport is closed.
    pub(crate) async fn closing(&self) {
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}
