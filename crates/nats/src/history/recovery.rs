//! Sessions, and replay of what they missed.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_nats::jetstream::{
    consumer::{DeliverPolicy, pull},
    context::PublishErrorKind,
    stream::{LastRawMessageErrorKind, Stream},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use trunkline_backend::{
    batch::Batch,
    batched::{TransportState, missed_in, token},
};
use trunkline_core::{
    Error, ErrorKind, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::session,
    transport::{History, MissedBroadcast, RestoredSession},
};

use super::{
    Streams,
    position::{Position, epoch},
    source::reading,
};
use crate::{broker::Nats, connection::Connection};

/// Batches that are asked for at once.
const PAGE: usize = 64;

/// How long the server may say nothing while it is read.
const SILENCE: Duration = Duration::from_secs(5);

/// How often a session is looked for again, when it was replaced while it was being taken.
const ATTEMPTS: usize = 5;

/// The history of a prefix.
#[derive(Debug)]
pub(crate) struct Recovery {
    state: Arc<TransportState<Nats>>,
    streams: Streams,
}

#[async_trait]
impl History for Recovery {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let connection = self.connection()?;
        let jetstream = connection.jetstream()?;
        let subject = self.session_subject(node, &session.id)?;
        let payload = Bytes::from(session::encode(session)?);
        let store = async || jetstream.publish(subject.clone(), payload.clone()).await?.await.map(drop);
        let mut stored = store().await;
        if stored.as_ref().is_err_and(|error| error.kind() == PublishErrorKind::StreamNotFound) {
            // The stream was deleted.
            self.streams.set_up(jetstream).await?;
            stored = store().await;
        }
        stored.map_err(|error| failed("keep a session").with_source(error))
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        Position::parse(since)?;
        let Some(payload) = self.take(node, id).await? else { return Ok(None) };
        let session = session::decode(id, &payload)?;
        let missed = self.replay(node, since, &session.rooms_with_own()).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let since = Position::parse(since)?;
        let subject = self.state.namespace_of(node)?.log.to_string();
        let stream = self.connection()?.jetstream()?.get_stream(self.streams.log()).await;
        let mut stream = stream.map_err(|error| failed("read the history").with_source(error))?;
        let last = check(since, &stream)?;
        let mut missed = Vec::new();
        for (sequence, payload) in stored(&stream, since.sequence, last, subject).await? {
            let Ok(batch) = Batch::parse(payload) else { continue };
            let position = |remaining: usize| {
                let remaining = remaining.try_into().unwrap_or(u32::MAX);
                let is_after = sequence > since.sequence || remaining < since.remaining;
                is_after.then(|| Position { epoch: since.epoch, sequence, remaining }.offset())
            };
            missed.extend(missed_in(&batch, node, rooms, position));
        }
        // What was trimmed meanwhile may have been missed.
        stream.info().await.map_err(|error| failed("read the history").with_source(error))?;
        check(since, &stream)?;
        Ok(missed)
    }

    async fn reach(&self, _: &NodeKey) -> Result<Option<Duration>> {
        let stream = self.connection()?.jetstream()?.get_stream(self.streams.log()).await;
        let stream = stream.map_err(|error| failed("tell how far it reaches").with_source(error))?;
        let state = &stream.cached_info().state;
        let oldest = SystemTime::from(state.first_timestamp);
        Ok((state.messages > 0).then(|| oldest.elapsed().unwrap_or_default()))
    }
}

impl Recovery {
    pub(crate) fn new(state: Arc<TransportState<Nats>>, streams: Streams) -> Self {
        Self { state, streams }
    }

    fn connection(&self) -> Result<Arc<Connection>> {
        let connection = self.state.outbound.borrow().clone();
        connection.ok_or_else(|| Error::new(ErrorKind::Disconnected, "the history cannot be reached"))
    }

    fn session_subject(&self, node: &NodeKey, id: &SessionId) -> Result<String> {
        let subject = self.state.namespace_of(node)?.address(&format!("session.{}", token(id.as_str())));
        Ok(subject.into_string())
    }

    /// Takes a session: it belongs to the one node that deletes it.
    async fn take(&self, node: &NodeKey, id: &SessionId) -> Result<Option<Bytes>> {
        let subject = self.session_subject(node, id)?;
        let stream = self.connection()?.jetstream()?.get_stream_no_info(self.streams.sessions()).await;
        let stream = stream.map_err(|error| failed("take a session").with_source(error))?;
        for _ in 0..ATTEMPTS {
            let found = match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(found) => found,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
                Err(error) => return Err(failed("take a session").with_source(error)),
            };
            // Otherwise another node took it, or it was persisted again: then there is a newer one.
            if let Ok(true) = stream.delete_message(found.sequence).await {
                return Ok(Some(found.payload));
            }
        }
        Err(failed("take a session"))
    }
}

/// Whether everything after `since` is still there. Returns the position of the last batch.
fn check(since: Position, stream: &Stream) -> Result<u64> {
    let info = stream.cached_info();
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    let is_there = since.sequence >= first;
    // The batch itself may be gone if nothing came after the message in it.
    let is_just_before = since.sequence + 1 == first && since.remaining == 0;
    if since.epoch != epoch(info) || since.sequence > last || !(is_there || is_just_before) {
        let context = format!("what was stored after offset {since} is not all there any more");
        return Err(Error::new(ErrorKind::HistoryLost, context));
    }
    Ok(last)
}

/// The batches of a namespace from `first` to `last`.
async fn stored(stream: &Stream, first: u64, last: u64, subject: String) -> Result<Vec<(u64, Bytes)>> {
    let failed = || failed("read the history");
    let deliver_policy = DeliverPolicy::ByStartSequence { start_sequence: first };
    let consumer = stream.create_consumer(pull::Config { deliver_policy, ..reading(subject) }).await;
    let consumer = consumer.map_err(|error| failed().with_source(error))?;
    let mut pending = consumer.cached_info().num_pending;
    // Ends with an error when the server is silent, however long the whole takes.
    let page = consumer.stream().max_messages_per_batch(PAGE).heartbeat(SILENCE / 2).expires(SILENCE * 6);
    let mut page = page.messages().await.map_err(|error| failed().with_source(error))?;
    let mut batches = Vec::new();
    while pending > 0 {
        let message = page.next().await.ok_or_else(failed)?.map_err(|error| failed().with_source(error))?;
        let info = message.info().map_err(|error| failed().with_source(error))?;
        let (sequence, left) = (info.stream_sequence, info.pending);
        pending = if sequence < last { left } else { 0 };
        if sequence <= last {
            batches.push((sequence, message.message.payload.clone()));
        }
    }
    drop(page);
    // Otherwise the server forgets it after a while.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(batches)
}

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Broker, format!("the history did not {what}"))
}
