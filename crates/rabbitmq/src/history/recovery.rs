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
    batch::{Batch, Deduplicator},
    connection::next_live,
};
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Offset, Payload, Result, Room, Session, SessionId,
    codec::{self, Body, session},
    transport::{History, MissedBroadcast, RestoredSession},
};

use super::{Start, position::Position, read, records::Record, sequence};
use crate::{connection::Connection, names::Keys, shared::Shared};

/// The history of a prefix.
#[derive(Debug)]
pub(crate) struct Recovery {
    shared: Arc<Shared>,
    session_ttl: Duration,
}

#[async_trait]
impl History for Recovery {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let id = session.id.clone();
        let expires = now().saturating_add(self.session_ttl.as_millis().try_into().unwrap_or(u64::MAX));
        let record = Record::session(id.as_str(), expires, session::encode(session)?);
        self.store(&*self.connection().await?, &self.shared.hall_of(node)?.keys, &record).await
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        let scan = self.scan(node, id.as_str(), Position::parse(since)?).await?;
        let Some(session) = scan.session.as_ref().filter(|(expires, _)| now() < *expires) else { return Ok(None) };
        let session = session::decode(id, &session.1)?;
        let missed = scan.missed(node, &session.rooms)?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.scan(node, "", Position::parse(since)?).await?.missed(node, rooms)
    }
}

impl Recovery {
    pub(crate) fn new(shared: Arc<Shared>, session_ttl: Duration) -> Self {
        Self { shared, session_ttl }
    }

    /// The connection in use. After a loss the next one is waited for, as long as connecting may take.
    async fn connection(&self) -> Result<Arc<Connection>> {
        let mut line = self.shared.outgoing.subscribe();
        let connection =
            timeout(self.shared.connector.config.connect_timeout, next_live(&mut line, Connection::has_ended)).await;
        let away = || Error::new(ErrorKind::Disconnected, "the history cannot be reached");
        connection.ok().flatten().ok_or_else(away)
    }

    /// Returns when the broker has stored the record.
    async fn store(&self, connection: &Connection, keys: &Keys, record: &Record) -> Result<()> {
        let frame = record.frame(self.shared.connector.sender);
        let stored = connection.publish(keys.session.clone(), frame, false);
        match timeout(self.shared.connector.config.connect_timeout, stored).await {
            Ok(Ok(confirmation)) if confirmation.is_ack() => Ok(()),
            Ok(Ok(_)) | Err(_) => Err(failed("store a session")),
            Ok(Err(error)) => Err(failed("store a session").with_source(error)),
        }
    }

    /// Reads what was stored from `since` on up to a claim that is stored now, so that it ends.
    async fn scan(&self, node: &NodeKey, id: &str, since: Position) -> Result<Scan> {
        let connector = &self.shared.connector;
        let (connection, hall) = (self.connection().await?, self.shared.hall_of(node)?);
        let opening = read(&connection, &connector.config.prefix, Start::At(since.sequence));
        let opened = connection.outcome(opening).await;
        let (channel, mut consumer) = opened.map_err(|error| failed("be read").with_source(error))?;
        let claimant = fastrand::u64(..);
        self.store(&connection, &hall.keys, &Record::claim(id, claimant)).await?;
        let mut scan = Scan::new(id, claimant, since);
        loop {
            let next = timeout(connector.config.connect_timeout, consumer.next()).await;
            let arrival = next.map_err(|_| failed("be read in time"))?.ok_or_else(|| failed("be read to its end"))?;
            let arrival = arrival.map_err(|error| failed("be read").with_source(error))?;
            let tag = arrival.delivery_tag;
            if scan.take_in(arrival, &hall.keys) {
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

/// How many deliveries are acknowledged together.
const ACKNOWLEDGE_EVERY: u64 = 64;

/// What was found of a session, and what was broadcast meanwhile.
struct Scan {
    id: Bytes,
    claimant: u64,
    since: Position,
    /// Whether everything from `since` on is there.
    is_whole: bool,
    is_first: bool,
    session: Option<(u64, Bytes)>,
    frames: Vec<(u64, Batch)>,
}

impl Scan {
    fn new(id: &str, claimant: u64, since: Position) -> Self {
        let id = Bytes::copy_from_slice(id.as_bytes());
        Self { id, claimant, since, is_whole: false, is_first: true, session: None, frames: Vec::new() }
    }

    /// Returns whether this was the end.
    fn take_in(&mut self, arrival: Delivery, keys: &Keys) -> bool {
        let Some(sequence) = sequence(&arrival) else { return false };
        let key = arrival.routing_key;
        let Ok(frame) = Batch::parse(arrival.data.into()) else { return false };
        if sequence == self.since.sequence {
            self.is_whole = self.is_first && frame.sender().to_string() == self.since.sender;
        }
        self.is_first &= sequence < self.since.sequence;
        if key == keys.log && sequence >= self.since.sequence {
            self.frames.push((sequence, frame));
        } else if key == keys.session {
            return Record::all(frame).any(|record| self.record(record));
        }
        false
    }

    fn record(&mut self, record: Record) -> bool {
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
        let (mut missed, mut repeats) = (Vec::new(), Deduplicator::default());
        for (sequence, frame) in self.frames {
            if !repeats.is_new(frame.sender(), frame.number()) {
                continue;
            }
            let mut left = frame.clone().count();
            for message in frame.clone().flatten() {
                left -= 1;
                let position = Position::new(sequence, left, &frame);
                let is_after = sequence > self.since.sequence || position.left < self.since.left;
                if is_after && let Some(payload) = broadcast(node, &message, rooms) {
                    missed.push(MissedBroadcast { payload, offset: position.offset() });
                }
            }
        }
        Ok(missed)
    }
}

fn broadcast(node: &NodeKey, message: &Bytes, rooms: &[Room]) -> Option<Payload> {
    let decoded = codec::decode(message).ok()?;
    if decoded.namespace.is_some_and(|namespace| namespace != node.namespace) {
        return None;
    }
    match decoded.body {
        Body::Message(Message::Broadcast { request: None, target, payload })
            if !target.flags.is_volatile() && target.matches(rooms) =>
        {
            Some(payload)
        }
        _ => None,
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
