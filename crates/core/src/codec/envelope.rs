//! Whole messages: `{type, data, uid, nsp}`, and the fields that Trunkline adds: `stamp`, `buckets`, `counters`, and
//! where traces are on `traceparent`.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    Body, BodyRef, JsonReader, Kind, MsgPackReader, Shape, Writer, data, peek,
    reader::{Reader, set, whole},
    text,
};
use crate::{
    error::{Error, ErrorKind, Result},
    field,
    model::{Heartbeat, Message, Namespace, NodeId, SeqChannel, SeqNo},
    payload::{Fault, Scan},
};

/// A decoded message with its sender, namespace and sequence number.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// Node that sent the message; official peers always name it.
    pub from: Option<NodeId>,
    /// Namespace of the message; the PostgreSQL emitter does not name it.
    pub namespace: Option<Namespace>,
    /// Sequence number, if a Trunkline node sent the message.
    pub seq_no: Option<SeqNo>,
    /// Content of the message.
    pub body: Body,
}

/// Decodes a message: JSON if it begins with a brace, MessagePack otherwise. Payloads are slices of `bytes` and keep
/// all of it in memory.
///
/// # Errors
/// `Unsupported` for an unknown type of message; `Malformed`, naming the field, for everything else.
pub fn decode(bytes: &Bytes) -> Result<Decoded> {
    let (decoded, unknown_container) = if bytes.first() == Some(&b'{') {
        whole(JsonReader::new(&text(bytes.clone())?), read)?
    } else {
        whole(MsgPackReader::new(bytes), read)?
    };
    if unknown_container && let Some(header) = peek(bytes) {
        header.check(&decoded)?;
    }
    Ok(decoded)
}

/// Writes a message but for the end of its map, so that fields can be added.
pub(super) fn write<W: Writer>(
    writer: &mut W,
    kind: Kind,
    from: &NodeId,
    namespace: &Namespace,
    body: BodyRef<'_>,
) -> Result<()> {
    writer.begin_map(Some(field_count(kind, body)));
    writer.field(field!("type"));
    writer.number(u64::from(kind.number()).into());
    if kind.has_data() {
        writer.field(field!("data"));
        data::write(writer, body)?;
    }
    writer.field(field!("uid"));
    writer.text(from.as_str());
    writer.field(field!("nsp"));
    writer.text(namespace.as_str());
    if let Some(trace) = body.trace() {
        writer.field(field!("traceparent"));
        writer.text(trace);
    }
    Ok(())
}

/// Number of fields of a message, without those that are added when it is sent.
pub(super) fn field_count(kind: Kind, body: BodyRef<'_>) -> usize {
    3 + usize::from(kind.has_data()) + usize::from(body.trace().is_some())
}

fn read<'a, R: Reader<'a>>(reader: &mut R) -> Result<(Decoded, bool)> {
    let mut envelope = Envelope::default();
    let mut map = reader.begin_map().map_err(|fault| fault.at("message"))?;
    while let Some(key) = reader.next_key(&mut map).map_err(|fault| fault.at("message"))? {
        envelope.read(reader, &key)?;
    }
    envelope.into_decoded()
}

/// Fields of a message, as far as they are read.
struct Envelope<R> {
    kind: Option<Kind>,
    data: Option<Data<R>>,
    from: Option<Option<NodeId>>,
    namespace: Option<Option<Namespace>>,
    seq_no: Option<Option<SeqNo>>,
    high_water_marks: Option<Option<Vec<SeqNo>>>,
    buckets: Option<Option<u16>>,
    trace: Option<Option<Arc<str>>>,
    unknown_container: bool,
}

impl<R> Default for Envelope<R> {
    fn default() -> Self {
        Self {
            kind: None,
            data: None,
            from: None,
            namespace: None,
            seq_no: None,
            high_water_marks: None,
            buckets: None,
            trace: None,
            unknown_container: false,
        }
    }
}

/// State of the `data` field of a message.
enum Data<R> {
    /// Decoded.
    Body(Body),
    /// Skipped, because the type comes later in the message; the reader stands at its beginning.
    Skipped(R),
    /// Present, but the type has none.
    Ignored,
}

impl<'a, R: Reader<'a>> Envelope<R> {
    fn read(&mut self, reader: &mut R, key: &str) -> Result<()> {
        let (name, read) = match key {
            "type" => {
                let kind = read_kind(reader)?;
                ("type", set(&mut self.kind, kind))
            }
            "data" => {
                let data = self.read_data(reader)?;
                ("data", set(&mut self.data, data))
            }
            "uid" => ("uid", reader.optional(read_node).and_then(|uid| set(&mut self.from, uid))),
            "nsp" => ("nsp", reader.optional(read_namespace).and_then(|nsp| set(&mut self.namespace, nsp))),
            "stamp" => ("stamp", reader.lenient(read_seq_no).and_then(|seq_no| set(&mut self.seq_no, seq_no))),
            "counters" => (
                "counters",
                reader.lenient(read_high_water_marks).and_then(|read| set(&mut self.high_water_marks, read)),
            ),
            "buckets" => ("buckets", reader.lenient(read_buckets).and_then(|read| set(&mut self.buckets, read))),
            "traceparent" => ("traceparent", reader.lenient(read_trace).and_then(|read| set(&mut self.trace, read))),
            _ => {
                self.unknown_container |= matches!(reader.shape(), Ok(Shape::Map | Shape::Array));
                ("message", reader.skip())
            }
        };
        read.map_err(|fault| fault.at(name))
    }

    fn read_data(&mut self, reader: &mut R) -> Result<Data<R>> {
        let at_data = reader.clone();
        match self.kind {
            Some(kind) if kind.has_data() => {
                let (body, unknown_container) = data::read_noting_unknown(reader, kind)?;
                self.unknown_container |= unknown_container;
                return Ok(Data::Body(body));
            }
            _ => reader.skip().map_err(|fault| fault.at("data"))?,
        }
        Ok(if self.kind.is_none() { Data::Skipped(at_data) } else { Data::Ignored })
    }

    fn into_decoded(mut self) -> Result<(Decoded, bool)> {
        let kind = self.kind.ok_or_else(|| Fault::Missing.at("type"))?;
        let mut body = self.take_body(kind)?;
        let from = self.from.flatten();
        data::name_node(&mut body, from.as_ref());
        if let Body::Message(message) = &mut body {
            message.set_trace(self.trace.flatten());
        }
        if let Body::Message(Message::Heartbeat(heartbeat)) = &mut body {
            let high_water_marks = self.high_water_marks.flatten().unwrap_or_default();
            *heartbeat = Heartbeat { high_water_marks, buckets: self.buckets.flatten(), ..*heartbeat };
        }
        let decoded = Decoded { from, namespace: self.namespace.flatten(), seq_no: self.seq_no.flatten(), body };
        Ok((decoded, self.unknown_container))
    }

    fn take_body(&mut self, kind: Kind) -> Result<Body> {
        if let Some(body) = data::body_without_data(kind) {
            return Ok(body);
        }
        match self.data.take() {
            Some(Data::Body(body)) => Ok(body),
            Some(Data::Skipped(mut at_data)) => {
                let (body, unknown_container) = data::read_noting_unknown(&mut at_data, kind)?;
                self.unknown_container |= unknown_container;
                Ok(body)
            }
            Some(Data::Ignored) | None => Err(Fault::Missing.at("data")),
        }
    }
}

pub(super) fn read_kind<'a>(reader: &mut impl Reader<'a>) -> Result<Kind> {
    let number = reader.number().and_then(|number| number.as_u64().ok_or(Fault::Range));
    let number = number.map_err(|fault| fault.at("type"))?;
    Kind::from_number(number)
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("message of unknown type {number}")))
}

pub(super) fn read_node<'a>(reader: &mut impl Reader<'a>) -> Scan<NodeId> {
    NodeId::new(reader.text()?).map_err(|_| Fault::TooLong)
}

pub(super) fn read_namespace<'a>(reader: &mut impl Reader<'a>) -> Scan<Namespace> {
    Ok(Namespace::new(&reader.text()?))
}

/// Reads the sequence number of a message, `[channel, number]`.
pub fn read_seq_no<'a>(reader: &mut impl Reader<'a>) -> Scan<SeqNo> {
    let mut pair = reader.begin_array()?;
    let mut item = |reader: &mut _| match Reader::next_item(reader, &mut pair)? {
        true => Reader::number(reader)?.as_u64().map(Some).ok_or(Fault::Range),
        false => Ok(None),
    };
    match (item(reader)?, item(reader)?, item(reader)?) {
        (Some(channel), Some(number), None) => {
            let channel = SeqChannel(u16::try_from(channel).map_err(|_| Fault::Range)?);
            Ok(SeqNo { channel, number })
        }
        _ => Err(Fault::Missing),
    }
}

/// Reads the high-water marks of a sender, `[[channel, number], …]`: the last sequence number on each of its channels.
pub fn read_high_water_marks<'a>(reader: &mut impl Reader<'a>) -> Scan<Vec<SeqNo>> {
    let mut high_water_marks = Vec::new();
    reader.items(|reader| {
        high_water_marks.push(read_seq_no(reader)?);
        Ok(())
    })?;
    Ok(high_water_marks)
}

/// Reads a trace context. A text that is too long for one is refused.
pub fn read_trace<'a>(reader: &mut impl Reader<'a>) -> Scan<Arc<str>> {
    let text = reader.text()?;
    if text.len() <= MAX_TRACE_BYTES { Ok(text.as_ref().into()) } else { Err(Fault::TooLong) }
}

/// Longest trace context. One of W3C has 55 bytes.
const MAX_TRACE_BYTES: usize = 256;

fn read_buckets<'a>(reader: &mut impl Reader<'a>) -> Scan<u16> {
    reader.number()?.as_u64().and_then(|buckets| u16::try_from(buckets).ok()).ok_or(Fault::Range)
}
