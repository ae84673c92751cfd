//! Keeps a connection: opens it, hands it to readers and the writer, and opens another one when it ends or its server says that it will.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use trunkline_backend::Backoff;
use trunkline_core::{Error, ErrorKind, Result};

use crate::{connection::Connection, reader::HANDOVER, shared::Shared};

/// Servers that are remembered, given and learned ones.
const MAX_SERVERS: usize = 256;

/// How long saying farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// The task that keeps a connection.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    servers: Vec<String>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let servers = shared.connector.config.servers.clone();
        Self { shared, servers }
    }

    /// Tries each server once.
    ///
    /// # Errors
    /// What the last one said.
    pub(crate) async fn connect(&mut self) -> Result<Arc<Connection>> {
        self.connect_except(None).await
    }

    async fn connect_except(&mut self, except: Option<&str>) -> Result<Arc<Connection>> {
        let mut refusal = Error::new(ErrorKind::Disconnected, "there is no other server");
        for server in self.shuffled(except) {
            match self.shared.connector.open(&server, &self.shared.tasks).await {
                Ok(connection) => {
                    self.learn(&connection);
                    return Ok(connection);
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Nodes that lost the same server spread over the others.
    fn shuffled(&self, except: Option<&str>) -> Vec<String> {
        let mut servers: Vec<_> =
            self.servers.iter().filter(|server| Some(server.as_str()) != except).cloned().collect();
        fastrand::shuffle(&mut servers);
        servers
    }

    /// Remembers the servers of the cluster.
    fn learn(&mut self, connection: &Connection) {
        for server in connection.client.server_info().connect_urls {
            if self.servers.len() < MAX_SERVERS && !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
    }

    /// Runs until the transport is closed, beginning with a connection that is in use already.
    pub(crate) async fn run(mut self, first: Arc<Connection>) {
        let closing = self.shared.closing.clone();
        let mut current = first;
        tokio::select! {
            () = self.keep(&mut current) => {}
            () = closing.cancelled() => {}
        }
        self.release(&current).await;
    }

    async fn keep(&mut self, current: &mut Arc<Connection>) {
        loop {
            let next = match self.successor(current).await {
                Some(successor) => successor,
                None => {
                    self.shared.set_lost();
                    self.reconnect().await
                }
            };
            let previous = std::mem::replace(current, next);
            self.install(current).await;
            self.retire(previous);
        }
    }

    /// Readers first: whoever answers what is sent must find them.
    pub(crate) async fn install(&self, connection: &Arc<Connection>) {
        self.shared.incoming.send_replace(Some(Arc::clone(connection)));
        for place in self.shared.places() {
            // Fails only if the node has left.
            let _ = place.rooms.follow().await;
        }
        self.shared.set_connected(connection);
        tracing::info!(server = connection.server, "connected to NATS");
    }

    /// Returns when the connection has ended; earlier, with another one, if its server is about to shut down.
    async fn successor(&mut self, connection: &Arc<Connection>) -> Option<Arc<Connection>> {
        tokio::select! {
            () = connection.ended() => None,
            successor = self.leave_lame_duck(connection) => Some(successor),
        }
    }

    async fn leave_lame_duck(&mut self, connection: &Connection) -> Arc<Connection> {
        connection.life.lame_duck().await;
        tracing::info!(server = connection.server, "the NATS server is about to shut down");
        let mut backoff = Backoff::default();
        loop {
            match self.connect_except(Some(&connection.server)).await {
                Ok(successor) => return successor,
                Err(_) => sleep(backoff.next_pause()).await,
            }
        }
    }

    /// Lets the old connection go when readers have taken everything from it.
    fn retire(&self, connection: Arc<Connection>) {
        let closing = self.shared.closing.clone();
        self.shared.tasks.spawn(async move {
            let _ = timeout(HANDOVER * 4, closing.cancelled()).await;
            connection.close();
        });
    }

    async fn reconnect(&mut self) -> Arc<Connection> {
        let mut backoff = Backoff::default();
        loop {
            sleep(backoff.next_pause()).await;
            match self.connect().await {
                Ok(connection) => return connection,
                Err(error) => tracing::debug!(%error, attempts = backoff.attempts(), "reconnecting to NATS failed"),
            }
        }
    }

    /// The writer has its last words first.
    async fn release(&self, connection: &Arc<Connection>) {
        self.shared.writer_ended.cancelled().await;
        self.shared.set_lost();
        let _ = timeout(FAREWELL, connection.say_farewell()).await;
        connection.close();
    }
}
