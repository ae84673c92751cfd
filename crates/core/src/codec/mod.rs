//! The messages of the official cluster adapters, as JSON and as MessagePack: `{type, data, uid, nsp}`.
//!
//! This is the wire format of sharded Redis, Redis streams and PostgreSQL, and of the brokers without an official
//! adapter (RabbitMQ, NATS). [`encode`] and [`decode`] handle whole messages; [`encode_data`] and [`decode_data`] only
//! the `data` object, for wires that keep the rest elsewhere (Redis streams). [`peek`] reads what decides whether a
//! message is wanted at all, without touching its payload.
//!
//! Keys are written in the order of the official adapters. Reading is liberal: any order of keys, unknown keys, numbers
//! as floats. What it refuses is what could be read in two ways: a known key that occurs twice.
//!
//! The parts are public for wires that share them: with a [`Reader`] and a [`Writer`] for another encoding,
//! [`read_data`] and [`write_data`] handle all messages in it (BSON); classic Redis has [`opts`] and [`sockets`] inside
//! messages of its own.

mod body;
mod data;
mod encoded_message;
mod envelope;

mod kind;
pub mod opts;
mod peek;
mod reader;
pub mod session;
pub mod sockets;
mod writer;

use bytes::Bytes;

pub use self::{
    body::{Body, BodyRef},
    data::{
        PartNumber, name_node_of, part_of, read as read_data, read_part, read_too_large, write as write_data,
        write_part,
    },
    encoded_message::{EncodedMessage, escape_non_ascii},
    envelope::{Decoded, decode, read_high_water_marks, read_seq_no, read_trace},
    kind::{BINARY_KINDS, BINARY_KINDS_POSTGRES, Kind},
    peek::{Header, peek, peek_room},
    reader::{Container, JsonReader, MsgPackReader, Reader, Shape, set},
    writer::{Field, Writer},
};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{Namespace, NodeId},
    payload::{ByteString, Rules, json, msgpack},
};
use reader::whole;

/// Encoding of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON text. Binary is written as Node.js prints a Buffer, so wires with a path for binary use MessagePack where
    /// [`contains_binary`].
    Json,
    /// MessagePack, by the rules of one of the official encoders.
    MsgPack(Rules),
}

/// Encodes a message or a response, but for its sequence number, which the transport's outbox assigns
/// ([`EncodedMessage::finish`]).
///
/// The high-water marks of a heartbeat are left out: the outbox adds those of the moment of sending.
///
/// # Errors
/// `Unsupported` for what these wires have no message for ([`Message::AllRooms`](crate::model::Message::AllRooms) and
/// its answer); `Malformed` for a payload whose JSON was never valid.
pub fn encode<'a>(
    format: Format,
    from: &NodeId,
    namespace: &Namespace,
    body: impl Into<BodyRef<'a>>,
) -> Result<EncodedMessage> {
    let body = body.into();
    let kind = kind_of(body)?;
    let mut out = Vec::with_capacity(body.encoded_size_hint());
    match format {
        Format::Json => {
            let mut writer = json::Writer::new(&mut out, json::Binary::Inline);
            envelope::write(&mut writer, kind, from, namespace, body)?;
        }
        Format::MsgPack(rules) => {
            let mut writer = msgpack::Writer::new(&mut out, rules);
            envelope::write(&mut writer, kind, from, namespace, body)?;
        }
    }
    Ok(EncodedMessage::new(format, out, kind, body))
}

/// Encodes only the `data` object of a message; `None` for heartbeats and leaves, which have none. The type is
/// [`BodyRef::kind`].
///
/// # Errors
/// As [`encode`].
pub fn encode_data<'a>(format: Format, body: impl Into<BodyRef<'a>>) -> Result<Option<Vec<u8>>> {
    let body = body.into();
    if !kind_of(body)?.has_data() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(body.encoded_size_hint());
    match format {
        Format::Json => data::write(&mut json::Writer::new(&mut out, json::Binary::Inline), body)?,
        Format::MsgPack(rules) => data::write(&mut msgpack::Writer::new(&mut out, rules), body)?,
    }
    Ok(Some(out))
}

/// Decodes the `data` object, JSON or MessagePack, of a message of known type. `from` is the sender, which becomes the
/// node of fetched sockets.
///
/// # Errors
/// `Malformed`, naming the field.
pub fn decode_data(kind: Kind, from: Option<&NodeId>, data: &Bytes) -> Result<Body> {
    let (mut body, unknown_container) = if data.first() == Some(&b'{') {
        whole(JsonReader::new(&text(data.clone())?), |reader| data::read_noting_unknown(reader, kind))?
    } else {
        whole(MsgPackReader::new(data), |reader| data::read_noting_unknown(reader, kind))?
    };
    if unknown_container {
        peek::check_room(peek_room(kind, data).as_ref(), &body)?;
    }
    data::name_node(&mut body, from);
    Ok(body)
}

/// Whether a message contains binary, at any depth, and is of one of the `kinds` that a wire then sends as MessagePack
/// ([`BINARY_KINDS`], [`BINARY_KINDS_POSTGRES`]).
pub fn contains_binary<'a>(body: impl Into<BodyRef<'a>>, kinds: &[Kind]) -> bool {
    let body = body.into();
    body.kind().is_some_and(|kind| kinds.contains(&kind)) && body.has_binary()
}

fn kind_of(body: BodyRef<'_>) -> Result<Kind> {
    let unsupported = || Error::new(ErrorKind::Unsupported, "listing rooms: this wire has no message for it");
    body.kind().ok_or_else(unsupported)
}

fn text(bytes: Bytes) -> Result<ByteString> {
    ByteString::try_from(bytes).map_err(|error| Error::malformed("message: not UTF-8").with_source(error))
}
