//! The task that publishes.

use std::{future::Future, sync::Arc};

use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep, timeout};
use tokio_postgres::CancelToken;
use trunkline_backend::Backoff;
use trunkline_core::{Result, model::Delivery};

use crate::{
    error::Failure,
    item::Item,
    publish::Statements,
    shared::{Direction, LAST_WORDS, Shared},
    wire::Session,
};

/// Bytes that go into one transaction, unless a single message has more.
const MAX_BATCH_BYTES: usize = 1 << 20;

/// A connection that is ready to publish.
#[derive(Debug)]
pub(crate) struct Press {
    session: Session,
    statements: Statements,
}

impl Press {
    pub(crate) async fn new(mut session: Session, shared: &Shared) -> Result<Self> {
        let prepared = Statements::prepare(&mut session, &shared.config, &shared.origin).await;
        let statements = prepared.map_err(|failure| failure.into_error("prepare the statements that publish"))?;
        Ok(Self { session, statements })
    }

    async fn publish(&mut self, batch: &[Item], shared: &Shared) -> Result<(), Failure> {
        let Self { session: Session { client, wire }, statements } = self;
        let work = wire.drive(statements.publish(client, batch));
        in_time(work, client.cancel_token(), shared).await
    }

    async fn probe(&mut self, shared: &Shared) -> Result<(), Failure> {
        let sent = Instant::now();
        let Self { session: Session { client, wire }, statements } = self;
        let work = wire.drive(statements.probe(client, &shared.probe_channel));
        in_time(work, client.cancel_token(), shared).await?;
        shared.probed.send_replace(Some(sent));
        Ok(())
    }
}

/// A statement that takes too long is cancelled, so that it is less likely to be carried out after it was repeated elsewhere.
async fn in_time<T>(
    work: impl Future<Output = Result<T, Failure>>,
    token: CancelToken,
    shared: &Shared,
) -> Result<T, Failure> {
    let limit = shared.config.query_timeout;
    match timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => {
            shared.cancel(token).await;
            Err(Failure::Lost(format!("no answer in {limit:?}")))
        }
    }
}

/// Publishes what is queued, batch by batch, over one connection after the other.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    /// What was taken from the queue and is not known to be published.
    batch: Vec<Item>,
    /// So many items of the batch go one by one, because one of them was refused.
    one_by_one: usize,
    backoff: Backoff,
}

/// Why a connection is no longer served.
enum End {
    /// The transport was closed, and all is said.
    Closed,
    Lost(String),
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, batch: Vec::new(), one_by_one: 0, backoff: Backoff::default() }
    }

    /// Runs until the transport is closed. The first connection has shown that it works.
    pub(crate) async fn run(mut self, first: Press) {
        let shared = Arc::clone(&self.shared);
        let last_words = async {
            shared.closing().await;
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = self.publish_until_closed(first) => {}
            () = last_words => {}
        }
    }

    async fn publish_until_closed(&mut self, first: Press) {
        let mut end = self.serve(first).await;
        while let End::Lost(reason) = end {
            self.shared.lost(Direction::Outbound, &reason);
            sleep(self.backoff.next_pause()).await;
            end = match self.reconnect().await {
                Some(press) => self.return_with(press).await,
                None => End::Lost("cannot connect".into()),
            };
        }
    }

    /// First repeats what was on its way, or at least proves that publishing works, then serves.
    async fn return_with(&mut self, mut press: Press) -> End {
        tokio::select! {
            reason = press.session.wire.ended() => return End::Lost(reason),
            () = self.shared.until_listening() => {}
        }
        let proof = if self.batch.is_empty() {
            press.probe(&self.shared).await.map_err(|failure| End::Lost(failure.to_string()))
        } else {
            self.publish(&mut press).await
        };
        if let Err(end) = proof {
            return end;
        }
        self.shared.restored(Direction::Outbound);
        self.serve(press).await
    }

    async fn reconnect(&self) -> Option<Press> {
        let opened = async { Press::new(self.shared.open().await?, &self.shared).await };
        match timeout(self.shared.config.query_timeout, opened).await {
            Ok(Ok(press)) => return Some(press),
            Ok(Err(error)) => tracing::debug!(%error, "cannot publish yet"),
            Err(_) => tracing::debug!("cannot publish yet: no answer"),
        }
        None
    }

    async fn serve(&mut self, mut press: Press) -> End {
        let mut probes = interval(self.shared.config.probe_interval);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let step = if self.batch.is_empty() {
                self.wait(&mut press, &mut probes).await
            } else {
                self.publish(&mut press).await
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Waits for something to publish.
    async fn wait(&mut self, press: &mut Press, probes: &mut Interval) -> Result<(), End> {
        let shared = &self.shared;
        let take = async {
            shared.until_listening().await;
            shared.outbox.take(&mut self.batch, MAX_BATCH_BYTES).await
        };
        tokio::select! {
            reason = press.session.wire.ended() => Err(End::Lost(reason)),
            taken = take => taken.map(|_| ()).ok_or(End::Closed),
            _ = probes.tick() => press.probe(shared).await.map_err(|failure| End::Lost(failure.to_string())),
        }
    }

    async fn publish(&mut self, press: &mut Press) -> Result<(), End> {
        let count = if self.one_by_one > 0 { 1 } else { self.batch.len() };
        match press.publish(&self.batch[..count], &self.shared).await {
            Ok(()) => self.done(count),
            Err(failure) if failure.may_pass() => return Err(End::Lost(failure.to_string())),
            Err(failure) if count == 1 => self.give_up(&failure),
            Err(_) => self.one_by_one = count,
        }
        self.backoff.reset();
        Ok(())
    }

    fn done(&mut self, count: usize) {
        let bytes = self.batch.drain(..count).map(|item| item.bytes).sum();
        self.one_by_one = self.one_by_one.saturating_sub(count);
        self.shared.outbox.release(bytes);
    }

    /// The server will never take the first item. With history its sender has not delivered it yet.
    fn give_up(&mut self, failure: &Failure) {
        let Some(item) = self.batch.first_mut() else { return };
        tracing::warn!(channel = &*item.channel, reason = %failure, "the server refused a message");
        if let Some(taken) = self.shared.seats.find(&item.channel, &item.from) {
            taken.metrics.publish_errors.increment();
            if let Some(message) = item.own.take() {
                taken.inbox.push([Delivery::Stored { message, offset: None }]);
            }
        }
        self.done(1);
    }
}
