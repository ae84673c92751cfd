//! Encoding messages, sessions and tombstones as documents.

use mongodb::bson::RawDocumentBuf;
use trunkline_backend::own_copy;
use trunkline_core::{
    Answer, Error, ErrorKind, Message, NodeId, NodeKey, Payload, Response, Result, Session,
    codec::{self, BodyRef, Kind, Writer, opts},
    field,
    model::{Ack, SeqNo},
    payload::{Fault, Sink},
};

use super::{ObjectIdGenerator, SESSION, millis_of, now_millis};
use crate::bson::{self, BsonWriter};

/// Position of the value of `_id`, the first field.
const ID_AT: usize = 9;

/// A document to insert.
#[derive(Debug)]
pub(crate) struct OutgoingDocument {
    bytes: Vec<u8>,
    /// Position of the value of `createdAt`.
    created_at: Option<usize>,
}

/// A message in the outbox.
#[derive(Debug)]
pub(crate) struct QueuedMessage {
    pub(crate) from: NodeKey,
    pub(crate) document: OutgoingDocument,
    /// A broadcast of a node of this process, to be delivered to its own sockets if the server never takes it.
    pub(crate) own_broadcast: Option<Message>,
}

/// An encoded message without its sequence number.
#[derive(Debug)]
pub(crate) struct EncodedMessage {
    /// The document, still open at its end.
    writer: BsonWriter,
    created_at: Option<usize>,
    is_heartbeat: bool,
    own_broadcast: Option<Message>,
}

/// An upper bound of what the sequence number adds to a message.
const SEQ_NO_BYTES: usize = 64;

impl EncodedMessage {
    /// Encodes a message, or an answer to a node. The expensive part: done by the caller, without the lock of the
    /// outbox.
    ///
    /// # Errors
    /// `Unsupported` for a request for all rooms; `Malformed` for what BSON cannot express.
    pub(crate) fn new(from: &NodeKey, to: Option<&NodeId>, body: BodyRef<'_>, is_expiring: bool) -> Result<Self> {
        let mut writer = BsonWriter::with_capacity(512 + body.payload().map_or(0, Payload::len));
        let created_at = write_message(&mut writer, from, body, is_expiring)?;
        write_own_fields(&mut writer, to, body);
        if let BodyRef::Message(message) = body
            && let Some(trace) = message.trace()
        {
            writer.field(field!("traceparent"));
            writer.text(trace);
        }
        writer.check().map_err(unwritable)?;
        let is_heartbeat = matches!(body, BodyRef::Message(Message::Heartbeat(_)));
        Ok(Self { writer, created_at, is_heartbeat, own_broadcast: own_copy(from, body) })
    }

    /// An upper bound of the size of its document.
    pub(crate) fn document_bytes(&self) -> usize {
        self.writer.len() + SEQ_NO_BYTES
    }

    /// What it takes in the outbox.
    pub(crate) fn bytes(&self) -> usize {
        self.document_bytes() + self.own_broadcast.as_ref().map_or(0, Message::weight)
    }

    /// Completes the document with its sequence number, or a heartbeat with the high-water marks of its sender.
    pub(crate) fn finish(mut self, from: &NodeKey, seq_no: Option<SeqNo>, high_water_marks: &[SeqNo]) -> QueuedMessage {
        if let Some(seq_no) = seq_no {
            self.writer.field(field!("stamp"));
            write_seq_no(&mut self.writer, seq_no);
        }
        if self.is_heartbeat && !high_water_marks.is_empty() {
            self.writer.field(field!("counters"));
            self.writer.begin_array(None);
            high_water_marks.iter().for_each(|&mark| write_seq_no(&mut self.writer, mark));
            self.writer.end_array(None);
        }
        self.writer.end_map(None);
        let document = OutgoingDocument { bytes: self.writer.into_bytes(), created_at: self.created_at };
        QueuedMessage { from: from.clone(), document, own_broadcast: self.own_broadcast }
    }
}

/// Writes the document as an official adapter does, without its end. Returns the position of the value of `createdAt`.
fn write_message(
    writer: &mut BsonWriter,
    from: &NodeKey,
    body: BodyRef<'_>,
    is_expiring: bool,
) -> Result<Option<usize>> {
    let unsupported = || Error::new(ErrorKind::Unsupported, "listing rooms: this wire has no message for it");
    let kind = body.kind().ok_or_else(unsupported)?;
    begin(writer, if kind == Kind::Leaving { Kind::Heartbeat } else { kind }.number());
    if kind.has_data() {
        writer.field(field!("data"));
        codec::write_data(writer, body)?;
    }
    Ok(write_sender(writer, from, is_expiring))
}

fn begin(writer: &mut BsonWriter, kind: u8) {
    writer.begin_map(None);
    writer.field(field!("_id"));
    writer.object_id([0; 12]);
    writer.field(field!("type"));
    writer.number(u64::from(kind).into());
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

/// Writes the fields that only Trunkline nodes read: to which node an answer goes, that its null is `undefined`, that a
/// heartbeat is the last one, and the sender's number of room buckets.
fn write_own_fields(writer: &mut BsonWriter, to: Option<&NodeId>, body: BodyRef<'_>) {
    if let Some(to) = to {
        writer.field(field!("to"));
        writer.text(to.as_str());
    }
    match body {
        BodyRef::Response(Response {
            answer: Answer::Ack(Ack { value: None, .. }) | Answer::ServerSideEmit(None),
            ..
        }) => {
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

fn write_seq_no(writer: &mut BsonWriter, seq_no: SeqNo) {
    writer.begin_array(None);
    writer.number(u64::from(seq_no.channel.0).into());
    writer.number(seq_no.number.into());
    writer.end_array(None);
}

/// Encodes a session.
///
/// It always has a date: that of an id is exact only to the second.
pub(crate) fn session(from: &NodeKey, session: &Session) -> Result<OutgoingDocument> {
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
    end(writer, created_at)
}

/// Encodes the document that says that a session was restored, for collections that cannot delete.
pub(crate) fn tombstone(from: &NodeKey, pid: &str, is_expiring: bool) -> Result<OutgoingDocument> {
    let mut writer = BsonWriter::with_capacity(256);
    begin(&mut writer, SESSION);
    writer.field(field!("data"));
    writer.map(2, |data| {
        data.field(field!("pid"));
        data.text(pid);
        data.field(field!("tombstone"));
        data.boolean(true);
    });
    let created_at = write_sender(&mut writer, from, is_expiring);
    end(writer, created_at)
}

fn end(mut writer: BsonWriter, created_at: Option<usize>) -> Result<OutgoingDocument> {
    writer.end_map(None);
    Ok(OutgoingDocument { bytes: writer.finish().map_err(unwritable)?, created_at })
}

fn unwritable(fault: Fault) -> Error {
    malformed(match fault {
        Fault::Key => "message: a key has a zero byte in it, for which BSON has no notation".to_owned(),
        other => format!("message: {other}"),
    })
}

fn malformed(context: String) -> Error {
    Error::new(ErrorKind::Malformed, context)
}

impl OutgoingDocument {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Gives it its id and, if it has one, its date: now, when it is about to be inserted.
    pub(crate) fn identify(&mut self, ids: &mut ObjectIdGenerator) {
        let now = now_millis();
        bson::object_id(&mut self.bytes, ID_AT, ids.next_id(now));
        if let Some(at) = self.created_at {
            bson::date(&mut self.bytes, at, now.cast_signed());
        }
    }

    /// Gives it the id of another document.
    pub(crate) fn set_id(&mut self, id: [u8; 12]) {
        bson::object_id(&mut self.bytes, ID_AT, id);
    }

    /// How long ago it got its id.
    pub(crate) fn age_seconds(&self) -> u64 {
        now_millis().saturating_sub(millis_of(self.id())) / 1000
    }

    /// Its id, once it has one.
    pub(crate) fn id(&self) -> [u8; 12] {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[ID_AT..ID_AT + 12]);
        id
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Converts it into the driver's type.
    pub(crate) fn into_raw(self) -> Result<RawDocumentBuf> {
        RawDocumentBuf::from_bytes(self.bytes).map_err(|error| malformed(format!("message: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use mongodb::bson::Document;
    use trunkline_core::{Heartbeat, Namespace, Target, model::SeqChannel};

    use super::*;

    fn node() -> NodeKey {
        NodeKey { id: NodeId::new("0123456789abcdef").unwrap(), namespace: Namespace::new("/") }
    }

    const FIRST: SeqNo = SeqNo { channel: SeqChannel::ALL, number: 1 };

    fn document(message: &Message, is_expiring: bool) -> Document {
        let encoded = EncodedMessage::new(&node(), None, message.into(), is_expiring).unwrap();
        let bound = encoded.bytes();
        let (seq_no, marks): (_, &[_]) = if message.is_numbered() { (Some(FIRST), &[]) } else { (None, &[FIRST]) };
        let mut document = encoded.finish(&node(), seq_no, marks).document;
        assert!(document.len() <= bound);
        document.identify(&mut ObjectIdGenerator::new());
        Document::try_from(document.into_raw().unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_the_official_one_with_a_sequence_number() {
        let payload = Payload::event("e", &(1,)).unwrap();
        let message = Message::Broadcast { request: None, target: Target::room("r"), payload };
        let keys = |document: &Document| document.keys().cloned().collect::<Vec<_>>();
        let plain = document(&message, false);
        assert_eq!(keys(&plain), ["_id", "type", "data", "uid", "nsp", "stamp"]);
        let expiring = document(&message, true);
        assert_eq!(keys(&expiring), ["_id", "type", "data", "uid", "nsp", "createdAt", "stamp"]);
        let age = now_millis().cast_signed() - expiring.get_datetime("createdAt").unwrap().timestamp_millis();
        assert!((0..60_000).contains(&age), "{age}");
    }

    #[test]
    fn a_leave_is_a_heartbeat_to_official_adapters() {
        let leave = document(&Message::Leaving, false);
        assert_eq!((leave.get_i32("type").unwrap(), leave.get_bool("leaving").unwrap()), (2, true));
        let heartbeat = document(&Message::Heartbeat(Heartbeat::default()), false);
        assert_eq!(heartbeat.get_i32("type").unwrap(), 2);
        assert_eq!(heartbeat.get_array("counters").unwrap().len(), 1);
    }

    #[test]
    fn a_key_with_a_zero_byte_takes_no_sequence_number() {
        let payload = Payload::from_json(r#"["e",{"a\u0000":1}]"#.to_owned()).unwrap();
        let message = Message::Broadcast { request: None, target: Target::all(), payload };
        let refused = EncodedMessage::new(&node(), None, (&message).into(), false);
        assert!(refused.unwrap_err().to_string().contains("zero byte"));
    }
}
