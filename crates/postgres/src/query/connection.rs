//! The connection for queries, kept open by a task of its own.

use std::{future::Future, ops::Deref, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_postgres::Client;
use trunkline_backend::{
    Backoff,
    connection::{CurrentConnection, next_live},
};

use crate::{connect::PgConnection, error::Failure, shared::Shared};

/// Runs queries on the current connection.
#[derive(Clone, Debug)]
pub(crate) struct QueryHandle {
    current: watch::Receiver<Option<Arc<SharedClient>>>,
    limit: Duration,
}

/// A client that several queries use at once.
#[derive(Debug)]
pub(crate) struct SharedClient {
    client: Client,
    /// A query has waited for too long.
    broken: Notify,
}

impl Deref for SharedClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

impl QueryHandle {
    /// Runs one query, waiting for the connection if need be. Nothing is repeated.
    pub(crate) async fn run<T, Q>(&self, query: impl FnOnce(Arc<SharedClient>) -> Q) -> Result<T, Failure>
    where
        Q: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let client = self.client().await?;
        match timeout(self.limit, query(Arc::clone(&client))).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                // Whatever came after it on this connection would wait for it.
                client.broken.notify_one();
                Err(Failure::no_answer(self.limit))
            }
        }
    }

    async fn client(&self) -> Result<Arc<SharedClient>, Failure> {
        let mut current = self.current.clone();
        let found = timeout(self.limit, next_live(&mut current, |client: &SharedClient| client.is_closed())).await;
        found.ok().flatten().ok_or_else(|| Failure::Lost("the server is away".into()))
    }
}

/// The task that keeps the connection open.
#[derive(Debug)]
pub(crate) struct QueryConnectionTask {
    shared: Arc<Shared>,
    current: CurrentConnection<SharedClient>,
}

impl QueryConnectionTask {
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, QueryHandle) {
        let (sender, current) = watch::channel(None);
        let queries = QueryHandle { current, limit: shared.config.response_timeout };
        (Self { shared, current: sender }, queries)
    }

    /// Runs until the transport is closed.
    pub(crate) async fn run(self, first: PgConnection) {
        let closing = self.shared.closing.clone();
        closing.run_until_cancelled(self.keep_open(first)).await;
    }

    async fn keep_open(&self, first: PgConnection) {
        let mut connection = Ok(first);
        let mut backoff = Backoff::default();
        loop {
            match connection {
                Ok(connection) => {
                    self.share(connection).await;
                    backoff.reset();
                }
                Err(error) => tracing::debug!(%error, "cannot query yet"),
            }
            sleep(backoff.next_pause()).await;
            connection = self.shared.open().await;
        }
    }

    /// Lets queries use the connection until it ends or hangs.
    async fn share(&self, mut connection: PgConnection) {
        let limit = self.shared.config.response_timeout.as_millis();
        let setup = format!("SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}");
        if let Err(failure) = connection.execute(&setup).await {
            tracing::debug!(reason = %failure, "cannot query yet");
            return;
        }
        let PgConnection { client, mut driver } = connection;
        let client = Arc::new(SharedClient { client, broken: Notify::new() });
        self.current.send_replace(Some(Arc::clone(&client)));
        tokio::select! {
            reason = driver.ended() => tracing::debug!(reason, "lost the connection for queries"),
            () = client.broken.notified() => tracing::debug!("gave up the connection for queries"),
        }
        self.current.send_replace(None);
    }
}
