//! What the tasks of one transport share.

use std::time::Duration;

use tokio::{sync::watch, time::Instant};
use tokio_postgres_rustls::MakeRustlsConnect;
pub(crate) use trunkline_backend::Direction;
use trunkline_backend::{LinkState, Outbox};
use trunkline_core::{NodeId, Result, model::Delivery, transport::Health};

use crate::{channel, config::Config, item::Item, seats::Seats, wire::Session};

/// How long what is queued may still be sent once the transport is closed.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Config,
    connector: Connector,
    /// Names this transport in the events table, for as long as it lives and however often it reconnects.
    pub(crate) origin: NodeId,
    /// Where this transport notifies itself.
    pub(crate) probe_channel: String,
    pub(crate) outbox: Outbox<Item>,
    pub(crate) seats: Seats,
    /// When the last probe that the server has taken was sent.
    pub(crate) probed: watch::Sender<Option<Instant>>,
    link: LinkState,
    closing: watch::Sender<bool>,
}

impl Shared {
    pub(crate) fn new(config: Config, connector: MakeRustlsConnect, origin: NodeId) -> Self {
        Self {
            connector: Connector(connector),
            probe_channel: channel::of_probe(origin.as_str()),
            origin,
            outbox: Outbox::new(config.outbox),
            seats: Seats::new(&config.channel_prefix),
            probed: watch::Sender::default(),
            link: LinkState::default(),
            closing: watch::Sender::default(),
            config,
        }
    }

    /// Opens one more connection.
    pub(crate) async fn open(&self) -> Result<Session> {
        self.config.server.open(&self.connector.0).await
    }

    /// Asks the server to give up what a connection is doing. Best effort: the connection is given up anyway.
    pub(crate) async fn cancel(&self, token: tokio_postgres::CancelToken) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let _ = tokio::time::timeout(PATIENCE, token.cancel_query(self.connector.0.clone())).await;
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

    /// Waits until peers can be heard. Whoever publishes earlier might miss the answers.
    pub(crate) async fn until_listening(&self) {
        self.link.until_listening().await;
    }

    pub(crate) fn health(&self) -> Health {
        let (_, queued_messages, queued_bytes) = self.outbox.status();
        let (connected, reconnects) = (self.link.is_up(), self.link.reconnects());
        Health { connected, queued_messages, queued_bytes, reconnects }
    }

    // --- closing ---

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

/// Certificates are nobody's business in `Debug`.
struct Connector(MakeRustlsConnect);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}
