//! Sessions, and replay of what they missed.

use std::sync::Arc;

use async_nats::jetstream::{
    consumer::{AckPolicy, DeliverPolicy, pull},
    stream::{LastRawMessageErrorKind, Stream},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use trunkline_backend::batch::Batch;
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Offset, Result, Room, Session, SessionId,
    codec::{self, Body, session},
    transport::{History, MissedBroadcast, RestoredSession},
};

use super::{
    Streams,
    position::{Position, epoch},
};
use crate::{connection::Connection, shared::Shared};

/// Frames that are asked for at once.
const PAGE: usize = 256;

/// How often a session is looked for again, when it was replaced while it was being taken.
const ATTEMPTS: usize = 5;

/// The history of a prefix.
#[derive(Debug)]
pub(crate) struct Recovery {
    shared: Arc<Shared>,
    streams: Streams,
}

#[async_trait]
impl History for Recovery {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        let connection = self.connection()?;
        let subject = self.shared.hall_of(node)?.subjects.session(&session.id);
        let payload = session::encode(session)?;
        let confirmed = connection.jetstream()?.publish(subject, payload.into()).await;
        let confirmed = confirmed.map_err(|error| failed("keep a session").with_source(error))?;
        confirmed.await.map_err(|error| failed("keep a session").with_source(error))?;
        Ok(())
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        Position::parse(since)?;
        let Some(payload) = self.take(node, id).await? else { return Ok(None) };
        let session = session::decode(id, &payload)?;
        let missed = self.replay(node, since, &session.rooms).await?;
        Ok(Some(RestoredSession { session, missed }))
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        let since = Position::parse(since)?;
        let filter = self.shared.hall_of(node)?.subjects.log.to_string();
        let connection = self.connection()?;
        let stream = connection.jetstream()?.get_stream(self.streams.log()).await;
        let mut stream = stream.map_err(|error| failed("read the history").with_source(error))?;
        let last = check(since, &stream)?;
        let mut missed = Vec::new();
        for (sequence, payload) in frames(&stream, since.sequence, last, filter).await? {
            collect(node, since, sequence, payload, rooms, &mut missed);
        }
        // What was trimmed meanwhile may have been missed.
        stream.info().await.map_err(|error| failed("read the history").with_source(error))?;
        check(since, &stream)?;
        Ok(missed)
    }
}

impl Recovery {
    pub(crate) fn new(shared: Arc<Shared>, streams: Streams) -> Self {
        Self { shared, streams }
    }

    fn connection(&self) -> Result<Arc<Connection>> {
        let connection = self.shared.outgoing.borrow().clone();
        connection.ok_or_else(|| Error::new(ErrorKind::Disconnected, "the history cannot be reached"))
    }

    /// Takes a session. Whoever deletes it has it, and nobody else.
    async fn take(&self, node: &NodeKey, id: &SessionId) -> Result<Option<Bytes>> {
        let subject = self.shared.hall_of(node)?.subjects.session(id);
        let connection = self.connection()?;
        let stream = connection.jetstream()?.get_stream_no_info(self.streams.sessions()).await;
        let stream = stream.map_err(|error| failed("take a session").with_source(error))?;
        for _ in 0..ATTEMPTS {
            let found = match stream.get_last_raw_message_by_subject(&subject).await {
                Ok(found) => found,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => return Ok(None),
                Err(error) => return Err(failed("take a session").with_source(error)),
            };
            // Otherwise somebody else took it, or it was persisted again: then there is a newer one.
            if let Ok(true) = stream.delete_message(found.sequence).await {
                return Ok(Some(found.payload));
            }
        }
        Err(failed("take a session"))
    }
}

/// Whether everything after `since` is still there. Returns the last frame.
fn check(since: Position, stream: &Stream) -> Result<u64> {
    let info = stream.cached_info();
    let (first, last) = (info.state.first_sequence, info.state.last_sequence);
    let is_there = since.sequence >= first;
    // The frame itself may be gone if nothing came after the message in it.
    let is_just_before = since.sequence + 1 == first && since.left == 0;
    if since.epoch != epoch(info) || since.sequence > last || !(is_there || is_just_before) {
        let context = format!("what was stored after offset {since} is not all there any more");
        return Err(Error::new(ErrorKind::HistoryLost, context));
    }
    Ok(last)
}

/// The frames of a namespace from `first` to `last`.
async fn frames(stream: &Stream, first: u64, last: u64, filter: String) -> Result<Vec<(u64, Bytes)>> {
    let cannot = || failed("read the history");
    let config = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: first },
        ack_policy: AckPolicy::None,
        filter_subject: filter,
        memory_storage: true,
        num_replicas: 1,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| cannot().with_source(error))?;
    let mut pending = consumer.cached_info().num_pending;
    let mut frames = Vec::new();
    while pending > 0 {
        let page = consumer.fetch().max_messages(PAGE).messages().await;
        let mut page = page.map_err(|error| cannot().with_source(error))?;
        let before = frames.len();
        while let Some(message) = page.next().await {
            let message = message.map_err(|error| cannot().with_source(error))?;
            let info = message.info().map_err(|error| cannot().with_source(error))?;
            let (sequence, left) = (info.stream_sequence, info.pending);
            pending = if sequence < last { left } else { 0 };
            if sequence <= last {
                frames.push((sequence, message.message.payload.clone()));
            }
        }
        if frames.len() == before && pending > 0 {
            return Err(cannot());
        }
    }
    // Otherwise the server forgets it after a while.
    let _ = stream.delete_consumer(&consumer.cached_info().name).await;
    Ok(frames)
}

/// What a client in these rooms has missed of a frame.
fn collect(
    node: &NodeKey,
    since: Position,
    sequence: u64,
    payload: Bytes,
    rooms: &[Room],
    missed: &mut Vec<MissedBroadcast>,
) {
    let Ok(frame) = Batch::parse(payload) else { return };
    let messages: Vec<_> = frame.flatten().collect();
    for (index, message) in messages.iter().enumerate() {
        let left = (messages.len() - index - 1).try_into().unwrap_or(u32::MAX);
        let position = Position { epoch: since.epoch, sequence, left };
        let is_after = sequence > since.sequence || left < since.left;
        if is_after && let Some(payload) = broadcast(node, message, rooms) {
            missed.push(MissedBroadcast { payload, offset: position.offset() });
        }
    }
}

fn broadcast(node: &NodeKey, message: &Bytes, rooms: &[Room]) -> Option<trunkline_core::Payload> {
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

fn failed(what: &str) -> Error {
    Error::new(ErrorKind::Broker, format!("the history did not {what}"))
}
