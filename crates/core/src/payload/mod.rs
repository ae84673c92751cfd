//! [`Payload`]: the arguments of a packet, kept encoded (JSON text or MessagePack) and converted in one pass where the
//! other encoding is needed.

mod args;
mod attachments;
mod deserialize;
mod fault;
pub mod json;
pub mod msgpack;
mod number;
mod serialize;
mod sink;

use std::{borrow::Cow, fmt};

use bytes::Bytes;
pub use bytestring::ByteString;
use serde::{Serialize, de::DeserializeOwned};

pub use self::{
    attachments::Attachments,
    fault::{Fault, Scan},
    msgpack::{Rules, iso_date},
    number::Number,
    sink::Sink,
};
use crate::error::Result;

/// Deepest nesting of arrays and maps that a payload may have. The encoder of @msgpack/msgpack, which two of the
/// official adapters use, ends here too.
pub const MAX_DEPTH: usize = 100;

/// One encoded value: most often the argument list of a packet, `[event, ...arguments]`; also the argument of an
/// acknowledgement, a handshake, the data of a socket.
///
/// It stays in the encoding in which it arrived, JSON text or MessagePack, and is converted in one pass only where a
/// receiver needs the other one. Cloning is cheap. Both encodings hold the same values, with these differences, which a
/// conversion resolves:
///
/// * JSON has no binary: it stands beside the text as [`Attachments`], with Socket.IO's placeholders in the text.
/// * MessagePack dates become ISO text, as in JavaScript. Unknown extensions become `[type, binary]`, as notepack reads
///   them.
/// * NaN and the infinities become `null`. Floats that carry an integer become that integer.
/// * Integers that fit 64 bits keep all their digits.
/// * Lone surrogates in JSON and invalid UTF-8 in MessagePack become U+FFFD. Keys that are not text become text.
/// * The order of keys stays, and so do repeated keys.
///
/// `Debug` shows the size only: payloads belong to users and are not logged.
#[derive(Clone)]
pub struct Payload(Encoded);

#[derive(Clone)]
enum Encoded {
    Json(Json),
    MsgPack { bytes: Bytes, binary: bool },
}

/// A value as JSON text, with its binary parts beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json {
    /// JSON text. Binary is replaced by placeholders, `{"_placeholder":true,"num":0}`; without attachments such an
    /// object is an ordinary one.
    pub text: ByteString,
    /// Binary values, in the order of the numbers in their placeholders.
    pub attachments: Attachments,
}

impl Payload {
    /// Makes a payload of JSON text, checking its syntax and depth.
    pub fn from_json(text: impl Into<ByteString>) -> Result<Self> {
        let text = text.into();
        json::validate(&text).map_err(|fault| fault.at("JSON payload"))?;
        Ok(Self::from_trusted_json(text, Attachments::NONE))
    }

    /// Makes a payload of JSON text and its binary attachments: each attachment has exactly one placeholder, and no
    /// placeholder is without attachment.
    pub fn from_json_with(text: impl Into<ByteString>, attachments: impl Into<Attachments>) -> Result<Self> {
        let (text, attachments) = (text.into(), attachments.into());
        args::check_placeholders(&text, attachments.len()).map_err(|fault| fault.at("JSON payload"))?;
        Ok(Self::from_trusted_json(text, attachments))
    }

    /// Makes a payload of JSON text that a serializer or parser has just produced or checked, without checking it
    /// again.
    ///
    /// The text is spliced into messages as it is. If it is not one JSON value, those messages are malformed and the
    /// conversions of this payload fail or yield `null`; nothing panics. Unparsed text of a client is for
    /// [`Payload::from_json_with`].
    #[must_use]
    pub fn from_trusted_json(text: impl Into<ByteString>, attachments: impl Into<Attachments>) -> Self {
        Self(Encoded::Json(Json { text: text.into(), attachments: attachments.into() }))
    }

    /// Makes a payload of one MessagePack value, checking its structure and depth. Whether its text is UTF-8 is not
    /// checked: conversion repairs it.
    pub fn from_msgpack(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        let binary = msgpack::validate(&bytes).map_err(|fault| fault.at("MessagePack payload"))?;
        Ok(Self::from_valid_msgpack(bytes, binary))
    }

    /// Makes a payload of one MessagePack value that was scanned already, which also told whether there is binary in
    /// it.
    pub(crate) fn from_valid_msgpack(bytes: Bytes, binary: bool) -> Self {
        Self(Encoded::MsgPack { bytes, binary })
    }

    /// Encodes an event, `[name, ...arguments]`.
    ///
    /// A tuple, array or list is a list of arguments and what serializes as `null` (such as `()`) is none; anything
    /// else is the only argument. To send a list as the only argument, put it into a tuple: `(list,)`. Byte buffers
    /// (`bytes::Bytes`, `serde_bytes`) become binary.
    pub fn event<T: Serialize + ?Sized>(name: &str, arguments: &T) -> Result<Self> {
        serialize::event(name, arguments)
    }

    /// Encodes a single value. Byte buffers (`bytes::Bytes`, `serde_bytes`) become binary.
    pub fn value<T: Serialize + ?Sized>(value: &T) -> Result<Self> {
        serialize::value(value)
    }

    /// A copy in memory of exactly its size, for a payload that is kept. A serializer leaves up to as much unused behind
    /// what it writes, and what was received is a part of a larger buffer.
    #[must_use]
    pub fn compact(&self) -> Self {
        let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
        Self(match &self.0 {
            Encoded::Json(Json { text, attachments }) => {
                let text = ByteString::from(&**text);
                Encoded::Json(Json { text, attachments: attachments.iter().map(copy).collect() })
            }
            Encoded::MsgPack { bytes, binary } => Encoded::MsgPack { bytes: copy(bytes), binary: *binary },
        })
    }

    /// Size in bytes in the present encoding, attachments included.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.0 {
            Encoded::Json(json) => json.text.len() + json.attachments.iter().map(Bytes::len).sum::<usize>(),
            Encoded::MsgPack { bytes, .. } => bytes.len(),
        }
    }

    /// Whether the size is 0, which no valid payload has: the smallest value takes one byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the value is an array, as the argument list of every packet is.
    #[must_use]
    pub fn is_args(&self) -> bool {
        args::is_args(self)
    }

    /// Whether clients accept it as the arguments of an event: a list that begins with an event name, which is text other than
    /// the names that Socket.IO reserves (`connect`, `disconnect`, `newListener`, …), or a number; without a map beside binary
    /// that looks like the placeholder of an attachment and is none. JavaScript clients close their connection when they
    /// receive another packet.
    #[must_use]
    pub fn is_packet(&self) -> bool {
        args::is_packet(self)
    }

    /// Name of the event: the first element of an argument list, if it is text.
    #[must_use]
    pub fn event_name(&self) -> Option<Cow<'_, str>> {
        args::event_name(self)
    }

    /// Whether the value contains binary, at any depth.
    #[must_use]
    pub fn has_binary(&self) -> bool {
        match &self.0 {
            Encoded::Json(json) => !json.attachments.is_empty(),
            Encoded::MsgPack { binary, .. } => *binary,
        }
    }

    /// Converts the value to JSON, binary to attachments. Copies nothing if it is JSON already; binary values are never
    /// copied.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match &self.0 {
            Encoded::Json(json) => json.clone(),
            Encoded::MsgPack { .. } => {
                let (text, attachments) = self.write_json(json::Binary::Attached(Vec::new()));
                Json { text, attachments: attachments.into() }
            }
        }
    }

    /// Converts the value to JSON text for wires that have no place for binary: a Buffer is written as Node.js does,
    /// `{"type":"Buffer","data":[…]}`.
    #[must_use]
    pub fn to_json_plain(&self) -> ByteString {
        match &self.0 {
            Encoded::Json(json) if json.attachments.is_empty() => json.text.clone(),
            _ => self.write_json(json::Binary::Inline).0,
        }
    }

    /// Converts the value to MessagePack, by the rules of one of the official encoders. MessagePack is returned as it
    /// is: the rules differ in how they write, not in what they read. Fails only if the JSON was never valid.
    pub fn to_msgpack(&self, rules: Rules) -> Result<Bytes> {
        if let Encoded::MsgPack { bytes, .. } = &self.0 {
            return Ok(bytes.clone());
        }
        let mut out = Vec::with_capacity(self.len());
        self.stream(&mut msgpack::Writer::new(&mut out, rules)).map_err(|fault| fault.at("JSON payload"))?;
        Ok(out.into())
    }

    /// Streams the value into `sink`, in one pass. Fails, perhaps halfway, only if the JSON was never valid.
    pub fn stream(&self, sink: &mut impl Sink) -> Scan<()> {
        match &self.0 {
            Encoded::Json(json) => json::stream(&json.text, &json.attachments, sink),
            Encoded::MsgPack { bytes, .. } => msgpack::stream(bytes, sink),
        }
    }

    /// JSON text of the value, if it is JSON without binary.
    #[must_use]
    pub fn as_json_text(&self) -> Option<&str> {
        match &self.0 {
            Encoded::Json(json) if json.attachments.is_empty() => Some(&json.text),
            _ => None,
        }
    }

    /// MessagePack bytes of the value, if it is MessagePack.
    #[must_use]
    pub fn as_msgpack(&self) -> Option<&Bytes> {
        match &self.0 {
            Encoded::Json(_) => None,
            Encoded::MsgPack { bytes, .. } => Some(bytes),
        }
    }

    /// Appends text to a copy of the argument list; servers add the offset of a message this way. A payload that is no
    /// list stays as it is.
    #[must_use]
    pub fn with_appended_text(&self, text: &str) -> Self {
        args::with_appended_text(self, text)
    }

    /// Decodes the value into a Rust value. Binary goes into byte buffers (`bytes::Bytes`, `serde_bytes`); of an
    /// argument list the event's name is the first element.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T> {
        deserialize::value(self)
    }

    /// Decodes the arguments of an event, without its name: into a tuple, an array or a list.
    pub fn arguments<T: DeserializeOwned>(&self) -> Result<T> {
        deserialize::arguments(self)
    }

    /// Whether both values mean the same to a receiver, whatever their encodings. The order of keys counts.
    #[must_use]
    pub fn same_meaning(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Encoded::Json(a), Encoded::Json(b)) if a == b => true,
            (Encoded::MsgPack { bytes: a, .. }, Encoded::MsgPack { bytes: b, .. }) if a == b => true,
            _ => match (self.canonical(), other.canonical()) {
                (Ok(a), Ok(b)) => a == b,
                _ => false,
            },
        }
    }

    /// Bytes that are equal for values of equal meaning: everything that differs between the encodings is resolved.
    fn canonical(&self) -> Scan<Vec<u8>> {
        let mut out = Vec::with_capacity(self.len());
        self.stream(&mut msgpack::Writer::new(&mut out, Rules::Notepack))?;
        Ok(out)
    }

    /// Converts the value to JSON text; what was never valid becomes `null`.
    fn write_json(&self, binary: json::Binary) -> (ByteString, Vec<Bytes>) {
        let mut out = Vec::with_capacity(self.len() + self.len() / 4);
        let mut writer = json::Writer::new(&mut out, binary);
        let written = self.stream(&mut writer);
        let attachments = writer.into_attachments();
        match (written, ByteString::try_from(out)) {
            (Ok(()), Ok(text)) => (text, attachments),
            _ => (ByteString::from_static("null"), Vec::new()),
        }
    }
}

impl PartialEq for Payload {
    /// As [`Payload::same_meaning`].
    fn eq(&self, other: &Self) -> bool {
        self.same_meaning(other)
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Encoded::Json(json) if json.attachments.is_empty() => write!(f, "Payload(JSON, {} bytes)", json.text.len()),
            Encoded::Json(json) => {
                write!(f, "Payload(JSON, {} bytes, attachments {:?})", json.text.len(), json.attachments)
            }
            Encoded::MsgPack { bytes, .. } => write!(f, "Payload(MessagePack, {} bytes)", bytes.len()),
        }
    }
}
