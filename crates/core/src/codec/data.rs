//! The `data` object of a message, by the kind of message.

use std::borrow::Cow;

use super::{
    Body, BodyRef, Kind, Shape, Writer, opts,
    reader::{Reader, set},
    sockets,
};
use crate::{
    error::{Error, Result},
    field,
    model::{Ack, Answer, Heartbeat, Message, NodeId, Part, RequestId, Response, Room, SocketId, SocketInfo, Target},
    payload::{Fault, Payload, Scan},
};

/// Writes the `data` object of a message. Heartbeats and leaves have none; for them, and for what these wires do not
/// carry, nothing is written.
///
/// # Errors
/// `Malformed` for a payload whose JSON was never valid, and for an event that is no list of arguments: it would break
/// Node.js peers.
pub fn write(writer: &mut impl Writer, body: BodyRef<'_>) -> Result<()> {
    match body {
        BodyRef::Message(message) => write_message(writer, message),
        BodyRef::Response(response) => write_response(writer, response),
    }
}

fn write_message(writer: &mut impl Writer, message: &Message) -> Result<()> {
    match message {
        Message::Broadcast { request, target, payload } => write_broadcast(writer, request.as_ref(), target, payload),
        Message::Join { target, rooms } | Message::Leave { target, rooms } => {
            writer.map(2, |data| {
                write_opts(data, target);
                data.field(field!("rooms"));
                opts::write_rooms(data, rooms);
            });
            Ok(())
        }
        Message::Disconnect { target, close } => {
            writer.map(2, |data| {
                write_opts(data, target);
                data.field(field!("close"));
                data.boolean(*close);
            });
            Ok(())
        }
        Message::FetchSockets { request, target } => {
            writer.map(2, |data| {
                write_opts(data, target);
                write_request(data, request);
            });
            Ok(())
        }
        Message::ServerSideEmit { request, payload } => write_server_side_emit(writer, request.as_ref(), payload),
        Message::AllRooms { .. } | Message::Heartbeat(_) | Message::Leaving => Ok(()),
    }
}

fn write_broadcast(
    writer: &mut impl Writer,
    request: Option<&RequestId>,
    target: &Target,
    payload: &Payload,
) -> Result<()> {
    writer.map(2 + usize::from(request.is_some()), |data| {
        data.field(field!("packet"));
        data.map(2, |packet| {
            packet.field(field!("type"));
            packet.number(PACKET_TYPE.into());
            packet.field(field!("data"));
            write_event(packet, payload)
        })?;
        if let Some(request) = request {
            write_request(data, request);
        }
        write_opts(data, target);
        Ok(())
    })
}

/// Socket.IO's EVENT. Always, also with binary inside: the receiving node makes a BINARY_EVENT of it for its own
/// clients.
const PACKET_TYPE: u64 = 2;

fn write_server_side_emit(writer: &mut impl Writer, request: Option<&RequestId>, payload: &Payload) -> Result<()> {
    writer.map(1 + usize::from(request.is_some()), |data| {
        if let Some(request) = request {
            write_request(data, request);
        }
        data.field(field!("packet"));
        write_event(data, payload)
    })
}

fn write_event(writer: &mut impl Writer, payload: &Payload) -> Result<()> {
    if !payload.is_args() {
        return Err(Fault::Unexpected.at("event that is no list of arguments"));
    }
    writer.payload(payload).map_err(|fault| fault.at("payload"))
}

fn write_opts(writer: &mut impl Writer, target: &Target) {
    writer.field(field!("opts"));
    opts::write(writer, target);
}

fn write_request(writer: &mut impl Writer, request: &RequestId) {
    writer.field(field!("requestId"));
    writer.text(request.as_str());
}

fn write_response(writer: &mut impl Writer, response: &Response) -> Result<()> {
    if BodyRef::Response(response).kind().is_none() {
        return Ok(());
    }
    let fields = fields_of(&response.answer, writer.writes_undefined());
    writer
        .map(1 + fields, |data| {
            write_request(data, &response.request);
            write_answer(data, &response.answer)
        })
        .map_err(|fault| fault.at("payload"))
}

/// Number of fields of an answer beside its request.
fn fields_of(answer: &Answer, writes_undefined: bool) -> usize {
    let has_value = |value: &Option<Payload>| usize::from(value.is_some() || writes_undefined);
    match answer {
        Answer::Ack(Ack { value, socket }) => has_value(value) + usize::from(socket.is_some()),
        Answer::ServerSideEmit(value) => has_value(value),
        Answer::Sockets(_) | Answer::Rooms(_) | Answer::ClientCount(_) => 1,
        Answer::Part(part) => fields_of(&part.answer, writes_undefined) + 1,
        Answer::TooLarge(_) => 2,
    }
}

fn write_answer(writer: &mut impl Writer, answer: &Answer) -> Scan<()> {
    match answer {
        Answer::Sockets(entries) => {
            writer.field(field!("sockets"));
            writer.list(entries, sockets::write)?;
        }
        Answer::ClientCount(count) => {
            writer.field(field!("clientCount"));
            writer.number(u64::from(*count).into());
        }
        Answer::Ack(Ack { value, socket }) => {
            write_value(writer, value.as_ref())?;
            if let Some(socket) = socket {
                writer.field(field!("sid"));
                writer.text(socket.as_str());
            }
        }
        Answer::ServerSideEmit(value) => write_value(writer, value.as_ref())?,
        Answer::Part(part) => {
            write_answer(writer, &part.answer)?;
            writer.field(field!("part"));
            write_part(writer, part);
        }
        Answer::TooLarge(text) => {
            writer.field(field!("sockets"));
            opts::write_rooms(writer, &[]);
            writer.field(field!("tooLarge"));
            writer.text(text);
        }
        Answer::Rooms(_) => {}
    }
    Ok(())
}

/// Writes which part of an answer it is: `[index, isLast]`.
pub fn write_part(writer: &mut impl Writer, part: &Part) {
    writer.begin_array(Some(2));
    writer.number(u64::from(part.index).into());
    writer.boolean(part.is_last);
    writer.end_array(Some(2));
}

/// Index of a part, and whether it is the last one.
pub type PartNumber = (u32, bool);

/// Reads what [`write_part`] writes.
pub fn read_part<'a>(reader: &mut impl Reader<'a>) -> Scan<PartNumber> {
    let mut array = reader.begin_array()?;
    if !reader.next_item(&mut array)? {
        return Err(Fault::Missing);
    }
    let index = reader.number()?.as_u64().and_then(|index| u32::try_from(index).ok()).ok_or(Fault::Range)?;
    if !reader.next_item(&mut array)? {
        return Err(Fault::Missing);
    }
    let is_last = reader.boolean()?;
    if reader.next_item(&mut array)? { Err(Fault::Trailing) } else { Ok((index, is_last)) }
}

/// Reads the text of [`Answer::TooLarge`], of which a long one is cut.
pub fn read_too_large<'a>(reader: &mut impl Reader<'a>) -> Scan<String> {
    Ok(reader.text()?.chars().take(MAX_TOO_LARGE).collect())
}

/// Most characters of a text that says what is too large.
const MAX_TOO_LARGE: usize = 256;

/// The answer of sockets or rooms that was read, which may be a part of one.
#[must_use]
pub fn part_of(answer: Answer, part: Option<PartNumber>) -> Answer {
    match part {
        Some((index, is_last)) => Answer::Part(Part { index, is_last, answer: Box::new(answer) }),
        None => answer,
    }
}

fn write_value(writer: &mut impl Writer, value: Option<&Payload>) -> Scan<()> {
    if let Some(value) = value {
        writer.field(field!("packet"));
        writer.payload(value)?;
    } else if writer.writes_undefined() {
        writer.field(field!("packet"));
        writer.null();
    }
    Ok(())
}

/// Reads the `data` object of a message of known kind. `from` is the sender, which becomes the node of fetched sockets.
///
/// # Errors
/// `Malformed`, naming the field.
pub fn read<'a>(reader: &mut impl Reader<'a>, kind: Kind, from: Option<&NodeId>) -> Result<Body> {
    let (mut body, _) = read_noting_unknown(reader, kind)?;
    name_node(&mut body, from);
    Ok(body)
}

/// As [`read`], without naming the node of sockets. True if an unknown key had an array or a map, which can deceive
/// [`peek`](super::peek()).
pub(super) fn read_noting_unknown<'a>(reader: &mut impl Reader<'a>, kind: Kind) -> Result<(Body, bool)> {
    if let Some(body) = body_without_data(kind) {
        reader.skip().map_err(|fault| fault.at("data"))?;
        return Ok((body, false));
    }
    let mut fields = Fields::default();
    let mut map = reader.begin_map().map_err(|fault| fault.at("data"))?;
    while let Some(key) = reader.next_key(&mut map).map_err(|fault| fault.at("data"))? {
        fields.read(reader, kind, &key)?;
    }
    let unknown_container = fields.unknown_container;
    Ok((fields.into_body(kind)?, unknown_container))
}

/// Body of a message that needs no `data`: a leave, or a heartbeat without the fields that Trunkline adds.
pub(super) fn body_without_data(kind: Kind) -> Option<Body> {
    Some(Body::Message(match kind {
        Kind::InitialHeartbeat => Message::Heartbeat(Heartbeat { initial: true, ..Heartbeat::default() }),
        Kind::Heartbeat => Message::Heartbeat(Heartbeat::default()),
        Kind::Leaving => Message::Leaving,
        _ => return None,
    }))
}

/// Sets the node of fetched sockets: the one that answered.
pub(super) fn name_node(body: &mut Body, from: Option<&NodeId>) {
    if let Body::Response(response) = body {
        name_node_of(&mut response.answer, from);
    }
}

/// As [`name_node`].
pub fn name_node_of(answer: &mut Answer, from: Option<&NodeId>) {
    match answer {
        Answer::Sockets(sockets) => sockets.iter_mut().for_each(|socket| socket.node = from.cloned()),
        Answer::Part(part) => name_node_of(&mut part.answer, from),
        _ => {}
    }
}

/// Fields of the `data` objects of all kinds; which ones are read depends on the kind.
#[derive(Default)]
struct Fields {
    packet: Option<Payload>,
    target: Option<Target>,
    request: Option<Option<RequestId>>,
    rooms: Option<Vec<Room>>,
    close: Option<bool>,
    count: Option<u32>,
    sockets: Option<Vec<SocketInfo>>,
    part: Option<PartNumber>,
    too_large: Option<String>,
    /// What a client or server answers; `None` inside for what a payload cannot hold.
    value: Option<Option<Payload>>,
    /// Socket that acknowledges, which only our own nodes name.
    socket: Option<Option<SocketId>>,
    unknown_container: bool,
}

impl Fields {
    fn read<'a>(&mut self, reader: &mut impl Reader<'a>, kind: Kind, key: &str) -> Result<()> {
        let (name, read) = match (key, kind) {
            ("requestId", _) => {
                ("data.requestId", read_request(reader).and_then(|request| set(&mut self.request, request)))
            }
            ("packet", Kind::Broadcast) => {
                ("data.packet", read_packet(reader).and_then(|packet| set(&mut self.packet, packet)))
            }
            ("packet", Kind::ServerSideEmit) => {
                ("data.packet", read_event(reader).and_then(|packet| set(&mut self.packet, packet)))
            }
            ("packet", Kind::ServerSideEmitAnswer | Kind::Ack) => {
                ("data.packet", reader.lenient(Reader::payload).and_then(|value| set(&mut self.value, value)))
            }
            ("opts", Kind::Broadcast | Kind::Join | Kind::Leave | Kind::Disconnect | Kind::FetchSockets) => {
                let target = opts::read(reader)?;
                ("data.opts", set(&mut self.target, target))
            }
            ("rooms", Kind::Join | Kind::Leave) => {
                ("data.rooms", opts::read_rooms(reader).and_then(|rooms| set(&mut self.rooms, rooms)))
            }
            ("close", Kind::Disconnect) => {
                ("data.close", opts::read_condition(reader).and_then(|close| set(&mut self.close, close)))
            }
            ("clientCount", Kind::ClientCount) => {
                ("data.clientCount", read_count(reader).and_then(|count| set(&mut self.count, count)))
            }
            ("sid", Kind::Ack) => {
                ("data.sid", reader.lenient(Reader::text).and_then(|id| set(&mut self.socket, socket(id))))
            }
            ("part", Kind::Sockets) => ("data.part", read_part(reader).and_then(|part| set(&mut self.part, part))),
            ("tooLarge", Kind::Sockets) => {
                ("data.tooLarge", read_too_large(reader).and_then(|text| set(&mut self.too_large, text)))
            }
            ("sockets", Kind::Sockets) => {
                let sockets = sockets::read_all(reader)?;
                ("data.sockets", set(&mut self.sockets, sockets))
            }
            _ => {
                self.unknown_container |= matches!(reader.shape(), Ok(Shape::Map | Shape::Array));
                ("data.*", reader.skip())
            }
        };
        read.map_err(|fault| fault.at(name))
    }

    fn into_body(self, kind: Kind) -> Result<Body> {
        Ok(match kind {
            Kind::Sockets | Kind::ServerSideEmitAnswer | Kind::ClientCount | Kind::Ack => {
                Body::Response(self.into_response(kind)?)
            }
            _ => Body::Message(self.into_message(kind)?),
        })
    }

    fn into_message(self, kind: Kind) -> Result<Message> {
        let request = self.request.flatten();
        let target = || required(self.target, "data.opts");
        Ok(match kind {
            Kind::Broadcast => {
                Message::Broadcast { request, target: target()?, payload: required(self.packet, "data.packet")? }
            }
            Kind::Join => Message::Join { target: target()?, rooms: required(self.rooms, "data.rooms")? },
            Kind::Leave => Message::Leave { target: target()?, rooms: required(self.rooms, "data.rooms")? },
            Kind::Disconnect => Message::Disconnect { target: target()?, close: self.close.unwrap_or_default() },
            Kind::FetchSockets => {
                Message::FetchSockets { request: required(request, "data.requestId")?, target: target()? }
            }
            _ => Message::ServerSideEmit { request, payload: required(self.packet, "data.packet")? },
        })
    }

    fn into_response(self, kind: Kind) -> Result<Response> {
        let answer = match kind {
            Kind::Sockets => match self.too_large {
                Some(text) => Answer::TooLarge(text),
                None => part_of(Answer::Sockets(required(self.sockets, "data.sockets")?), self.part),
            },
            Kind::ClientCount => Answer::ClientCount(required(self.count, "data.clientCount")?),
            Kind::Ack => Answer::Ack(Ack::new(self.value.flatten()).with_socket(self.socket.flatten())),
            _ => Answer::ServerSideEmit(self.value.flatten()),
        };
        Ok(Response { request: required(self.request.flatten(), "data.requestId")?, answer })
    }
}

fn required<T>(field: Option<T>, name: &str) -> Result<T, Error> {
    field.ok_or_else(|| Fault::Missing.at(name))
}

/// Reads a packet, `{type, data}`, of which only the data is kept. The type is EVENT whatever it says: Node.js takes
/// type 5 (BINARY_EVENT) for broken, here it is what was meant. An id would make clients believe that an
/// acknowledgement is wanted.
fn read_packet<'a>(reader: &mut impl Reader<'a>) -> Scan<Payload> {
    let mut data = None;
    let mut map = reader.begin_map()?;
    while let Some(key) = reader.next_key(&mut map)? {
        match &*key {
            "data" => set(&mut data, read_event(reader)?)?,
            _ => reader.skip()?,
        }
    }
    data.ok_or(Fault::Missing)
}

/// Reads `[event, ...arguments]`.
fn read_event<'a>(reader: &mut impl Reader<'a>) -> Scan<Payload> {
    if reader.shape()? != Shape::Array {
        return Err(Fault::Unexpected);
    }
    reader.payload()
}

/// Reads a request id; `None` for null, which no node could answer.
fn read_request<'a>(reader: &mut impl Reader<'a>) -> Scan<Option<RequestId>> {
    reader.optional(|reader| RequestId::new(reader.text()?).map_err(|_| Fault::TooLong))
}

/// The id of a socket; `None` for what is none.
fn socket(id: Option<Cow<'_, str>>) -> Option<SocketId> {
    SocketId::new(id?.as_ref()).ok()
}

fn read_count<'a>(reader: &mut impl Reader<'a>) -> Scan<u32> {
    reader.number()?.as_u64().and_then(|count| u32::try_from(count).ok()).ok_or(Fault::Range)
}
