//! Documents to insert.

use std::time::{SystemTime, UNIX_EPOCH};

use mongodb::bson::RawDocumentBuf;
use trunkline_core::{
    Answer, Error, ErrorKind, Message, NodeId, NodeKey, Payload, Response, Result, Session,
    codec::{self, BodyRef, Kind, Writer, opts},
    field,
    model::{SeqChannel, SeqNo},
    payload::{Fault, Sink},
    transport::Sequencer,
};

use super::SESSION;
use crate::bson::{self, BsonWriter};

/// Where the value of `_id` lies: it is the first element.
const ID_AT: usize = 9;

/// A message that waits for its number.
#[derive(Debug)]
pub(crate) struct Draft {
    from: NodeKey,
    /// Open at its end.
    writer: BsonWriter,
    created_at: Option<usize>,
    /// Under which it is numbered; `None` for what nobody would miss.
    number_key: Option<NodeId>,
    /// Under which the counters of a heartbeat are found.
    heartbeat_key: Option<NodeId>,
    own: Option<Message>,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) from: NodeKey,
    bytes: Vec<u8>,
    created_at: Option<usize>,
    /// An own broadcast, to be delivered here if the server never takes it.
    pub(crate) own: Option<Message>,
}

/// More than the number of a message adds to it.
const OWN_FIELDS: usize = 64;

impl Draft {
    /// Encodes a message, or an answer to a node. The expensive part: done by the caller, outside the queue's lock.
    pub(crate) fn new(
        from: &NodeKey,
        number_key: Option<NodeId>,
        to: Option<&NodeId>,
        body: BodyRef<'_>,
        is_expiring: bool,
    ) -> Result<Self> {
        let mut writer = BsonWriter::with_capacity(512 + body.payload().map_or(0, Payload::len));
        let created_at = write_message(&mut writer, from, body, is_expiring)?;
        write_own_fields(&mut writer, to, body);
        let is_heartbeat = matches!(body, BodyRef::Message(Message::Heartbeat(_)));
        let is_numbered = matches!(body, BodyRef::Message(message) if message.is_numbered());
        let heartbeat_key = number_key.clone().filter(|_| is_heartbeat);
        let number_key = number_key.filter(|_| is_numbered);
        Ok(Self { from: from.clone(), writer, created_at, number_key, heartbeat_key, own: own_broadcast(from, body) })
    }

    /// A little more than its document will have.
    pub(crate) fn bytes(&self) -> usize {
        self.writer.len() + OWN_FIELDS
    }

    /// Completes the message with its number; heartbeats get the counters of their sender.
    pub(crate) fn finish(mut self, sequencer: &mut Sequencer) -> Result<Document> {
        if let Some(key) = &self.number_key {
            self.writer.field(field!("stamp"));
            write_stamp(&mut self.writer, sequencer.next(key, SeqChannel::ALL));
        }
        if let Some(key) = &self.heartbeat_key {
            let metrics = sequencer.metrics(key);
            self.writer.field(field!("counters"));
            self.writer.begin_array(None);
            metrics.iter().for_each(|&counter| write_stamp(&mut self.writer, counter));
            if metrics.is_empty() {
                write_stamp(&mut self.writer, SeqNo { channel: SeqChannel::ALL, number: 0 });
            }
            self.writer.end_array(None);
        }
        self.writer.end_map(None);
        let bytes = self.writer.finish().map_err(unwritable)?;
        Ok(Document { from: self.from, bytes, created_at: self.created_at, own: self.own })
    }

    /// Finds out whether the document can be written, before it takes a number.
    pub(crate) fn check(&self) -> Result<()> {
        self.writer.check().map_err(unwritable)
    }
}

/// Writes the document as an official peer does, without its end. Returns where the value of `createdAt` lies.
fn write_message(
    writer: &mut BsonWriter,
    from: &NodeKey,
    body: BodyRef<'_>,
    is_expiring: bool,
) -> Result<Option<usize>> {
    let unsupported = || Error::new(ErrorKind::Unsupported, "listing rooms: this wire has no message for it");
    let kind = body.kind().ok_or_else(unsupported)?;
    let number = if kind == Kind::Leaving { Kind::Heartbeat } else { kind }.number();
    begin(writer, number.into());
    if kind.has_data() {
        writer.field(field!("data"));
        codec::write_data(writer, body)?;
    }
    Ok(write_sender(writer, from, is_expiring))
}

fn begin(writer: &mut BsonWriter, kind: u64) {
    writer.begin_map(None);
    writer.field(field!("_id"));
    writer.object_id([0; 12]);
    writer.field(field!("type"));
    writer.number(kind.into());
}

fn write_sender(writer: &mut BsonWriter, from: &NodeKey, is_expiring: bool) -> Option<usize> {
    writer.field(field!("uid"));
    writer.text(from.id.as_str());
    writer.field(field!("nsp"));
    writer.text(from.namespace.as_str());
    is_expiring.then(|| {
        writer.field(field!("createdAt"));
        writer.date(0);
        writer.len() - size_of::<i64>()
    })
}

/// What only our own nodes read: for whom an answer is, that its null is undefined, that a heartbeat is the last one, and how many room
/// buckets the sender uses.
fn write_own_fields(writer: &mut BsonWriter, to: Option<&NodeId>, body: BodyRef<'_>) {
    if let Some(to) = to {
        writer.field(field!("to"));
        writer.text(to.as_str());
    }
    match body {
        BodyRef::Response(Response { answer: Answer::Ack(None) | Answer::ServerSideEmit(None), .. }) => {
            writer.field(field!("undefined"));
            writer.boolean(true);
        }
        BodyRef::Message(Message::Leaving) => {
            writer.field(field!("leaving"));
            writer.boolean(true);
        }
        BodyRef::Message(Message::Heartbeat(heartbeat)) => {
            if let Some(buckets) = heartbeat.buckets {
                writer.field(field!("buckets"));
                writer.number(u64::from(buckets).into());
            }
        }
        _ => {}
    }
}

fn write_stamp(writer: &mut BsonWriter, seq_no: SeqNo) {
    writer.begin_array(None);
    writer.number(u64::from(seq_no.channel.0).into());
    writer.number(seq_no.number.into());
    writer.end_array(None);
}

fn own_broadcast(from: &NodeKey, body: BodyRef<'_>) -> Option<Message> {
    match body {
        BodyRef::Message(message @ Message::Broadcast { .. }) if !from.id.is_emitter() => Some(message.clone()),
        _ => None,
    }
}

fn malformed(context: String) -> Error {
    Error::new(ErrorKind::Malformed, context)
}

fn unwritable(fault: Fault) -> Error {
    malformed(match fault {
        Fault::Key => "message: a key has a zero byte in it, for which BSON has no notation".to_owned(),
        other => format!("message: {other}"),
    })
}

/// The document of a session.
///
/// It always has a date: that of its id is only as good as a second.
pub(crate) fn session(from: &NodeKey, session: &Session) -> Result<Document> {
    let mut writer = BsonWriter::with_capacity(512);
    begin(&mut writer, SESSION);
    writer.field(field!("data"));
    writer.begin_map(None);
    writer.field(field!("sid"));
    writer.text(session.socket.as_str());
    writer.field(field!("pid"));
    writer.text(session.id.as_str());
    writer.field(field!("rooms"));
    opts::write_rooms(&mut writer, &session.rooms);
    writer.field(field!("data"));
    match &session.data {
        Some(data) => writer.payload(data).map_err(|fault| fault.at("session"))?,
        None => writer.map(0, |_| ()),
    }
    writer.end_map(None);
    let created_at = write_sender(&mut writer, from, true);
    complete(writer, from, created_at)
}

/// The document that says that a session was taken, where it cannot be removed.
pub(crate) fn tombstone(from: &NodeKey, pid: &str) -> Result<Document> {
    let mut writer = BsonWriter::with_capacity(256);
    begin(&mut writer, SESSION);
    writer.field(field!("data"));
    writer.map(2, |data| {
        data.field(field!("pid"));
        data.text(pid);
        data.field(field!("tombstone"));
        data.boolean(true);
    });
    let created_at = write_sender(&mut writer, from, false);
    complete(writer, from, created_at)
}

fn complete(mut writer: BsonWriter, from: &NodeKey, created_at: Option<usize>) -> Result<Document> {
    writer.end_map(None);
    let bytes = writer.finish().map_err(unwritable)?;
    Ok(Document { from: from.clone(), bytes, created_at, own: None })
}

impl Document {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Gives it its id and, if it has one, its date: now, when it is about to be inserted.
    pub(crate) fn identify(&mut self, ids: &mut Ids) -> [u8; 12] {
        let now = milliseconds();
        let id = ids.next_id(now);
        bson::object_id(&mut self.bytes, ID_AT, id);
        if let Some(at) = self.created_at {
            bson::date(&mut self.bytes, at, now.cast_signed());
        }
        id
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// As the driver takes it.
    pub(crate) fn into_raw(self) -> Result<RawDocumentBuf> {
        RawDocumentBuf::from_bytes(self.bytes).map_err(|error| malformed(format!("message: {error}")))
    }
}

/// Milliseconds since 1970.
pub(super) fn milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// Makes object ids that only grow: official peers replay in the order of ids.
#[derive(Debug)]
pub(crate) struct Ids {
    process: [u8; 5],
    second: u32,
    count: u32,
}

impl Ids {
    pub(crate) fn new() -> Self {
        let random = mongodb::bson::oid::ObjectId::new().bytes();
        // The driver's five bytes are those of the process; ours are told from them by the count, which is random there.
        let mut process = [0; 5];
        process.copy_from_slice(&random[4..9]);
        let salt = u32::from_be_bytes([0, random[9], random[10], random[11]]).to_be_bytes();
        process.iter_mut().zip(salt).for_each(|(byte, salt)| *byte ^= salt);
        Self { process, second: 0, count: 0 }
    }

    /// The first one is larger than `other`, though made in the same second or by a clock that is late.
    pub(crate) fn behind(other: [u8; 12]) -> Self {
        let mut ids = Self::new();
        let second = u32::from_be_bytes([other[0], other[1], other[2], other[3]]);
        // Beyond the process of the other one, or else beyond its second.
        let is_beyond = other[4] < u8::MAX;
        ids.process[0] = if is_beyond { u8::MAX } else { ids.process[0] };
        ids.second = second.saturating_add(u32::from(!is_beyond));
        ids
    }

    fn next_id(&mut self, now: u64) -> [u8; 12] {
        const COUNT_END: u32 = 1 << 24;
        let second = (now / 1000) as u32;
        if second > self.second {
            (self.second, self.count) = (second, 0);
        } else if self.count == COUNT_END {
            (self.second, self.count) = (self.second + 1, 0);
        }
        let mut id = [0; 12];
        id[..4].copy_from_slice(&self.second.to_be_bytes());
        id[4..9].copy_from_slice(&self.process);
        id[9..].copy_from_slice(&self.count.to_be_bytes()[1..]);
        self.count += 1;
        id
    }
}

#[cfg(test)]
mod tests {
    use trunkline_core::{Heartbeat, Namespace, Target};

    use super::*;

    fn node() -> NodeKey {
        NodeKey { id: NodeId::new("0123456789abcdef").unwrap(), namespace: Namespace::new("/") }
    }

    fn document(message: &Message, is_expiring: bool) -> mongodb::bson::Document {
        let key = Some(NodeId::new("key").unwrap());
        let draft = Draft::new(&node(), key, None, message.into(), is_expiring).unwrap();
        let expected = draft.bytes();
        let mut document = draft.finish(&mut Sequencer::default()).unwrap();
        assert!(document.len() <= expected);
        document.identify(&mut Ids::new());
        mongodb::bson::Document::try_from(document.into_raw().unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_the_official_one_with_a_number() {
        let payload = Payload::event("e", &(1,)).unwrap();
        let message = Message::Broadcast { request: None, target: Target::room("r"), payload };
        let keys = |document: &mongodb::bson::Document| document.keys().cloned().collect::<Vec<_>>();
        let plain = document(&message, false);
        assert_eq!(keys(&plain), ["_id", "type", "data", "uid", "nsp", "stamp"]);
        let expiring = document(&message, true);
        assert_eq!(keys(&expiring), ["_id", "type", "data", "uid", "nsp", "createdAt", "stamp"]);
        let age = milliseconds().cast_signed() - expiring.get_datetime("createdAt").unwrap().timestamp_millis();
        assert!((0..60_000).contains(&age), "{age}");
    }

    #[test]
    fn a_leave_is_a_heartbeat_to_official_peers() {
        let leave = document(&Message::Leaving, false);
        assert_eq!((leave.get_i32("type").unwrap(), leave.get_bool("leaving").unwrap()), (2, true));
        let heartbeat = document(&Message::Heartbeat(Heartbeat::default()), false);
        assert_eq!(heartbeat.get_i32("type").unwrap(), 2);
        assert_eq!(heartbeat.get_array("counters").unwrap().len(), 1);
    }

    #[test]
    fn a_key_with_a_zero_byte_takes_no_number() {
        let payload = Payload::from_json(r#"["e",{"a\u0000":1}]"#.to_owned()).unwrap();
        let message = Message::Broadcast { request: None, target: Target::all(), payload };
        let draft = Draft::new(&node(), None, None, (&message).into(), false).unwrap();
        assert!(draft.check().unwrap_err().to_string().contains("zero byte"));
    }

    #[test]
    fn an_id_behind_another_is_larger_whatever_the_clock_says() {
        for process in [0, 100, 254, 255] {
            let other = [0x70, 0, 0, 0, process, 9, 9, 9, 9, 255, 255, 255];
            for now in [0, 0x7000_0000_u64 * 1000, 0x7000_0001_u64 * 1000] {
                assert!(Ids::behind(other).next_id(now) > other, "{process} {now}");
            }
        }
    }

    #[test]
    fn ids_grow_even_if_the_clock_does_not() {
        let mut ids = Ids { process: [1; 5], second: 0, count: 0 };
        let mut last = ids.next_id(5_000);
        for now in [5_001, 4_000, 6_000, 1_000] {
            let next = ids.next_id(now);
            assert!(next > last);
            last = next;
        }
        ids.count = 1 << 24;
        assert!(ids.next_id(6_000) > last);
    }
}
