//! Decoder for messages and answers in the format of `@socket.io/redis-adapter`.

use std::sync::Arc;

use bytes::Bytes;
use trunkline_core::{
    Error, ErrorKind, Namespace, NodeId, Payload, RequestId, Result, Room, SocketId, SocketInfo, Target,
    codec::{self, Container, JsonReader, MsgPackReader, Reader, Shape, opts, set, sockets},
    model::{Ack, Answer, Heartbeat, Message, Response, SeqChannel, SeqNo},
    payload::{ByteString, Fault, Scan},
};

use super::{
    encode::{MAY_HAVE_SEQ_NO, SEQ_NO_BYTES, SEQ_NO_MARK},
    kind,
};

// --- broadcasts ---

/// A broadcast: `[uid, packet, opts]`, and behind it perhaps a trace context and our number.
#[derive(Debug, PartialEq)]
pub(crate) struct Broadcast {
    pub(crate) from: Option<NodeId>,
    pub(crate) namespace: Namespace,
    pub(crate) target: Target,
    pub(crate) payload: Payload,
}

/// Sender of a broadcast, read without looking at the rest; `None` if it names none.
pub(crate) fn sender(bytes: &Bytes) -> Option<NodeId> {
    let mut reader = MsgPackReader::new(bytes);
    let mut array = reader.begin_array().ok()?;
    if !reader.next_item(&mut array).ok()? {
        return None;
    }
    NodeId::new(reader.text().ok()?).ok()
}

/// Sequence number behind a broadcast. Nothing that Node.js sends ends like this: the mark is not UTF-8, and no number
/// is that long.
pub(crate) fn seq_no(bytes: &[u8]) -> Option<SeqNo> {
    bytes.first().filter(|first| MAY_HAVE_SEQ_NO.contains(first))?;
    let tail = bytes.get(bytes.len().checked_sub(SEQ_NO_BYTES)?..)?;
    let (mark, rest) = tail.split_first_chunk()?;
    let (channel, number) = rest.split_first_chunk()?;
    (*mark == SEQ_NO_MARK).then_some(())?;
    let number = u64::from_be_bytes(number.try_into().ok()?);
    Some(SeqNo { channel: SeqChannel(u16::from_be_bytes(*channel)), number })
}

/// Decodes a broadcast.
pub(crate) fn broadcast(bytes: &Bytes) -> Result<Broadcast> {
    let mut reader = MsgPackReader::new(bytes);
    let reader = &mut reader;
    let mut array = reader.begin_array().map_err(|fault| fault.at("broadcast"))?;
    let from = item(reader, &mut array, |reader| reader.optional(node)).map_err(|fault| fault.at("uid"))?;
    let (payload, namespace) = item(reader, &mut array, packet).map_err(|fault| fault.at("packet"))?;
    if !reader.next_item(&mut array).map_err(|fault| fault.at("broadcast"))? {
        return Err(Fault::Missing.at("opts"));
    }
    let mut target = opts::read(reader)?;
    while reader.next_item(&mut array).map_err(|fault| fault.at("broadcast"))? {
        match reader.shape().map_err(|fault| fault.at("broadcast"))? {
            Shape::Text => target.trace = reader.lenient(codec::read_trace).map_err(|fault| fault.at("broadcast"))?,
            _ => reader.skip().map_err(|fault| fault.at("broadcast"))?,
        }
    }
    reader.end().map_err(|fault| fault.at("broadcast"))?;
    Ok(Broadcast { from, namespace, target, payload })
}

fn item<'a, R: Reader<'a>, T>(reader: &mut R, array: &mut Container, read: impl FnOnce(&mut R) -> Scan<T>) -> Scan<T> {
    if reader.next_item(array)? { read(reader) } else { Err(Fault::Missing) }
}

fn node<'a>(reader: &mut impl Reader<'a>) -> Scan<NodeId> {
    NodeId::new(reader.text()?).map_err(|_| Fault::TooLong)
}

/// Reads a packet `{type, data, nsp}`. One without namespace is for `/`; one with an id or another type is accepted as
/// an event.
fn packet<'a>(reader: &mut impl Reader<'a>) -> Scan<(Payload, Namespace)> {
    let (mut data, mut namespace) = (None, None);
    let mut map = reader.begin_map()?;
    while let Some(key) = reader.next_key(&mut map)? {
        match &*key {
            "data" => set(&mut data, event(reader)?)?,
            "nsp" => set(&mut namespace, reader.optional(|reader| Ok(Namespace::new(&reader.text()?)))?)?,
            _ => reader.skip()?,
        }
    }
    let namespace = namespace.flatten().unwrap_or_else(|| Namespace::new("/"));
    Ok((data.ok_or(Fault::Missing)?, namespace))
}

fn event<'a>(reader: &mut impl Reader<'a>) -> Scan<Payload> {
    if reader.shape()? == Shape::Array { reader.payload() } else { Err(Fault::Unexpected) }
}

// --- requests ---

/// A request.
#[derive(Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) from: Option<NodeId>,
    pub(crate) seq_no: Option<SeqNo>,
    /// Namespace of the packet, for broadcasts.
    pub(crate) namespace: Option<Namespace>,
    pub(crate) message: Message,
    /// Set for the forms of requests that only old nodes use.
    pub(crate) legacy: Option<Legacy>,
}

/// The answer that an old node expects.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Legacy {
    /// Socket ids only.
    SocketIds,
    /// A confirmation by the node that has this socket.
    Confirmation(SocketId, RequestId),
}

/// Decodes a request, JSON or MessagePack.
pub(crate) fn request(bytes: &Bytes) -> Result<Request> {
    // Its requests are arrays, and it uses the same channel under the same prefix.
    if bytes.first().is_some_and(|first| first >> 4 == 0x9) {
        return Err(Error::malformed("request: an array, as socketioxide-redis sends them"));
    }
    let read_json = |reader: &mut JsonReader<'_>| RequestFields::read(reader);
    let read_msgpack = |reader: &mut MsgPackReader<'_>| RequestFields::read(reader);
    either(bytes, "request", read_json, read_msgpack)?.into_request()
}

/// Reads a whole message in one of the two encodings.
fn either<T>(
    bytes: &Bytes,
    what: &str,
    read_json: impl FnOnce(&mut JsonReader<'_>) -> Result<T>,
    read_msgpack: impl FnOnce(&mut MsgPackReader<'_>) -> Result<T>,
) -> Result<T> {
    if bytes.first() == Some(&b'{') {
        let text = ByteString::try_from(bytes.clone())
            .map_err(|error| Error::new(ErrorKind::Malformed, format!("{what}: not UTF-8")).with_source(error))?;
        let mut reader = JsonReader::new(&text);
        let value = read_json(&mut reader)?;
        reader.end().map_err(|fault| fault.at(what))?;
        Ok(value)
    } else {
        let mut reader = MsgPackReader::new(bytes);
        let value = read_msgpack(&mut reader)?;
        reader.end().map_err(|fault| fault.at(what))?;
        Ok(value)
    }
}

/// The fields of all requests.
#[derive(Default)]
struct RequestFields {
    kind: Option<u64>,
    from: Option<Option<NodeId>>,
    request: Option<Option<RequestId>>,
    target: Option<Target>,
    rooms: Option<Vec<Room>>,
    room: Option<Room>,
    socket: Option<SocketId>,
    close: Option<bool>,
    data: Option<Payload>,
    packet: Option<(Payload, Namespace)>,
    seq_no: Option<Option<SeqNo>>,
    high_water_marks: Option<Option<Vec<SeqNo>>>,
    trace: Option<Option<Arc<str>>>,
}

impl RequestFields {
    fn read<'a, R: Reader<'a>>(reader: &mut R) -> Result<Self> {
        let mut fields = Self::default();
        let mut map = reader.begin_map().map_err(|fault| fault.at("request"))?;
        while let Some(key) = reader.next_key(&mut map).map_err(|fault| fault.at("request"))? {
            fields.read_field(reader, &key)?;
        }
        Ok(fields)
    }

    fn read_field<'a, R: Reader<'a>>(&mut self, reader: &mut R, key: &str) -> Result<()> {
        let (name, read) = match key {
            "type" => ("type", whole_number(reader).and_then(|kind| set(&mut self.kind, kind))),
            "uid" => ("uid", reader.optional(node).and_then(|from| set(&mut self.from, from))),
            "requestId" => {
                ("requestId", reader.optional(request_id).and_then(|request| set(&mut self.request, request)))
            }
            "opts" => {
                let target = opts::read(reader)?;
                ("opts", set(&mut self.target, target))
            }
            "rooms" => ("rooms", opts::read_rooms(reader).and_then(|rooms| set(&mut self.rooms, rooms))),
            "room" => ("room", opts::read_room(reader).and_then(|room| set(&mut self.room, room))),
            "sid" => ("sid", sockets::read_id(reader).and_then(|socket| set(&mut self.socket, socket))),
            "close" => ("close", opts::read_condition(reader).and_then(|close| set(&mut self.close, close))),
            "data" => ("data", event(reader).and_then(|data| set(&mut self.data, data))),
            "packet" => ("packet", packet(reader).and_then(|packet| set(&mut self.packet, packet))),
            "stamp" => ("stamp", reader.lenient(codec::read_seq_no).and_then(|seq_no| set(&mut self.seq_no, seq_no))),
            "counters" => (
                "counters",
                reader.lenient(codec::read_high_water_marks).and_then(|read| set(&mut self.high_water_marks, read)),
            ),
            "traceparent" => {
                ("traceparent", reader.lenient(codec::read_trace).and_then(|trace| set(&mut self.trace, trace)))
            }
            _ => ("request", reader.skip()),
        };
        read.map_err(|fault| fault.at(name))
    }

    fn into_request(mut self) -> Result<Request> {
        let kind = self.kind.ok_or_else(|| Fault::Missing.at("type"))?;
        let legacy = self.legacy(kind)?;
        let from = self.from.take().flatten();
        let seq_no = self.seq_no.take().flatten();
        let namespace = self.packet.as_ref().filter(|_| kind == kind::BROADCAST).map(|(_, nsp)| nsp.clone());
        Ok(Request { from, seq_no, namespace, message: self.into_message(kind)?, legacy })
    }

    fn legacy(&self, kind: u64) -> Result<Option<Legacy>> {
        match (kind, &self.socket) {
            (kind::SOCKETS, _) => Ok(Some(Legacy::SocketIds)),
            (kind::JOIN | kind::LEAVE | kind::DISCONNECT, Some(socket)) if self.target.is_none() => {
                let request = required(self.request.clone().flatten(), "requestId")?;
                Ok(Some(Legacy::Confirmation(socket.clone(), request)))
            }
            _ => Ok(None),
        }
    }

    fn into_message(self, kind: u64) -> Result<Message> {
        let request = self.request.flatten();
        Ok(match kind {
            kind::SOCKETS => Message::FetchSockets {
                request: required(request, "requestId")?,
                target: Target { rooms: self.rooms.unwrap_or_default(), ..Target::default() },
            },
            kind::ALL_ROOMS => Message::AllRooms { request: required(request, "requestId")? },
            kind::JOIN | kind::LEAVE => {
                let target = required(self.target.or_else(|| self.socket.as_ref().map(of_socket)), "opts")?;
                let rooms = required(self.rooms.or_else(|| self.room.map(|room| vec![room])), "rooms")?;
                if kind == kind::JOIN { Message::Join { target, rooms } } else { Message::Leave { target, rooms } }
            }
            kind::DISCONNECT => Message::Disconnect {
                target: required(self.target.or_else(|| self.socket.as_ref().map(of_socket)), "opts")?,
                close: self.close.unwrap_or_default(),
            },
            kind::FETCH => Message::FetchSockets {
                request: required(request, "requestId")?,
                target: required(self.target, "opts")?,
            },
            kind::SERVER_SIDE_EMIT => Message::ServerSideEmit { request, payload: required(self.data, "data")? },
            kind::BROADCAST => Message::Broadcast {
                request: Some(required(request, "requestId")?),
                target: Target { trace: self.trace.flatten(), ..required(self.target, "opts")? },
                payload: required(self.packet, "packet")?.0,
            },
            kind::INITIAL_HEARTBEAT | kind::HEARTBEAT => {
                let high_water_marks = self.high_water_marks.flatten().unwrap_or_default();
                let initial = kind == kind::INITIAL_HEARTBEAT;
                Message::Heartbeat(Heartbeat::new(initial).with_high_water_marks(high_water_marks))
            }
            kind::LEAVING => Message::Leaving,
            _ => return Err(Error::new(ErrorKind::Unsupported, format!("request of unknown type {kind}"))),
        })
    }
}

fn of_socket(socket: &SocketId) -> Target {
    Target::room(socket.as_str())
}

fn required<T>(field: Option<T>, name: &str) -> Result<T> {
    field.ok_or_else(|| Fault::Missing.at(name))
}

fn whole_number<'a>(reader: &mut impl Reader<'a>) -> Scan<u64> {
    reader.number()?.as_u64().ok_or(Fault::Range)
}

fn request_id<'a>(reader: &mut impl Reader<'a>) -> Scan<RequestId> {
    RequestId::new(reader.text()?).map_err(|_| Fault::TooLong)
}

// --- answers ---

/// Decodes an answer, JSON or MessagePack. `None` if it belongs to a request that is not `mine`, which is found out
/// early: on the common channel each node gets the answers to all.
pub(crate) fn response(
    bytes: &Bytes,
    mine: impl Fn(&RequestId) -> bool + Copy,
) -> Result<Option<(Option<NodeId>, Response)>> {
    let read_json = |reader: &mut JsonReader<'_>| AnswerFields::read(reader, mine);
    let read_msgpack = |reader: &mut MsgPackReader<'_>| AnswerFields::read(reader, mine);
    match either(bytes, "answer", read_json, read_msgpack) {
        Ok(fields) => fields.into_response().map(Some),
        Err(error) if error.kind() == ErrorKind::Closed => Ok(None),
        Err(error) => Err(error),
    }
}

/// Ends the reading of an answer that another node waits for.
fn not_mine() -> Error {
    Error::new(ErrorKind::Closed, "an answer to a request of another node")
}

/// The fields of all answers.
#[derive(Default)]
struct AnswerFields {
    kind: Option<u64>,
    from: Option<Option<NodeId>>,
    request: Option<RequestId>,
    sockets: Option<Vec<SocketInfo>>,
    rooms: Option<Vec<Room>>,
    data: Option<Option<Payload>>,
    packet: Option<Option<Payload>>,
    count: Option<u32>,
    part: Option<codec::PartNumber>,
    too_large: Option<String>,
    /// Socket that acknowledges, which only our own nodes name.
    socket: Option<Option<SocketId>>,
}

impl AnswerFields {
    fn read<'a, R: Reader<'a>>(reader: &mut R, mine: impl Fn(&RequestId) -> bool) -> Result<Self> {
        let mut fields = Self::default();
        let mut map = reader.begin_map().map_err(|fault| fault.at("answer"))?;
        while let Some(key) = reader.next_key(&mut map).map_err(|fault| fault.at("answer"))? {
            fields.read_field(reader, &key)?;
            if key == "requestId" && fields.request.as_ref().is_some_and(|request| !mine(request)) {
                return Err(not_mine());
            }
        }
        Ok(fields)
    }

    fn read_field<'a, R: Reader<'a>>(&mut self, reader: &mut R, key: &str) -> Result<()> {
        let (name, read) = match key {
            "type" => ("type", whole_number(reader).and_then(|kind| set(&mut self.kind, kind))),
            "uid" => ("uid", reader.optional(node).and_then(|from| set(&mut self.from, from))),
            "requestId" => ("requestId", request_id(reader).and_then(|request| set(&mut self.request, request))),
            "sockets" => {
                let sockets = read_sockets(reader)?;
                ("sockets", set(&mut self.sockets, sockets))
            }
            "part" => ("part", codec::read_part(reader).and_then(|part| set(&mut self.part, part))),
            "tooLarge" => ("tooLarge", codec::read_too_large(reader).and_then(|text| set(&mut self.too_large, text))),
            "sid" => ("sid", reader.lenient(sockets::read_id).and_then(|id| set(&mut self.socket, id))),
            "rooms" => ("rooms", opts::read_known_rooms(reader).and_then(|rooms| set(&mut self.rooms, rooms))),
            "data" => ("data", reader.lenient(Reader::payload).and_then(|data| set(&mut self.data, data))),
            "packet" => ("packet", reader.lenient(Reader::payload).and_then(|packet| set(&mut self.packet, packet))),
            "clientCount" => ("clientCount", count(reader).and_then(|count| set(&mut self.count, count))),
            _ => ("answer", reader.skip_unchecked()),
        };
        read.map_err(|fault| fault.at(name))
    }

    /// Makes the answer. As in Node.js servers, what was asked for decides where nothing else does: an answer to a
    /// server-side event needs neither type nor data. Requests that are only confirmed are not sent from here.
    fn into_response(self) -> Result<(Option<NodeId>, Response)> {
        let from = self.from.flatten();
        let mut answer = match (self.kind, self.sockets, self.rooms) {
            (Some(kind::CLIENT_COUNT), ..) => Answer::ClientCount(required(self.count, "clientCount")?),
            (Some(kind::ACK), ..) => Answer::Ack(Ack::new(self.packet.flatten()).with_socket(self.socket.flatten())),
            (Some(kind::SERVER_SIDE_EMIT), ..) => Answer::ServerSideEmit(self.data.flatten()),
            (_, Some(_), _) if self.too_large.is_some() => Answer::TooLarge(self.too_large.unwrap_or_default()),
            (_, Some(sockets), _) => codec::part_of(Answer::Sockets(sockets), self.part),
            (_, None, Some(rooms)) => codec::part_of(Answer::Rooms(rooms), self.part),
            (_, None, None) => Answer::ServerSideEmit(self.data.flatten()),
        };
        codec::name_node_of(&mut answer, from.as_ref());
        Ok((from, Response { request: required(self.request, "requestId")?, answer }))
    }
}

fn count<'a>(reader: &mut impl Reader<'a>) -> Scan<u32> {
    u32::try_from(whole_number(reader)?).map_err(|_| Fault::Range)
}

/// Reads sockets, or only their ids. Entries that are neither are left out.
fn read_sockets<'a>(reader: &mut impl Reader<'a>) -> Result<Vec<SocketInfo>> {
    let at = |fault: Fault| fault.at("sockets");
    let mut found = Vec::new();
    let mut array = reader.begin_array().map_err(at)?;
    while reader.next_item(&mut array).map_err(at)? {
        let socket = reader.lenient(|reader| match reader.shape()? {
            Shape::Text => Ok(SocketInfo::new(sockets::read_id(reader)?, Vec::new())),
            _ => sockets::read(reader).map_err(|_| Fault::Unexpected),
        });
        found.extend(socket.map_err(at)?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use trunkline_core::NodeKey;

    use super::{super::encode, *};

    /// Official peers read `[uid, packet, opts]`, and of a request the keys that they know.
    #[test]
    fn a_trace_is_behind_what_official_peers_read_and_changes_nothing_before_it() {
        let node = NodeKey { id: NodeId::new("n").unwrap(), namespace: Namespace::new("/") };
        let seq_no = SeqNo { channel: SeqChannel::ALL, number: 7 };
        let encoded = |trace: Option<&str>, request: Option<&str>, seq_no| {
            let target = Target { trace: trace.map(Into::into), ..Target::room("r") };
            let request = request.map(|id| RequestId::new(id).unwrap());
            let payload = Payload::event("e", &(1,)).unwrap();
            let message = Message::Broadcast { request, target, payload };
            Bytes::from(encode::message(&node, &message).unwrap().finish(seq_no, &[]))
        };
        let (plain, traced) = (encoded(None, None, None), encoded(Some("00-ab"), None, None));
        assert_eq!((plain[0], traced[0], &traced[1..plain.len()]), (0x93, 0x94, &plain[1..]));
        let numbered = encoded(Some("00-ab"), None, Some(seq_no));
        assert_eq!((super::seq_no(&traced), super::seq_no(&numbered)), (None, Some(seq_no)));
        for bytes in [&traced, &numbered] {
            assert_eq!(broadcast(bytes).unwrap().target.trace.as_deref(), Some("00-ab"));
        }
        assert_eq!(broadcast(&encoded(None, None, Some(seq_no))).unwrap().target.trace, None);
        let Message::Broadcast { target, .. } = request(&encoded(Some("00-ab"), Some("q"), None)).unwrap().message
        else {
            panic!("a broadcast")
        };
        assert_eq!(target.trace.as_deref(), Some("00-ab"));
    }

    #[test]
    fn a_request_of_socketioxides_own_adapter_is_known_by_its_form() {
        // `[node_id, id, type, packet, rooms, opts, ack_timeout]`
        let request_of_all_rooms = b"\x97\xb0AAAAAAAAAAAAAAAA\xb0BBBBBBBBBBBBBBBB\x03\xc0\xc0\xc0\xc0";
        let error = request(&Bytes::from_static(request_of_all_rooms)).unwrap_err();
        assert!(error.kind() == ErrorKind::Malformed && error.to_string().contains("socketioxide-redis"), "{error}");
    }
}
