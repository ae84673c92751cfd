//! The connection for queries, kept open by a task of its own.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_postgres::{
    Client, Row,
    types::{ToSql, Type},
};
use trunkline_backend::{
    Backoff,
    connection::{CurrentConnection, next_live},
};

use crate::{
    config::Config,
    connect::{PgConnection, Pulse},
    error::Failure,
    shared::Shared,
};

/// Nothing, by a name with which an administrator finds the connection.
const PING: &str = "/* trunkline: querying */";

/// Runs queries on the current connection.
#[derive(Debug)]
pub(crate) struct QueryHandle {
    current: CurrentConnection<SharedClient>,
    limit: Duration,
    pub(crate) pulse: Arc<Pulse>,
}

/// A client that several queries use at once.
#[derive(Debug)]
struct SharedClient {
    client: Client,
    /// A table is gone.
    lacks_table: Notify,
}

/// Parameters of a statement, with their types, so that it need not be prepared.
pub(crate) type Values<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl QueryHandle {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { current: CurrentConnection::default(), limit, pulse: Arc::default() }
    }

    /// Runs one statement, waiting for the connection if need be, and returns its rows. Nothing is repeated.
    pub(crate) async fn run(&self, statement: &str, values: Values<'_>) -> Result<Vec<Row>, Failure> {
        let mut current = self.current.subscribe();
        let found = timeout(self.limit, next_live(&mut current, |shared: &SharedClient| shared.client.is_closed()));
        let shared = found.await.ok().flatten().ok_or_else(|| Failure::Lost("the server is away".into()))?;
        // If the server is silent, the connection is given up, and this ends.
        let rows = shared.client.query_typed(statement, values).await.map_err(Failure::from);
        if rows.as_ref().is_err_and(Failure::lacks_table) {
            shared.lacks_table.notify_one();
        }
        rows
    }

    /// Lets queries use the connection until it ends or hangs.
    async fn share(&self, connection: PgConnection, config: &Config) {
        let PgConnection { client, mut driver } = connection;
        let shared = Arc::new(SharedClient { client, lacks_table: Notify::new() });
        self.current.send_replace(Some(Arc::clone(&shared)));
        tokio::select! {
            reason = driver.ended() => tracing::debug!(reason, "lost the connection for queries"),
            reason = self.pulse.keep_alive(&shared.client, PING, config) => {
                tracing::debug!(%reason, "gave up the connection for queries");
            }
            () = shared.lacks_table.notified() => tracing::debug!("a table is gone"),
        }
        self.current.send_replace(None);
    }
}

/// Keeps the connection for queries open until the transport is closed.
pub(crate) async fn keep_open(shared: Arc<Shared>, first: PgConnection) {
    shared.closing.run_until_cancelled(share_each(&shared, first)).await;
}

async fn share_each(shared: &Shared, first: PgConnection) {
    let mut connection = Ok(first);
    let mut backoff = Backoff::default();
    loop {
        match connection {
            Ok(connection) => {
                shared.queries.share(connection, &shared.config).await;
                backoff.reset();
            }
            Err(error) => tracing::debug!(%error, "cannot query yet"),
        }
        sleep(backoff.next_pause()).await;
        connection = shared.open(&shared.queries.pulse).await;
    }
}
