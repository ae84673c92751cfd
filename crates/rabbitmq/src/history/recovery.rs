//! Sessions, and replay of what they missed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use lapin::{message::Delivery, options::BasicAckOptions};
use tokio::time::timeout;
use trunkline_backend::{
    batch::Batch,
    batched::{BatchConnection as _, NamespaceState, TransportState, missed_in},
    connection::next_live,
    repeats::{Deduplicator, NumberVerdict},
};
use trunkline_core::{
    Error, ErrorKind, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::session,
    transport::{History, MissedBroadcast, RestoredSession},
};

use super::{PREFETCH, Start, position::Position, read, records::Record, sequence, session_key};
use crate::{broker::RabbitMq, connection::Connection};

/// How many deliveries are acknowledged together.
const ACKNOWLEDGE_EVERY: u64 = 64;

/// The history of a prefix.
#[derive(Debug)]
pub(crate) struct Recovery {
    state: Arc<TransportState<RabbitMq>>,
    session_ttl: Duration,
}

#[async_trait]
impl History for Recovery {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let id = session.id.clone();
        let expires = now().saturating_add(self.session_ttl.as_millis().try_into().unwrap_or(u64::MAX));
        let record = Record::session(id.as_str(), expires, session::encode(session)?);
        self.store(&*self.connection().await?, &*self.state.namespace_of(node)?, &record).await
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        let scan = self.scan(node, id.as_str(), Position::parse(since)?).await?;
        let Some(session) = scan.session.as_ref().filter(|(expires, _)| now() < *expires) else { return Ok(None) };
        let session = session::decode(id, &session.1)?;
        let missed = scan.missed(node, &session.rooms_with_own())?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.scan(node, "", Position::parse(since)?).await?.missed(node, rooms)
    }

    /// Reads the first batch that is there, for the time at which it was published.
    async fn reach(&self, _: &NodeKey) -> Result<Option<Duration>> {
        let connection = self.connection().await?;
        let opening = read(&connection, &self.state.broker.config.prefix, Start::At(0), 1);
        let opened = connection.outcome(opening).await;
        let (channel, mut consumer) = opened.map_err(|error| failed("be read").with_source(error))?;
        // If it keeps nothing, nothing comes.
        let first = timeout(self.answer_timeout(), consumer.next()).await.ok().flatten();
        let _ = connection.outcome(channel.close(200, "bye".into())).await;
        let first = first.transpose().map_err(|error| failed("be read").with_source(error))?;
        let published = first.and_then(|first| *first.properties.timestamp());
        let published = published.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds));
        Ok(published.map(|published| published.elapsed().unwrap_or_default()))
    }
}

impl Recovery {
    pub(crate) fn new(state: Arc<TransportState<RabbitMq>>, session_ttl: Duration) -> Self {
        Self { state, session_ttl }
    }

    fn answer_timeout(&self) -> Duration {
        self.state.broker.config.connect_timeout
    }

    /// The connection in use. After a loss the next one is waited for, as long as connecting may take.
    async fn connection(&self) -> Result<Arc<Connection>> {
        let mut connections = self.state.outbound.subscribe();
        let connection = timeout(self.answer_timeout(), next_live(&mut connections, Connection::has_ended)).await;
        let away = || Error::new(ErrorKind::Disconnected, "the history cannot be reached");
        connection.ok().flatten().ok_or_else(away)
    }

    /// Returns when the broker has stored the record.
    async fn store(
        &self,
        connection: &Connection,
        namespace: &NamespaceState<RabbitMq>,
        record: &Record,
    ) -> Result<()> {
        let bytes = record.batch(self.state.broker.settings.sender);
        match timeout(self.answer_timeout(), connection.store_record(session_key(namespace), bytes)).await {
            Ok(stored) => stored,
            Err(_) => Err(failed("store a session in time")),
        }
    }

    /// Reads what was stored from `since` on up to a claim that is stored now, so that it ends.
    async fn scan(&self, node: &NodeKey, id: &str, since: Position) -> Result<Scan> {
        let (connection, namespace) = (self.connection().await?, self.state.namespace_of(node)?);
        let opening = read(&connection, &self.state.broker.config.prefix, Start::At(since.sequence), PREFETCH);
        let opened = connection.outcome(opening).await;
        let (channel, mut consumer) = opened.map_err(|error| failed("be read").with_source(error))?;
        let claimant = fastrand::u64(..);
        self.store(&connection, &namespace, &Record::claim(id, claimant)).await?;
        let mut scan = Scan::new(id, claimant, since);
        loop {
            let next = timeout(self.answer_timeout(), consumer.next()).await;
            let delivery = next.map_err(|_| failed("be read in time"))?.ok_or_else(|| failed("be read to its end"))?;
            let delivery = delivery.map_err(|error| failed("be read").with_source(error))?;
            let tag = delivery.delivery_tag;
            if scan.take(delivery, &namespace) {
                break;
            }
            if tag % ACKNOWLEDGE_EVERY == 0 {
                let acknowledged = channel.basic_ack(tag, BasicAckOptions { multiple: true });
                let acknowledged = connection.outcome(acknowledged).await;
                acknowledged.map_err(|error| failed("be read").with_source(error))?;
            }
        }
        // If it fails, it goes with the connection.
        let _ = connection.outcome(channel.close(200, "bye".into())).await;
        Ok(scan)
    }
}

/// What was found of a session, and what was broadcast meanwhile.
struct Scan {
    id: Bytes,
    claimant: u64,
    since: Position,
    /// Whether everything from `since` on is there.
    is_whole: bool,
    is_first: bool,
    session: Option<(u64, Bytes)>,
    batches: Vec<(u64, Batch)>,
}

impl Scan {
    fn new(id: &str, claimant: u64, since: Position) -> Self {
        let id = Bytes::copy_from_slice(id.as_bytes());
        Self { id, claimant, since, is_whole: false, is_first: true, session: None, batches: Vec::new() }
    }

    /// Returns whether this was the end.
    fn take(&mut self, delivery: Delivery, namespace: &NamespaceState<RabbitMq>) -> bool {
        let Some(sequence) = sequence(&delivery) else { return false };
        let key = delivery.routing_key;
        let Ok(batch) = Batch::parse(delivery.data.into()) else { return false };
        if sequence == self.since.sequence {
            self.is_whole = self.is_first && batch.sender().to_string() == self.since.sender;
        }
        self.is_first &= sequence < self.since.sequence;
        if key == namespace.log && sequence >= self.since.sequence {
            self.batches.push((sequence, batch));
        } else if key == session_key(namespace) {
            return Record::all(batch).any(|record| self.take_record(record));
        }
        false
    }

    fn take_record(&mut self, record: Record) -> bool {
        match record {
            Record::Session { id, expires, session } if id == self.id => self.session = Some((expires, session)),
            Record::Claim { claimant, .. } if claimant == self.claimant => return true,
            Record::Claim { id, .. } if id == self.id => self.session = None,
            _ => {}
        }
        false
    }

    /// What a client in these rooms has missed.
    fn missed(self, node: &NodeKey, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        if !self.is_whole {
            let context = format!("what was stored after offset {} is not all there any more", self.since);
            return Err(Error::new(ErrorKind::HistoryLost, context));
        }
        let (mut missed, mut deduplicator) = (Vec::new(), Deduplicator::default());
        for (sequence, batch) in self.batches {
            if deduplicator.arrived(batch.sender(), batch.number()) != NumberVerdict::New {
                continue;
            }
            let offset = |remaining| {
                let position = Position::new(sequence, remaining, &batch);
                let is_after = sequence > self.since.sequence || position.remaining < self.since.remaining;
                is_after.then(|| position.offset())
            };
            missed.extend(missed_in(&batch, node, rooms, offset));
        }
        Ok(missed)
    }
}

/// Milliseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_millis().try_into().unwrap_or(u64::MAX)
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Broker, format!("the history could not {what}"))
}
