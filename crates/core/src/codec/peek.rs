//! [`peek`]: reading what decides whether a message is wanted, without touching its payload.

use bytes::Bytes;

use super::{
    Body, BodyRef, Decoded, Kind,
    envelope::{read_kind, read_namespace, read_node, read_seq_no},
    opts,
    reader::{Container, JsonReader, MsgPackReader, Reader, Shape, set},
};
use crate::{
    error::{Error, Result},
    model::{Message, Namespace, NodeId, Room, SeqNo},
    payload::{ByteString, Scan},
};

/// Description of a message, without its content.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    /// Type of the message.
    pub kind: Kind,
    /// Node that sent the message.
    pub from: Option<NodeId>,
    /// Namespace of the message.
    pub namespace: Option<Namespace>,
    /// Sequence number, if a Trunkline node sent the message.
    pub seq_no: Option<SeqNo>,
    /// Room of a broadcast without acknowledgement to exactly one room. Where the room has no members the message need
    /// not be decoded. (A broadcast with acknowledgement must be answered even then.)
    pub room: Option<Room>,
}

/// Reads the header of a message. `None` if that would take decoding it: its layout is not that of the official
/// adapters, or it is malformed.
///
/// JSON is read from both ends, since the sender comes after the payload; of MessagePack only markers and lengths are
/// looked at. The header is never a wrong one: [`decode`](super::decode()) refuses a message that looks different from
/// its ends than it is.
#[must_use]
pub fn peek(bytes: &Bytes) -> Option<Header> {
    if bytes.first() == Some(&b'{') { peek_json(bytes) } else { peek_msgpack(bytes) }
}

impl Header {
    /// Refuses a message that an array or map under an unknown key makes look like another one from its ends. A message
    /// that is the same in both readings is fine.
    pub(super) fn check(&self, decoded: &Decoded) -> Result<()> {
        let agree = self.from == decoded.from
            && self.namespace == decoded.namespace
            && self.seq_no == decoded.seq_no
            && Some(self.kind) == BodyRef::from(&decoded.body).kind();
        if agree { check_room(self.room.as_ref(), &decoded.body) } else { Err(contradiction()) }
    }
}

/// As [`Header::check`], for the room that [`peek_room`] reads.
pub(super) fn check_room(peeked: Option<&Room>, body: &Body) -> Result<()> {
    let room = match body {
        Body::Message(Message::Broadcast { request: None, target, .. }) => target.single_room(),
        _ => None,
    };
    if peeked.is_none() || peeked == room { Ok(()) } else { Err(contradiction()) }
}

fn contradiction() -> Error {
    Error::malformed("message: can be read in two ways")
}

/// Bytes at the end of a message in which the sender is looked for: ids and namespaces are short.
const TAIL_WINDOW: usize = 1024;

/// Bytes before the sender in which the rooms are looked for.
const OPTS_WINDOW: usize = 2048;

/// Peeks at `{"type":3,"data":{…},"uid":"…","nsp":"…"}`, with the fields that Trunkline adds behind. What follows the
/// last `,"uid":` can only be the end of the outermost object, because it is read to the closing brace without meeting
/// another array or object; in valid JSON no string contains that text.
fn peek_json(bytes: &Bytes) -> Option<Header> {
    let (kind, after_type) = peek_kind(bytes)?;
    let tail_at = if kind.has_data() { rfind(bytes, b",\"uid\":", TAIL_WINDOW)? } else { after_type };
    let tail = ByteString::try_from(bytes.slice(tail_at + 1..)).ok()?;
    let fields = Fields::read_tail(&mut JsonReader::new(&tail))?;
    fields.namespace.as_ref()?;
    if !kind.has_data() {
        return Some(fields.into_header(kind, None));
    }
    let between = &bytes[after_type..tail_at];
    if !(between.starts_with(DATA) && between.ends_with(b"}")) {
        return None;
    }
    let room = peek_room(kind, &bytes.slice(after_type + DATA.len()..tail_at));
    Some(fields.into_header(kind, room))
}

const DATA: &[u8] = b",\"data\":";

/// Reads the type, and where its number ends.
fn peek_kind(bytes: &[u8]) -> Option<(Kind, usize)> {
    const START: &[u8] = b"{\"type\":";
    let number = bytes.strip_prefix(START)?;
    let digits = number.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
    let value = number[..digits].iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    let after = START.len() + digits;
    let ends = number.get(digits) == Some(&b',') && number.first() != Some(&b'0');
    Kind::from_number(value).filter(|_| ends).map(|kind| (kind, after))
}

/// Reads the room of a message of which the `data` object stands alone, as in [`Header::room`].
///
/// Like [`peek`] it is never wrong: [`decode_data`](super::decode_data) refuses data that looks different from its ends
/// than it is.
#[must_use]
pub fn peek_room(kind: Kind, data: &Bytes) -> Option<Room> {
    if kind != Kind::Broadcast {
        return None;
    }
    if data.first() == Some(&b'{') {
        return peek_json_room(data);
    }
    let mut reader = MsgPackReader::new(data);
    let room = read_room(&mut reader).ok()?;
    reader.end().ok().and(room)
}

/// Reads the room of `{"packet":{…},"opts":{…}}`. Between packet and opts there is no request id, and nothing follows
/// the opts.
fn peek_json_room(data: &Bytes) -> Option<Room> {
    const OPTS: &[u8] = b",\"opts\":";
    let ends = data.starts_with(b"{\"packet\":{\"type\":2,\"data\":[") && data.ends_with(b"}");
    let at = rfind(data, OPTS, OPTS_WINDOW).filter(|_| ends)?;
    if data[..at].last() != Some(&b'}') {
        return None;
    }
    let opts = ByteString::try_from(data.slice(at + OPTS.len()..data.len() - 1)).ok()?;
    let mut reader = JsonReader::new(&opts);
    let room = opts::read_single_room(&mut reader).ok()?;
    reader.end().ok()?;
    room
}

/// Position of the last `needle`, which begins with a comma, among the last `window` bytes.
fn rfind(bytes: &[u8], needle: &[u8], window: usize) -> Option<usize> {
    let start = bytes.len().saturating_sub(window);
    let mut end = bytes.len();
    loop {
        let comma = start + memchr::memrchr(b',', &bytes[start..end])?;
        if bytes[comma..].starts_with(needle) {
            return Some(comma);
        }
        end = comma;
    }
}

/// Peeks at MessagePack from front to back: values are skipped by their length.
fn peek_msgpack(bytes: &Bytes) -> Option<Header> {
    let mut reader = MsgPackReader::new(bytes);
    let (mut kind, mut room, mut fields) = (None, None, Fields::default());
    let mut map = reader.begin_map().ok()?;
    while let Some(key) = reader.next_key(&mut map).ok()? {
        match &*key {
            "type" => set(&mut kind, read_kind(&mut reader).ok()?).ok()?,
            "data" if kind == Some(Kind::Broadcast) => room = read_room(&mut reader).ok()?,
            "data" => reader.skip().ok()?,
            _ => fields.read(&mut reader, &key).ok()?,
        }
    }
    reader.end().ok()?;
    Some(fields.into_header(kind?, room))
}

/// Reads the only room of a broadcast; `None` if there are several or acknowledgements are wanted.
fn read_room<'a>(reader: &mut impl Reader<'a>) -> Scan<Option<Room>> {
    let (mut room, mut acknowledged) = (None, false);
    let mut map = reader.begin_map()?;
    while let Some(key) = reader.next_key(&mut map)? {
        match &*key {
            "opts" => room = opts::read_single_room(reader)?,
            "requestId" => acknowledged = reader.optional(Reader::skip)?.is_some(),
            _ => reader.skip()?,
        }
    }
    Ok(room.filter(|_| !acknowledged))
}

/// Short fields of a message.
#[derive(Default)]
struct Fields {
    from: Option<Option<NodeId>>,
    namespace: Option<Option<Namespace>>,
    seq_no: Option<Option<SeqNo>>,
}

impl Fields {
    /// Reads the fields up to the end of the message. `None` if there is one that does not belong there.
    fn read_tail(reader: &mut JsonReader<'_>) -> Option<Self> {
        let mut fields = Self::default();
        let mut map = Container::marked();
        while let Some(key) = reader.next_key(&mut map).ok()? {
            let own = matches!(&*key, "stamp" | "counters" | "buckets");
            let container = matches!(reader.shape(), Ok(Shape::Map | Shape::Array));
            if matches!(&*key, "type" | "data") || (container && !own) {
                return None;
            }
            fields.read(reader, &key).ok()?;
        }
        reader.end().ok()?;
        Some(fields)
    }

    fn read<'a>(&mut self, reader: &mut impl Reader<'a>, key: &str) -> Scan<()> {
        match key {
            "uid" => reader.optional(read_node).and_then(|from| set(&mut self.from, from)),
            "nsp" => reader.optional(read_namespace).and_then(|namespace| set(&mut self.namespace, namespace)),
            "stamp" => reader.lenient(read_seq_no).and_then(|seq_no| set(&mut self.seq_no, seq_no)),
            _ => reader.skip(),
        }
    }

    fn into_header(self, kind: Kind, room: Option<Room>) -> Header {
        Header {
            kind,
            from: self.from.flatten(),
            namespace: self.namespace.flatten(),
            seq_no: self.seq_no.flatten(),
            room,
        }
    }
}
