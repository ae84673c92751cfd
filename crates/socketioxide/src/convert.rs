//! Conversion between socketioxide's values and payloads, without parsing either.

use bytes::Bytes;
use socketioxide_core::{Str, Value, packet::PacketData, parser::ParserError};
use trunkline_core::{
    Payload, Result,
    payload::{self, ByteString, Rules, msgpack::Token},
};

/// The encoding of packets between a server and its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    /// The common parser: JSON text with binary attachments.
    Json,
    /// The MessagePack parser.
    MsgPack,
}

/// The payload of an event that this server emits. It is not validated: socketioxide's serializer has just written it.
pub(crate) fn event_payload(packet: PacketData) -> Result<Payload, ParserError> {
    match packet {
        PacketData::Event(value, _) | PacketData::BinaryEvent(value, _) => match value {
            Value::Str(text, binary) => {
                let attachments: Vec<Bytes> = binary.unwrap_or_default().into();
                Ok(Payload::from_trusted_json(byte_string(text).map_err(ParserError::new)?, attachments))
            }
            Value::Bytes(bytes) => Payload::from_msgpack(bytes).map_err(ParserError::new),
        },
        other => Err(ParserError::new(NoEvent(other.index()))),
    }
}

/// A packet of a kind that is never broadcast.
#[derive(Debug)]
struct NoEvent(usize);

impl std::fmt::Display for NoEvent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "a packet of type {} cannot be broadcast", self.0)
    }
}

impl std::error::Error for NoEvent {}

/// A payload in the form of this server's parser.
pub(crate) fn to_value(payload: &Payload, encoding: Encoding) -> Result<Value> {
    match encoding {
        Encoding::Json => {
            let payload::Json { text, attachments } = payload.to_json();
            let binary = (!attachments.is_empty()).then(|| attachments.iter().cloned().collect());
            Ok(Value::Str(Str::copy_from_slice(&text), binary))
        }
        Encoding::MsgPack => payload.to_msgpack(Rules::Notepack).map(Value::Bytes),
    }
}

/// The first argument of a client's acknowledgement; `None` if it has none or is malformed.
pub(crate) fn acknowledged(value: Value) -> Option<Payload> {
    let list = match value {
        Value::Str(text, binary) => {
            let attachments: Vec<Bytes> = binary.unwrap_or_default().into();
            Payload::from_json_with(byte_string(text).ok()?, attachments).ok()?
        }
        Value::Bytes(bytes) => Payload::from_msgpack(bytes).ok()?,
    };
    first(&list)
}

/// A client's acknowledgement with this argument, as socketioxide represents it.
pub(crate) fn acknowledgement(argument: Option<&Payload>, encoding: Encoding) -> Result<Value> {
    let list = argument.map_or_else(|| Ok(Payload::from_trusted_json("[]", Vec::new())), list)?;
    to_value(&list, encoding)
}

/// A list with one element.
fn list(element: &Payload) -> Result<Payload> {
    if let Some(bytes) = element.as_msgpack() {
        let mut list = Vec::with_capacity(bytes.len() + 1);
        payload::msgpack::write_array_len(&mut list, 1);
        list.extend_from_slice(bytes);
        return Payload::from_msgpack(list);
    }
    let payload::Json { text, attachments } = element.to_json();
    Ok(Payload::from_trusted_json(ByteString::from(["[", &text, "]"].concat()), attachments))
}

/// The first element of a list. Where there is binary the list is converted, so that the element keeps its own and no
/// other.
fn first(list: &Payload) -> Option<Payload> {
    if let Some(text) = list.as_json_text() {
        let mut scanner = payload::json::Scanner::new(text, 0);
        scanner.expect(b'[').ok()?;
        if scanner.peek() == Ok(b']') {
            return None;
        }
        let start = scanner.position();
        scanner.skip().ok()?;
        return Some(Payload::from_trusted_json(ByteString::from(scanner.since(start)), Vec::new()));
    }
    let bytes = list.to_msgpack(Rules::Notepack).ok()?;
    let mut scanner = payload::msgpack::Scanner::new(&bytes, 0);
    let Ok(Token::Array(1..)) = scanner.token() else { return None };
    let start = scanner.position();
    scanner.skip().ok()?;
    Payload::from_msgpack(bytes.slice(start..scanner.position())).ok()
}

fn byte_string(text: Str) -> std::result::Result<ByteString, std::str::Utf8Error> {
    ByteString::try_from(Bytes::from(text))
}
