//! Decoding change events, messages and sessions.

use std::sync::Arc;

use bytes::Bytes;
use mongodb::bson::oid::ObjectId;
use trunkline_core::{
    Answer, Error, ErrorKind, Heartbeat, Message, Namespace, NodeId, Offset, Response, Result, Room, Session,
    SessionId, SocketId,
    codec::{self, Body, Decoded, Header, Kind, Reader, Shape, opts, set},
    model::{Ack, SeqNo},
    payload::{Fault, Number, Scan},
};

use super::{SESSION, millis_of, now_millis};
use crate::bson::BsonReader;

/// An event of the change stream.
#[derive(Debug)]
pub(crate) enum ChangeEvent {
    /// This document was inserted.
    Insert(Bytes),
    /// The collection was dropped or renamed, and the stream ends.
    Invalidate,
    Other,
}

impl ChangeEvent {
    pub(crate) fn read(bytes: &Bytes) -> Scan<Self> {
        let (mut is_insert, mut is_invalidation, mut inserted) = (false, false, None);
        let mut reader = BsonReader::new(bytes);
        let mut map = reader.begin_map()?;
        while let Some(key) = reader.next_key(&mut map)? {
            match &*key {
                "operationType" => {
                    let operation = reader.text()?;
                    is_insert = operation == "insert";
                    is_invalidation = operation == "invalidate";
                }
                "fullDocument" if reader.shape()? == Shape::Map => inserted = Some(reader.document()?),
                _ => reader.skip()?,
            }
        }
        Ok(match inserted {
            Some(document) if is_insert => Self::Insert(document),
            _ if is_invalidation => Self::Invalidate,
            _ => Self::Other,
        })
    }
}

/// A document of the collection with all fields read but `data`.
#[derive(Debug, Default)]
pub(crate) struct ReceivedDocument<'a> {
    pub(crate) id: Option<[u8; 12]>,
    kind: Option<u64>,
    pub(crate) from: Option<NodeId>,
    pub(crate) namespace: Option<Namespace>,
    seq_no: Option<SeqNo>,
    /// The only node that needs it.
    pub(crate) to: Option<NodeId>,
    /// Whether the heartbeat is the last one of a node that leaves.
    is_leave: bool,
    /// Whether the null of the answer stands for `undefined`.
    is_undefined: bool,
    high_water_marks: Vec<SeqNo>,
    buckets: Option<u16>,
    trace: Option<Arc<str>>,
    data: Option<BsonReader<'a>>,
    created_at: Option<i64>,
}

impl<'a> ReceivedDocument<'a> {
    pub(crate) fn read(bytes: &'a Bytes) -> Scan<Self> {
        let mut document = Self::default();
        let mut reader = BsonReader::new(bytes);
        let mut map = reader.begin_map()?;
        while let Some(key) = reader.next_key(&mut map)? {
            document.read_field(&mut reader, &key)?;
        }
        Ok(document)
    }

    fn read_field(&mut self, reader: &mut BsonReader<'a>, key: &str) -> Scan<()> {
        match key {
            "_id" => self.id = reader.lenient(BsonReader::object_id)?,
            "type" => self.kind = reader.lenient(Reader::number)?.and_then(Number::as_u64),
            "uid" => self.from = reader.optional(read_node)?,
            "nsp" => self.namespace = reader.optional(|reader| Ok(Namespace::new(&reader.text()?)))?,
            "stamp" => self.seq_no = reader.lenient(codec::read_seq_no)?,
            "traceparent" => self.trace = reader.lenient(codec::read_trace)?,
            "to" => self.to = reader.lenient(read_node)?,
            "leaving" => self.is_leave = reader.lenient(Reader::boolean)? == Some(true),
            "undefined" => self.is_undefined = reader.lenient(Reader::boolean)? == Some(true),
            "counters" => {
                self.high_water_marks = reader.lenient(codec::read_high_water_marks)?.unwrap_or_default();
            }
            "buckets" => {
                let buckets = reader.lenient(Reader::number)?.and_then(Number::as_u64);
                self.buckets = buckets.and_then(|buckets| u16::try_from(buckets).ok());
            }
            "createdAt" => self.created_at = reader.lenient(BsonReader::date)?,
            "data" => {
                self.data = Some(reader.clone());
                reader.skip()?;
            }
            _ => reader.skip()?,
        }
        Ok(())
    }

    /// Its type; `None` for sessions and for types that this version does not know.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match Kind::from_number(self.kind.filter(|_| !self.is_session())?)? {
            Kind::Heartbeat if self.is_leave => Some(Kind::Leaving),
            kind => Some(kind),
        }
    }

    pub(crate) fn is_session(&self) -> bool {
        self.kind == Some(SESSION.into())
    }

    /// Its offset in the history.
    pub(crate) fn offset(&self) -> Option<Offset> {
        Offset::new(ObjectId::from_bytes(self.id?).to_hex()).ok()
    }

    /// What decides whether a node needs the message; `None` for types that this version does not know.
    pub(crate) fn header(&self) -> Option<Header> {
        Some(Header {
            kind: self.kind()?,
            from: self.from.clone(),
            namespace: self.namespace.clone(),
            seq_no: self.seq_no,
            room: self.room(),
        })
    }

    /// The room of a broadcast without acknowledgement to exactly one room. Its payload is skipped.
    pub(crate) fn room(&self) -> Option<Room> {
        let mut reader = self.data.clone().filter(|_| self.kind() == Some(Kind::Broadcast))?;
        let mut target = None;
        let mut map = reader.begin_map().ok()?;
        while let Some(key) = reader.next_key(&mut map).ok()? {
            match &*key {
                "opts" => target = Some(opts::read(&mut reader).ok()?),
                "requestId" if reader.shape().ok()? != Shape::Null => return None,
                _ => reader.skip().ok()?,
            }
        }
        target?.single_room().cloned()
    }

    /// The whole message, with its offset.
    pub(crate) fn decode(&self) -> Result<(Decoded, Option<Offset>)> {
        let unknown = || Error::new(ErrorKind::Unsupported, "message: unknown type");
        let mut body = self.body(self.kind().ok_or_else(unknown)?)?;
        if let Body::Message(message) = &mut body {
            message.set_trace(self.trace.clone());
        }
        let (from, namespace) = (self.from.clone(), self.namespace.clone());
        Ok((Decoded { from, namespace, seq_no: self.seq_no, body }, self.offset()))
    }

    /// Reads the data of a message of known type.
    pub(crate) fn body(&self, kind: Kind) -> Result<Body> {
        let heartbeat = |initial| {
            let heartbeat = Heartbeat::new(initial).with_high_water_marks(self.high_water_marks.clone());
            Body::Message(Message::Heartbeat(heartbeat.with_buckets(self.buckets)))
        };
        match kind {
            Kind::InitialHeartbeat => Ok(heartbeat(true)),
            Kind::Heartbeat => Ok(heartbeat(false)),
            Kind::Leaving => Ok(Body::Message(Message::Leaving)),
            _ => {
                let mut reader = self.data.clone().ok_or_else(|| Fault::Missing.at("data"))?;
                let body = codec::read_data(&mut reader, kind, self.from.as_ref())?;
                Ok(if self.is_undefined { without_value(body) } else { body })
            }
        }
    }

    /// Milliseconds since it was written.
    pub(crate) fn age(&self) -> u64 {
        let written = self.created_at.map(i64::unsigned_abs).or_else(|| self.id.map(millis_of));
        now_millis().saturating_sub(written.unwrap_or_default())
    }

    /// Reads the data of a session.
    pub(crate) fn session(&self) -> Result<StoredSession> {
        let mut reader = self.data.clone().ok_or_else(|| Fault::Missing.at("session"))?;
        StoredSession::read(&mut reader).map_err(|fault| fault.at("session"))
    }
}

fn without_value(body: Body) -> Body {
    match body {
        Body::Response(Response { request, answer: Answer::Ack(ack) }) => {
            Body::Response(Response { request, answer: Answer::Ack(Ack { value: None, ..ack }) })
        }
        Body::Response(Response { request, answer: Answer::ServerSideEmit(_) }) => {
            Body::Response(Response { request, answer: Answer::ServerSideEmit(None) })
        }
        other => other,
    }
}

fn read_node(reader: &mut BsonReader<'_>) -> Scan<NodeId> {
    NodeId::new(reader.text()?).map_err(|_| Fault::TooLong)
}

/// The data of a session document.
#[derive(Debug)]
pub(crate) enum StoredSession {
    Session(Session),
    /// The session was restored before.
    Tombstone,
}

impl StoredSession {
    fn read(reader: &mut BsonReader<'_>) -> Scan<Self> {
        let (mut socket, mut id, mut rooms, mut data) = (None, None, None, None);
        let mut map = reader.begin_map()?;
        while let Some(key) = reader.next_key(&mut map)? {
            match &*key {
                "sid" => set(&mut socket, reader.optional(|reader| reader.text())?)?,
                "pid" => set(&mut id, reader.text()?)?,
                "rooms" => set(&mut rooms, opts::read_known_rooms(reader)?)?,
                "data" => set(&mut data, reader.optional(Reader::payload)?)?,
                _ => reader.skip()?,
            }
        }
        let Some(socket) = socket.flatten() else { return Ok(Self::Tombstone) };
        let id = SessionId::new(id.ok_or(Fault::Missing)?).map_err(|_| Fault::TooLong)?;
        let socket = SocketId::new(socket).map_err(|_| Fault::TooLong)?;
        Ok(Self::Session(Session::new(id, socket, rooms.unwrap_or_default()).with_data(data.flatten())))
    }
}
