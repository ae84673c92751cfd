//! Encoder for messages and answers in the format of `@socket.io/redis-adapter`.

use trunkline_core::{
    Error, ErrorKind, NodeId, NodeKey, Payload, RequestId, Result, Room, Target,
    codec::{self, EncodedMessage, Field, Format, Writer, opts, sockets},
    field,
    model::{Ack, Answer, Heartbeat, Message, Response, SeqNo},
    payload::{Rules, Scan, Sink as _, json, msgpack},
};

use super::kind;

/// An encoded message, but for its number.
#[derive(Debug)]
pub(crate) enum Encoded {
    /// `[uid, packet, opts]`, where traces are on with their context behind it.
    Broadcast(Vec<u8>),
    /// `{uid, requestId, type, …}`
    Request(EncodedMessage),
}

/// Head of the number of a broadcast: MessagePack binary of ten bytes, which is found from the end.
pub(super) const SEQ_NO_MARK: [u8; 2] = [0xc4, 10];

/// Size of the number of a broadcast, mark included.
pub(super) const SEQ_NO_BYTES: usize = 12;

/// First byte of a broadcast of three elements, to which a trace context and the number are added, one more each.
const BROADCAST: u8 = 0x93;

/// First byte of a broadcast that may end in a number.
pub(super) const MAY_HAVE_SEQ_NO: std::ops::RangeInclusive<u8> = BROADCAST + 1..=BROADCAST + 2;

impl Encoded {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Broadcast(bytes) => bytes.len(),
            Self::Request(encoded) => encoded.len(),
        }
    }

    /// Adds the number, and to a heartbeat the high-water marks of its sender.
    pub(crate) fn finish(self, seq_no: Option<SeqNo>, marks: &[SeqNo]) -> Vec<u8> {
        match self {
            Self::Request(encoded) => encoded.finish(seq_no, marks),
            Self::Broadcast(mut bytes) => {
                if let Some(seq_no) = seq_no {
                    bytes[0] += 1;
                    bytes.extend(SEQ_NO_MARK);
                    bytes.extend(seq_no.channel.0.to_be_bytes());
                    bytes.extend(seq_no.number.to_be_bytes());
                }
                bytes
            }
        }
    }
}

/// Encodes a message.
pub(crate) fn message(from: &NodeKey, message: &Message) -> Result<Encoded> {
    match message {
        Message::Broadcast { request: None, target, payload } => {
            broadcast(from, target, payload).map(Encoded::Broadcast)
        }
        Message::Broadcast { request: Some(_), .. } => msgpack_request(from, message),
        Message::ServerSideEmit { payload, .. } if payload.has_binary() => msgpack_request(from, message),
        _ => {
            let mut out = Vec::with_capacity(256);
            let fields = request(&mut json::Writer::new(&mut out, json::Binary::Inline), from, message)?;
            Ok(Encoded::Request(EncodedMessage::of_map(Format::Json, out, fields, is_heartbeat(message))))
        }
    }
}

fn msgpack_request(from: &NodeKey, message: &Message) -> Result<Encoded> {
    let mut out = Vec::with_capacity(256);
    let fields = request(&mut msgpack::Writer::new(&mut out, Rules::Notepack), from, message)?;
    Ok(Encoded::Request(EncodedMessage::of_map(Format::MsgPack(Rules::Notepack), out, fields, is_heartbeat(message))))
}

fn is_heartbeat(message: &Message) -> bool {
    matches!(message, Message::Heartbeat(_))
}

fn broadcast(from: &NodeKey, target: &Target, payload: &Payload) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(96 + payload.len() + SEQ_NO_BYTES);
    let mut writer = msgpack::Writer::new(&mut out, Rules::Notepack);
    writer.begin_array(Some(3));
    writer.text(from.id.as_str());
    packet(&mut writer, from, payload)?;
    if from.id.is_emitter() {
        emitter_opts(&mut writer, target)
    } else {
        opts::write(&mut writer, target)
    }
    debug_assert_eq!(out[0], BROADCAST);
    if let Some(trace) = &target.trace {
        msgpack::Writer::new(&mut out, Rules::Notepack).text(trace);
        out[0] += 1;
    }
    Ok(out)
}

fn packet(writer: &mut impl Writer, from: &NodeKey, payload: &Payload) -> Result<()> {
    if !payload.is_args() {
        return Err(Error::new(ErrorKind::Malformed, "event that is no list of arguments"));
    }
    writer
        .map(3, |packet| {
            packet.field(field!("type"));
            packet.number(2_u64.into());
            packet.field(field!("data"));
            let written = packet.payload(payload);
            packet.field(field!("nsp"));
            packet.text(from.namespace.as_str());
            written
        })
        .map_err(|fault| fault.at("payload"))
}

/// Writes a target in the field order of `@socket.io/redis-emitter`.
fn emitter_opts(writer: &mut impl Writer, target: &Target) {
    writer.map(3, |opts| {
        opts.field(field!("rooms"));
        opts::write_rooms(opts, &target.rooms);
        opts.field(field!("flags"));
        opts::write_flags(opts, &target.flags);
        opts.field(field!("except"));
        opts::write_rooms(opts, &target.except);
    });
}

/// Writes a request without its end, and returns the number of its fields.
fn request(writer: &mut impl Writer, from: &NodeKey, message: &Message) -> Result<usize> {
    let mut map = Map::begin(writer);
    let is_emitter = from.id.is_emitter();
    let names_sender = !is_emitter || matches!(message, Message::ServerSideEmit { .. });
    if names_sender {
        map.text(field!("uid"), from.id.as_str());
    }
    if let Some(request) = message.request() {
        map.text(field!("requestId"), request.as_str());
    }
    map.number(field!("type"), kind::of(message));
    match message {
        Message::Broadcast { target, payload, .. } => {
            packet(map.field(field!("packet")), from, payload)?;
            opts::write(map.field(field!("opts")), target);
            if let Some(trace) = &target.trace {
                map.text(field!("traceparent"), trace);
            }
        }
        Message::Join { target, rooms } | Message::Leave { target, rooms } => {
            short_opts(map.field(field!("opts")), target);
            opts::write_rooms(map.field(field!("rooms")), rooms);
        }
        Message::Disconnect { target, close } => {
            short_opts(map.field(field!("opts")), target);
            map.field(field!("close")).boolean(*close);
        }
        Message::FetchSockets { target, .. } => short_opts(map.field(field!("opts")), target),
        Message::ServerSideEmit { payload, .. } => {
            if !payload.is_args() {
                return Err(Error::new(ErrorKind::Malformed, "event that is no list of arguments"));
            }
            map.field(field!("data")).payload(payload).map_err(|fault| fault.at("payload"))?;
        }
        Message::AllRooms { .. } | Message::Heartbeat(Heartbeat { .. }) | Message::Leaving => {}
    }
    Ok(map.fields)
}

/// Writes a target without flags, which requests do not have.
fn short_opts(writer: &mut impl Writer, target: &Target) {
    writer.map(2, |opts| {
        opts.field(field!("rooms"));
        opts::write_rooms(opts, &target.rooms);
        opts.field(field!("except"));
        opts::write_rooms(opts, &target.except);
    });
}

/// A map whose number of fields is known only in the end.
struct Map<'a, W> {
    writer: &'a mut W,
    fields: usize,
}

impl<'a, W: Writer> Map<'a, W> {
    fn begin(writer: &'a mut W) -> Self {
        writer.begin_map(Some(0));
        Self { writer, fields: 0 }
    }

    /// The writer, for the value of a field.
    fn field(&mut self, field: Field) -> &mut W {
        self.fields += 1;
        self.writer.field(field);
        self.writer
    }

    fn text(&mut self, field: Field, text: &str) {
        self.field(field).text(text);
    }

    fn number(&mut self, field: Field, number: u64) {
        self.field(field).number(number.into());
    }
}

/// Encodes an answer. It may name the node that gives it, which our own nodes read. With `ids_only`, sockets are
/// written as their ids, as the requests of old nodes (type 0) ask for.
pub(crate) fn response(from: Option<&NodeId>, response: &Response, ids_only: bool) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(128 + response.weight());
    let (format, fields) = if is_msgpack(&response.answer, ids_only) {
        let mut writer = msgpack::Writer::new(&mut out, Rules::Notepack);
        (Format::MsgPack(Rules::Notepack), answer(&mut writer, from, response, ids_only)?)
    } else {
        let mut writer = json::Writer::new(&mut out, json::Binary::Inline);
        (Format::Json, answer(&mut writer, from, response, ids_only)?)
    };
    Ok(EncodedMessage::of_map(format, out, fields, false).finish(None, &[]))
}

fn is_msgpack(answer: &Answer, ids_only: bool) -> bool {
    match answer {
        Answer::Ack(_) => true,
        Answer::ServerSideEmit(payload) => payload.as_ref().is_some_and(Payload::has_binary),
        Answer::Sockets(sockets) => {
            !ids_only
                && sockets
                    .iter()
                    .flat_map(|socket| socket.handshake.iter().chain(&socket.data))
                    .any(Payload::has_binary)
        }
        Answer::Part(part) => is_msgpack(&part.answer, ids_only),
        Answer::Rooms(_) | Answer::ClientCount(_) | Answer::TooLarge(_) => false,
    }
}

/// Encodes the confirmation that an old node waits for after a request concerning one socket.
pub(crate) fn done(request: &RequestId) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut writer = json::Writer::new(&mut out, json::Binary::Inline);
    let mut map = Map::begin(&mut writer);
    map.text(field!("requestId"), request.as_str());
    let fields = map.fields;
    EncodedMessage::of_map(Format::Json, out, fields, false).finish(None, &[])
}

fn answer(writer: &mut impl Writer, from: Option<&NodeId>, response: &Response, ids_only: bool) -> Result<usize> {
    let mut map = Map::begin(writer);
    let kind = kind::of_answer(&response.answer);
    if let Some(kind) = kind {
        map.number(field!("type"), kind);
    }
    map.text(field!("requestId"), response.request.as_str());
    write_answer(&mut map, &response.answer, ids_only).map_err(|fault| fault.at("payload"))?;
    if let Some(from) = from {
        map.text(field!("uid"), from.as_str());
    }
    Ok(map.fields)
}

fn write_answer<W: Writer>(map: &mut Map<'_, W>, answer: &Answer, ids_only: bool) -> Scan<()> {
    match answer {
        Answer::Sockets(found) if ids_only => {
            let ids: Vec<_> = found.iter().map(|socket| Room::new(socket.id.as_str())).collect();
            opts::write_rooms(map.field(field!("sockets")), &ids);
        }
        Answer::Sockets(found) => map.field(field!("sockets")).list(found, sockets::write)?,
        Answer::Rooms(rooms) => opts::write_rooms(map.field(field!("rooms")), rooms),
        Answer::ServerSideEmit(Some(value)) => map.field(field!("data")).payload(value)?,
        Answer::Ack(Ack { value, socket }) => {
            if let Some(value) = value {
                map.field(field!("packet")).payload(value)?;
            }
            if let Some(socket) = socket {
                map.text(field!("sid"), socket.as_str());
            }
        }
        Answer::ClientCount(count) => map.number(field!("clientCount"), u64::from(*count)),
        Answer::Part(part) => {
            write_answer(map, &part.answer, ids_only)?;
            codec::write_part(map.field(field!("part")), part);
        }
        Answer::TooLarge(text) => {
            opts::write_rooms(map.field(field!("sockets")), &[]);
            map.text(field!("tooLarge"), text);
        }
        Answer::ServerSideEmit(None) => {}
    }
    Ok(())
}
