//! The messages of the official cluster adapters, as JSON and as MessagePack: `{type, data, uid, nsp}`.
//!
//! This is the wire of sharded Redis, Redis streams and PostgreSQL, and of our own brokers. [`encode`] and [`decode`] handle whole
//! messages; [`encode_data`] and [`decode_data`] only the `data` object, for wires that keep the rest elsewhere (Redis streams). [`peek`]
//! reads what decides whether a message is wanted at all, without touching its payload.
//!
//! Keys are written in the order of the official adapters. Reading is liberal: any order of keys, unknown keys, numbers as floats. What it
//! refuses is what could be read in two ways: a known key that occurs twice.
//!
//! The building blocks are public, for wires that share parts of these messages: a [`Reader`] and a [`Writer`] for another encoding bring
//! all messages with them ([`read_data`], [`write_data`]); [`opts`] and [`sockets`] are pieces that classic Redis wraps differently.

mod body;
mod data;
mod envelope;
mod frame;
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
    data::{read as read_data, write as write_data},
    envelope::{Decoded, decode, read_high_water_marks, read_seq_no},
    frame::EncodedMessage,
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

/// How messages are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JSON text. Binary is written as Node.js prints a Buffer, so wires with a path for binary use MessagePack where [`contains_binary`].
    Json,
    /// MessagePack, by the rules of one of the official encoders.
    MsgPack(Rules),
}

/// Encodes a message or an answer. The frame is complete but for our own numbers, which the transport's queue hands out
/// ([`EncodedMessage::finish`]).
///
/// The counters of a heartbeat are left out: the queue knows better.
///
/// # Errors
/// `Unsupported` for what these wires have no message for ([`Message::AllRooms`](crate::message::Message::AllRooms) and its answer);
/// `Malformed` for a payload whose JSON was never valid.
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
    Ok(EncodedMessage::new(format, out, kind, body.buckets()))
}

/// Encodes only the `data` object; `None` for heartbeats and leaves, which have none. The type is [`BodyRef::kind`].
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

/// Decodes the `data` object, JSON or MessagePack, of a message of known type. `from` is the sender; it becomes the node of fetched
/// sockets.
///
/// # Errors
/// `Malformed`, naming the field.
pub fn decode_data(kind: Kind, from: Option<&NodeId>, data: &Bytes) -> Result<Body> {
    let (mut body, surprise) = if data.first() == Some(&b'{') {
        whole(JsonReader::new(&text(data.clone())?), |reader| data::read_marking_surprises(reader, kind))?
    } else {
        whole(MsgPackReader::new(data), |reader| data::read_marking_surprises(reader, kind))?
    };
    if surprise {
        peek::check_room(peek_room(kind, data).as_ref(), &body)?;
    }
    data::name_node(&mut body, from);
    Ok(body)
}

/// Whether the message has binary, at any depth, and is of one of the `kinds` of which a wire sends binary as MessagePack
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
