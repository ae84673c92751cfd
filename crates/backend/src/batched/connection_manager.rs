//! Keeps a connection: opens it, hands it to readers and writers, and opens another one when it ends or its server says
//! that it will.

use std::sync::Arc;

use tokio::time::{sleep, timeout};
use trunkline_core::{Error, ErrorKind, Result};

use super::{
    BatchBroker, BatchConnection as _,
    reader::HANDOVER,
    state::{Obstacle, TransportState},
};
use crate::Backoff;

/// Servers that are remembered, given and learned ones.
const MAX_SERVERS: usize = 256;

/// The task that keeps a connection.
#[derive(Debug)]
pub(super) struct ConnectionManager<B: BatchBroker> {
    state: Arc<TransportState<B>>,
    servers: Vec<String>,
    opened: u64,
}

impl<B: BatchBroker> ConnectionManager<B> {
    pub(super) fn new(state: Arc<TransportState<B>>) -> Self {
        let servers = state.broker.settings().servers.clone();
        Self { state, servers, opened: 0 }
    }

    /// Tries each server once.
    ///
    /// # Errors
    /// That of the last one.
    pub(super) async fn connect(&mut self) -> Result<Arc<B::Connection>> {
        self.connect_except(None).await
    }

    async fn connect_except(&mut self, except: Option<&str>) -> Result<Arc<B::Connection>> {
        let mut refusal = Error::new(ErrorKind::Disconnected, "there is no other server");
        let mut servers: Vec<_> =
            self.servers.iter().filter(|server| Some(server.as_str()) != except).cloned().collect();
        // Nodes that lost the same server spread over the others.
        fastrand::shuffle(&mut servers);
        for server in servers {
            match self.state.broker.open(&server, self.opened + 1, &self.state.tasks).await {
                Ok(connection) => {
                    self.opened += 1;
                    self.learn(&connection);
                    return Ok(Arc::new(connection));
                }
                Err(error) => refusal = error,
            }
        }
        Err(refusal)
    }

    /// Remembers the servers of the cluster.
    fn learn(&mut self, connection: &B::Connection) {
        for server in connection.cluster_servers() {
            if self.servers.len() < MAX_SERVERS && !self.servers.contains(&server) {
                self.servers.push(server);
            }
        }
    }

    /// Runs until the transport is closed, beginning with a connection that is in use already.
    pub(super) async fn run(mut self, first: Arc<B::Connection>) {
        let closing = self.state.closing.clone();
        let mut current = first;
        tokio::select! {
            () = self.keep(&mut current) => {}
            () = closing.cancelled() => {}
        }
        // What is queued is written first.
        self.state.writer_ended.cancelled().await;
        self.state.set_disconnected("the transport was closed");
        current.close().await;
    }

    async fn keep(&mut self, current: &mut Arc<B::Connection>) {
        let mut backoff = Backoff::default();
        loop {
            let replaced = match self.successor(current).await {
                Some(successor) => Some(std::mem::replace(current, successor)),
                None => {
                    current.abort("it has ended");
                    self.state.set_disconnected(&current.end_reason());
                    *current = self.reconnect(&mut backoff).await;
                    None
                }
            };
            self.install(current).await;
            replaced.into_iter().for_each(|connection| self.retire(connection));
            if !current.has_ended() {
                backoff.reset();
            }
        }
    }

    /// Hands the connection to readers, then to writers: who answers what is published must find the readers.
    pub(super) async fn install(&self, connection: &Arc<B::Connection>) {
        self.state.inbound.send_replace(Some(Arc::clone(connection)));
        for node in self.state.nodes.all() {
            // Fails only if the node has left.
            let _ = node.rooms.follow().await;
        }
        if !connection.has_ended() {
            self.state.set_connected(connection, self.opened);
            tracing::debug!(server = connection.server(), "connected to {}", B::NAME);
        }
    }

    /// Returns when the connection has ended; earlier, with another one, if its server is about to shut down.
    async fn successor(&mut self, connection: &Arc<B::Connection>) -> Option<Arc<B::Connection>> {
        let state = Arc::clone(&self.state);
        tokio::select! {
            () = connection.ended() => None,
            () = follow_alarm(&state, connection) => None,
            successor = self.leave_before_shutdown(connection) => Some(successor),
        }
    }

    async fn leave_before_shutdown(&mut self, connection: &B::Connection) -> Arc<B::Connection> {
        connection.shutdown_announced().await;
        tracing::info!(server = connection.server(), "the {} server is about to shut down", B::NAME);
        let mut backoff = Backoff::default();
        loop {
            match self.connect_except(Some(connection.server())).await {
                Ok(successor) => return successor,
                Err(_) => sleep(backoff.next_pause()).await,
            }
        }
    }

    /// Ends a connection when readers have taken everything from it.
    fn retire(&self, connection: Arc<B::Connection>) {
        let closing = self.state.closing.clone();
        self.state.tasks.spawn(async move {
            let _ = timeout(HANDOVER * 4, closing.cancelled()).await;
            connection.abort("another one is used");
        });
    }

    async fn reconnect(&mut self, backoff: &mut Backoff) -> Arc<B::Connection> {
        loop {
            sleep(backoff.next_pause()).await;
            match self.connect().await {
                Ok(connection) => return connection,
                Err(error) => {
                    self.state.set_disconnected(&error.to_string());
                    tracing::debug!(%error, attempts = backoff.attempts(), "reconnecting to {} failed", B::NAME);
                }
            }
        }
    }
}

/// Takes a broker that takes nothing for one that is away. Never returns.
async fn follow_alarm<B: BatchBroker>(state: &TransportState<B>, connection: &B::Connection) {
    let mut blocked = connection.blocked();
    loop {
        state.obstruct(Obstacle::Alarm, blocked.borrow_and_update().clone());
        if blocked.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}
