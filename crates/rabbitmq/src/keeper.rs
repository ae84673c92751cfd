//! Keeps a connection: opens it, hands it to readers and the writer, and opens another one when it ends.

use std::sync::Arc;

use tokio::time::sleep;
use trunkline_backend::Backoff;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{connection::Connection, shared::Shared};

/// The task that keeps a connection.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Tries each broker once.
    ///
    /// # Errors
    /// What the last one said.
    pub(crate) async fn connect(&self) -> Result<Arc<Connection>> {
        // Nodes that lost the same broker spread over the others.
        let mut servers = self.shared.connector.config.servers.clone();
        fastrand::shuffle(&mut servers);
        let mut refusal = Error::new(ErrorKind::Config, "no broker is given");
        for server in servers {
            match self.shared.connector.open(&server, &self.shared.tasks).await {
                Ok(connection) => return Ok(connection),
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Runs until the transport is closed, beginning with a connection that is in use already.
    pub(crate) async fn run(self, first: Arc<Connection>) {
        let closing = self.shared.closing.clone();
        let mut current = first;
        tokio::select! {
            () = self.keep(&mut current) => {}
            () = closing.cancelled() => {}
        }
        self.release(&current).await;
    }

    async fn keep(&self, current: &mut Arc<Connection>) {
        let mut backoff = Backoff::default();
        loop {
            self.watch(current).await;
            current.cut();
            self.shared.set_lost();
            *current = self.reconnect(&mut backoff).await;
            self.install(current).await;
            if !current.has_ended() {
                backoff.reset();
            }
        }
    }

    /// Readers first: whoever answers what is sent must find them.
    pub(crate) async fn install(&self, connection: &Arc<Connection>) {
        self.shared.incoming.send_replace(Some(Arc::clone(connection)));
        for place in self.shared.places() {
            // Fails only if the node has left.
            let _ = place.rooms.follow().await;
        }
        if connection.has_ended() {
            return;
        }
        self.shared.set_connected(connection);
        tracing::info!(broker = connection.server, "connected to RabbitMQ");
    }

    /// Returns when the connection has ended. Until then, says when the broker takes nothing.
    async fn watch(&self, connection: &Connection) {
        let mut alarms = connection.alarms();
        loop {
            tokio::select! {
                () = connection.ended() => return,
                Ok(()) = alarms.changed() => self.note_alarm(alarms.borrow_and_update().as_deref()),
            }
        }
    }

    /// While there is an alarm nothing is confirmed, so the queue fills, up to its limit.
    fn note_alarm(&self, alarm: Option<&str>) {
        let Some(reason) = alarm else { return tracing::info!("RabbitMQ takes messages again") };
        tracing::warn!(reason, "RabbitMQ takes no messages at the moment");
        self.shared.places().iter().for_each(|place| place.metrics.blocked.increment());
    }

    async fn reconnect(&self, backoff: &mut Backoff) -> Arc<Connection> {
        loop {
            sleep(backoff.next_pause()).await;
            match self.connect().await {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!(%error, attempts = backoff.attempts(), "reconnecting to RabbitMQ failed"),
            }
        }
    }

    /// The writer has its last words first.
    async fn release(&self, connection: &Arc<Connection>) {
        self.shared.writer_ended.cancelled().await;
        connection.close().await;
        self.shared.set_lost();
    }
}
