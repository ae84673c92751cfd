//! Documents that arrive.

use bytes::Bytes;
use mongodb::bson::oid::ObjectId;
use trunkline_core::{
    Namespace, NodeId, Offset, Result, Room, SessionId, SocketId,
    codec::{self, Body, Kind, Reader, Shape, opts, set},
    model::{Answer, Heartbeat, Message, Response, SeqNo, Session},
    payload::{Fault, Payload, Scan},
};

use super::{SESSION, document::milliseconds};
use crate::bson::BsonReader;

/// A change that the stream reports.
#[derive(Debug, Default)]
pub(crate) struct Event {
    /// From where the stream can go on.
    pub(crate) token: Option<Bytes>,
    /// What was inserted.
    pub(crate) inserted: Option<Bytes>,
    /// The collection is gone, and with it the stream.
    pub(crate) is_invalidation: bool,
}

impl Event {
    pub(crate) fn read(bytes: &Bytes) -> Scan<Self> {
        let mut event = Self::default();
        let mut is_insert = false;
        let mut reader = BsonReader::new(bytes);
        let mut map = reader.begin_map()?;
        while let Some(key) = reader.next_key(&mut map)? {
            match &*key {
                "_id" => event.token = Some(reader.document()?),
                "operationType" => {
                    let operation = reader.text()?;
                    is_insert = operation == "insert";
                    event.is_invalidation = operation == "invalidate";
                }
                "fullDocument" if reader.shape()? == Shape::Map => event.inserted = Some(reader.document()?),
                _ => reader.skip()?,
            }
        }
        if !is_insert {
            event.inserted = None;
        }
        Ok(event)
    }
}

/// A document of the collection, as far as it says for whom it is.
#[derive(Debug)]
pub(crate) struct Arrived<'a> {
    pub(crate) id: Option<[u8; 12]>,
    /// The number of its type.
    number: Option<u64>,
    pub(crate) from: Option<NodeId>,
    pub(crate) namespace: Option<Namespace>,
    pub(crate) seq_no: Option<SeqNo>,
    /// The only node that needs it.
    pub(crate) to: Option<NodeId>,
    is_leave: bool,
    /// The answer is null because there is none.
    is_undefined: bool,
    metrics: Vec<SeqNo>,
    buckets: Option<u16>,
    data: Option<BsonReader<'a>>,
    created_at: Option<i64>,
}

impl<'a> Arrived<'a> {
    /// Reads everything but the data.
    pub(crate) fn read(bytes: &'a Bytes) -> Scan<Self> {
        let mut arrived = Self {
            id: None,
            number: None,
            from: None,
            namespace: None,
            seq_no: None,
            to: None,
            is_leave: false,
            is_undefined: false,
            metrics: Vec::new(),
            buckets: None,
            data: None,
            created_at: None,
        };
        let mut reader = BsonReader::new(bytes);
        let mut map = reader.begin_map()?;
        while let Some(key) = reader.next_key(&mut map)? {
            arrived.field(&mut reader, &key)?;
        }
        Ok(arrived)
    }

    fn field(&mut self, reader: &mut BsonReader<'a>, key: &str) -> Scan<()> {
        match key {
            "_id" => self.id = reader.lenient(BsonReader::object_id)?,
            "type" => self.number = reader.lenient(Reader::number)?.and_then(trunkline_core::payload::Number::as_u64),
            "uid" => self.from = reader.optional(read_node)?,
            "nsp" => self.namespace = reader.optional(|reader| Ok(Namespace::new(&reader.text()?)))?,
            "stamp" => self.seq_no = reader.lenient(codec::read_seq_no)?,
            "to" => self.to = reader.lenient(read_node)?,
            "leaving" => self.is_leave = reader.lenient(Reader::boolean)? == Some(true),
            "undefined" => self.is_undefined = reader.lenient(Reader::boolean)? == Some(true),
            "counters" => self.metrics = reader.lenient(codec::read_high_water_marks)?.unwrap_or_default(),
            "buckets" => {
                let buckets = reader.lenient(Reader::number)?.and_then(trunkline_core::payload::Number::as_u64);
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

    /// The type of message; `None` for types that we do not know.
    pub(crate) fn kind(&self) -> Option<Kind> {
        match Kind::from_number(self.number.filter(|number| *number != SESSION)?)? {
            Kind::Heartbeat if self.is_leave => Some(Kind::Leaving),
            kind => Some(kind),
        }
    }

    pub(crate) fn is_session(&self) -> bool {
        self.number == Some(SESSION)
    }

    /// Where it lies.
    pub(crate) fn offset(&self) -> Option<Offset> {
        Offset::new(ObjectId::from_bytes(self.id?).to_hex()).ok()
    }

    /// The room of a broadcast without acknowledgement to exactly one room. The payload is not looked at.
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

    /// Reads the data of a message of known kind.
    pub(crate) fn body(&self, kind: Kind) -> Result<Body> {
        let heartbeat = |initial| {
            let heartbeat = Heartbeat { initial, metrics: self.metrics.clone(), buckets: self.buckets };
            Body::Message(Message::Heartbeat(heartbeat))
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
        let written = self.created_at.or_else(|| {
            let id = self.id?;
            Some(i64::from(u32::from_be_bytes([id[0], id[1], id[2], id[3]])) * 1000)
        });
        milliseconds().saturating_sub(written.unwrap_or_default().unsigned_abs())
    }

    /// Reads the data of a session.
    pub(crate) fn session(&self) -> Result<StoredSession> {
        let mut reader = self.data.clone().ok_or_else(|| Fault::Missing.at("session"))?;
        StoredSession::read(&mut reader).map_err(|fault| fault.at("session"))
    }
}

fn without_value(body: Body) -> Body {
    match body {
        Body::Response(Response { request, answer: Answer::Ack(_) }) => {
            Body::Response(Response { request, answer: Answer::Ack(None) })
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
    /// It was taken.
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
                "rooms" => set(&mut rooms, opts::read_rooms(reader)?)?,
                "data" => set(&mut data, reader.optional(Reader::payload)?)?,
                _ => reader.skip()?,
            }
        }
        let Some(socket) = socket.flatten() else { return Ok(Self::Tombstone) };
        let data: Option<Payload> = data.flatten();
        Ok(Self::Session(Session {
            id: SessionId::new(id.ok_or(Fault::Missing)?).map_err(|_| Fault::TooLong)?,
            socket: SocketId::new(socket).map_err(|_| Fault::TooLong)?,
            rooms: rooms.unwrap_or_default(),
            data,
        }))
    }
}
