//! Sessions under keys, and replay of what is still in the stream.

use std::{
    collections::HashMap,
    time::{Duration, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use redis::Value;
use trunkline_core::{
    Error, ErrorKind, Namespace, NodeId, Offset, Payload, Result, Room, SessionId, SocketId,
    codec::{Body, Kind, MsgPackReader, Reader, Writer, opts, set},
    field,
    model::{Message, Session},
    payload::{Fault, Rules, Scan, Sink as _, msgpack},
    transport::MissedBroadcast,
};

use super::entry::{Entry, EntryId};
use crate::connect::{CommandConnection, ServerPool};

/// Entries that are read at a time.
const PAGE: usize = 1_000;

// --- sessions ---

/// Stores a session under its key.
pub(super) async fn persist(
    servers: &ServerPool,
    key: &[u8],
    namespace: &Namespace,
    session: &Session,
    ttl: Duration,
) -> Result<()> {
    let value = BASE64.encode(encode_session(namespace, session)?);
    let milliseconds = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let mut command = redis::cmd("SET");
    let command = command.arg(key).arg(value).arg("PX").arg(milliseconds);
    servers.run_at(key, command).await
}

/// Takes a session out of the store, once. One of another namespace stays where it is.
pub(super) async fn take(servers: &ServerPool, key: &[u8], namespace: &Namespace) -> Result<Option<Session>> {
    servers.at(key, |connection| take_from(connection, key, namespace, servers.response_timeout())).await
}

async fn take_from(
    connection: CommandConnection,
    key: &[u8],
    namespace: &Namespace,
    limit: Duration,
) -> Result<Option<Session>> {
    let found: Option<Vec<u8>> = connection.run(redis::cmd("GET").arg(key), limit).await?;
    let Some(found) = found else { return Ok(None) };
    let (of, _) = decode_session(&found)?;
    if of.is_some_and(|of| of != *namespace) {
        return Ok(None);
    }
    let mut commands = redis::pipe();
    commands.atomic().cmd("GET").arg(key).cmd("DEL").arg(key).ignore();
    let (taken,): (Option<Vec<u8>>,) = connection.run_all(&commands, limit).await?;
    taken.map(|taken| decode_session(&taken).map(|(_, session)| session)).transpose()
}

/// `{sid, pid, rooms, data}` as Node.js keeps it, and behind it the namespace, which it does not know.
fn encode_session(namespace: &Namespace, session: &Session) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    let mut writer = msgpack::Writer::new(&mut out, Rules::MsgpackJs);
    let written = writer.map(5, |fields| {
        fields.field(field!("sid"));
        fields.text(session.socket.as_str());
        fields.field(field!("pid"));
        fields.text(session.id.as_str());
        fields.field(field!("rooms"));
        opts::write_rooms(fields, &session.rooms);
        fields.field(field!("data"));
        let written = match &session.data {
            Some(data) => fields.payload(data),
            None => {
                fields.map(0, |_| ());
                Ok(())
            }
        };
        fields.field(field!("nsp"));
        fields.text(namespace.as_str());
        written
    });
    written.map_err(|fault| fault.at("session data"))?;
    Ok(out)
}

pub(super) fn decode_session(text: &[u8]) -> Result<(Option<Namespace>, Session)> {
    let bytes = BASE64.decode(text);
    let bytes: Bytes =
        bytes.map_err(|error| Error::new(ErrorKind::Malformed, "session: not base64").with_source(error))?.into();
    let mut reader = MsgPackReader::new(&bytes);
    let fields = SessionFields::read(&mut reader).map_err(|fault| fault.at("session"))?;
    reader.end().map_err(|fault| fault.at("session"))?;
    fields.into_session()
}

#[derive(Default)]
struct SessionFields {
    socket: Option<String>,
    session: Option<String>,
    rooms: Option<Vec<Room>>,
    data: Option<Option<Payload>>,
    namespace: Option<Namespace>,
}

impl SessionFields {
    fn read<'a>(reader: &mut impl Reader<'a>) -> Scan<Self> {
        let mut fields = Self::default();
        let mut map = reader.begin_map()?;
        while let Some(key) = reader.next_key(&mut map)? {
            match &*key {
                "sid" => set(&mut fields.socket, reader.text()?.into_owned())?,
                "pid" => set(&mut fields.session, reader.text()?.into_owned())?,
                "rooms" => set(&mut fields.rooms, opts::read_known_rooms(reader)?)?,
                "data" => set(&mut fields.data, reader.optional(Reader::payload)?)?,
                "nsp" => set(&mut fields.namespace, Namespace::new(&reader.text()?))?,
                _ => reader.skip()?,
            }
        }
        Ok(fields)
    }

    fn into_session(self) -> Result<(Option<Namespace>, Session)> {
        let missing = |name: &'static str| move || Fault::Missing.at(name);
        let session = Session::new(
            SessionId::new(self.session.ok_or_else(missing("session.pid"))?)?,
            SocketId::new(self.socket.ok_or_else(missing("session.sid"))?)?,
            self.rooms.unwrap_or_default(),
        )
        .with_data(self.data.flatten());
        Ok((self.namespace, session))
    }
}

// --- the oldest entry ---

/// Age of the oldest entry. Its id is the time at the server; what nodes may do need not include `TIME`.
pub(super) async fn reach(servers: &ServerPool, stream: &Bytes) -> Result<Option<Duration>> {
    let mut oldest = redis::cmd("XRANGE");
    oldest.arg(&**stream).arg("-").arg("+").arg("COUNT").arg(1);
    let entries: Vec<(String, Value)> = servers.run_at(stream, &oldest).await?;
    let stored = entries.first().and_then(|(id, _)| id.split('-').next()?.parse().ok());
    let stored = stored.map(|milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds));
    Ok(stored.map(|stored| stored.elapsed().unwrap_or_default()))
}

// --- replay ---

/// Broadcasts after `since` in a namespace, to all or to any of `rooms`.
///
/// # Errors
/// `HistoryLost` if the entry at `since` is gone: then so may others be.
pub(super) async fn replay(
    servers: &ServerPool,
    stream: &Bytes,
    namespace: &Namespace,
    since: &Offset,
    rooms: &[Room],
) -> Result<Vec<MissedBroadcast>> {
    let since = EntryId::of_offset(since)?;
    let range = async |from: EntryId, to: &str| {
        let mut command = redis::cmd("XRANGE");
        command.arg(stream.as_ref()).arg(from.to_string()).arg(to).arg("COUNT").arg(PAGE);
        let answer: Value = servers.run_at(stream, &command).await?;
        entries(answer).ok_or_else(|| Error::new(ErrorKind::Broker, "the answer to XRANGE was not understood"))
    };
    let at = range(since, &since.to_string()).await?;
    let Some(at) = at.first() else {
        let context = format!("the entry {since} is no longer in the stream");
        return Err(Error::new(ErrorKind::HistoryLost, context));
    };
    // What is written from here on is not missed: it is delivered as it comes.
    let end = super::reader::state_of(servers, stream).await?.last;
    let mut replay = Replay { namespace, rooms, seen: HashMap::new(), missed: Vec::new() };
    replay.is_repeat(at);
    let mut from = since.next();
    while from <= end {
        let page = range(from, &end.to_string()).await?;
        let Some(last) = page.last() else { break };
        from = last.id.next();
        page.iter().for_each(|entry| replay.take(entry));
    }
    Ok(replay.missed)
}

/// `[[id, [name, value, …]], …]`
fn entries(answer: Value) -> Option<Vec<Entry>> {
    let Value::Array(rows) = answer else { return None };
    rows.into_iter().map(entry).collect()
}

fn entry(row: Value) -> Option<Entry> {
    let Value::Array(row) = row else { return None };
    let mut row = row.into_iter();
    let (Some(Value::BulkString(id)), Some(Value::Array(fields))) = (row.next(), row.next()) else { return None };
    let mut texts = fields.into_iter().map_while(|field| match field {
        Value::BulkString(text) => Some(Bytes::from(text)),
        _ => None,
    });
    let mut pairs = Vec::new();
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        pairs.push((name, value));
    }
    Some(Entry::new(EntryId::parse(&id)?, pairs.into_iter()))
}

struct Replay<'a> {
    namespace: &'a Namespace,
    rooms: &'a [Room],
    /// Last number of each sender: what was written again after a connection broke is in the stream twice.
    seen: HashMap<NodeId, u64>,
    missed: Vec<MissedBroadcast>,
}

impl Replay<'_> {
    fn take(&mut self, entry: &Entry) {
        if entry.namespace.as_deref() != Some(self.namespace.as_str().as_bytes()) || self.is_repeat(entry) {
            return;
        }
        if let Some(missed) = self.missed_by(entry) {
            self.missed.push(missed);
        }
    }

    fn is_repeat(&mut self, entry: &Entry) -> bool {
        let (Some(from), Some(seq_no)) = (&entry.from, entry.seq_no) else { return false };
        let last = self.seen.entry(from.clone()).or_default();
        let is_repeat = seq_no.number <= *last;
        *last = seq_no.number.max(*last);
        is_repeat
    }

    /// Volatile and acknowledged broadcasts are not replayed, though Node.js does.
    fn missed_by(&self, entry: &Entry) -> Option<MissedBroadcast> {
        if entry.kind().ok()? != Kind::Broadcast {
            return None;
        }
        let body = entry.body(Kind::Broadcast, &entry.data().ok()?).ok()?;
        let Body::Message(Message::Broadcast { request: None, target, payload }) = body else { return None };
        if target.flags.is_volatile() || !target.matches(self.rooms) {
            return None;
        }
        Some(MissedBroadcast { payload, offset: entry.id.to_offset()? })
    }
}
