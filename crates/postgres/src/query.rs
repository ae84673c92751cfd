//! The connection for everything that is asked: rows, sessions, replay, cleaning up.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_postgres::Client;
use trunkline_backend::Backoff;

use crate::{error::Failure, shared::Shared, wire::Session};

/// Runs queries on a connection that a task of its own keeps open.
#[derive(Clone, Debug)]
pub(crate) struct Queries {
    lent: watch::Receiver<Option<Arc<Lent>>>,
    patience: Duration,
}

/// A connection that several may use at once.
#[derive(Debug)]
pub(crate) struct Lent {
    pub(crate) client: Client,
    /// Somebody has waited for too long.
    broken: Notify,
}

impl Queries {
    /// Runs one query, waiting for the connection if need be. Nothing is repeated.
    pub(crate) async fn run<T, Q>(&self, query: impl FnOnce(Arc<Lent>) -> Q) -> Result<T, Failure>
    where
        Q: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let lent = self.lent().await?;
        match timeout(self.patience, query(Arc::clone(&lent))).await {
            Ok(result) => Ok(result?),
            Err(_) => {
                // Whatever came after it on this connection would wait for it.
                lent.broken.notify_one();
                Err(Failure::Lost(format!("no answer in {:?}", self.patience)))
            }
        }
    }

    async fn lent(&self) -> Result<Arc<Lent>, Failure> {
        let mut lent = self.lent.clone();
        let away = || Failure::Lost("the server is away".into());
        let found = timeout(self.patience, lent.wait_for(Option::is_some)).await;
        found.map_err(|_| away())?.map_err(|_| away())?.clone().ok_or_else(away)
    }
}

/// Keeps the connection open.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    lent: watch::Sender<Option<Arc<Lent>>>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>) -> (Self, Queries) {
        let (sender, lent) = watch::channel(None);
        let queries = Queries { lent, patience: shared.config.query_timeout };
        (Self { shared, lent: sender }, queries)
    }

    /// Runs until the transport is closed.
    pub(crate) async fn run(self, first: Session) {
        tokio::select! {
            () = self.keep(first) => {}
            () = self.shared.closing() => {}
        }
    }

    async fn keep(&self, first: Session) {
        let mut session = Some(first);
        let mut backoff = Backoff::default();
        loop {
            if let Some(session) = session.take() {
                self.lend(session).await;
                backoff.reset();
            }
            sleep(backoff.next_pause()).await;
            session = self.reconnect().await;
        }
    }

    /// Lets others use the connection until it ends or hangs.
    async fn lend(&self, mut session: Session) {
        let limit = self.shared.config.query_timeout.as_millis();
        let setup = format!("SET statement_timeout = {limit}; SET idle_in_transaction_session_timeout = {limit}");
        let Session { client, wire } = &mut session;
        if let Err(failure) = wire.drive(client.batch_execute(&setup)).await {
            tracing::debug!(reason = %failure, "cannot query yet");
            return;
        }
        let Session { client, mut wire } = session;
        let lent = Arc::new(Lent { client, broken: Notify::new() });
        self.lent.send_replace(Some(Arc::clone(&lent)));
        tokio::select! {
            reason = wire.ended() => tracing::debug!(reason, "lost the connection for queries"),
            () = lent.broken.notified() => tracing::debug!("gave up the connection for queries"),
        }
        self.lent.send_replace(None);
    }

    async fn reconnect(&self) -> Option<Session> {
        match self.shared.open().await {
            Ok(session) => Some(session),
            Err(error) => {
                tracing::debug!(%error, "cannot query yet");
                None
            }
        }
    }
}
