//! What is fuzzed (`fuzz/`): the decoders, and what must hold for anything that they accept.

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::{
    codec::{self, Body, BodyRef, Format, Kind},
    model::{Message, Namespace, NodeId},
    payload::{Payload, Rules},
};

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] =
    &[("core_message", message), ("core_data", data), ("core_json", json), ("core_msgpack", msgpack)];

/// A whole message: peeking and decoding agree, and what was understood can be sent on and is understood again.
fn message(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let header = codec::peek(&bytes);
    let Ok(decoded) = codec::decode(&bytes) else { return };
    if let Some(header) = header {
        assert_eq!(Some(header.kind), BodyRef::from(&decoded.body).kind());
        assert_eq!(header.from, decoded.from);
        assert_eq!(header.namespace, decoded.namespace);
        assert_eq!(header.seq_no, decoded.seq_no);
        if let Some(room) = header.room {
            assert_eq!(single_room(&decoded.body), Some(room));
        }
    }
    check_body(&decoded.body);
}

/// The `data` object of a message; the first byte is its kind.
fn data(bytes: &[u8]) {
    let Some((&number, data)) = bytes.split_first() else { return };
    let Some(kind) = Kind::from_number(u64::from(number % 16)) else { return };
    let data = Bytes::copy_from_slice(data);
    let room = codec::peek_room(kind, &data);
    let Ok(body) = codec::decode_data(kind, None, &data) else { return };
    if room.is_some() {
        assert_eq!(single_room(&body), room);
    }
    check_body(&body);
}

fn single_room(body: &Body) -> Option<crate::model::Room> {
    match body {
        Body::Message(Message::Broadcast { request: None, target, .. }) => target.single_room().cloned(),
        _ => None,
    }
}

fn check_body(body: &Body) {
    let (from, namespace) = (NodeId::new("node").expect("short"), Namespace::new("/"));
    for format in [Format::Json, Format::MsgPack(Rules::Notepack), Format::MsgPack(Rules::MsgpackJs)] {
        let encoded = codec::encode(format, &from, &namespace, body).expect("what was decoded can be encoded");
        let again = codec::decode(&encoded.finish(None, &[]).into()).expect("what was encoded can be decoded");
        assert_eq!(BodyRef::from(&again.body).kind(), BodyRef::from(body).kind());
    }
    if let Some(payload) = BodyRef::from(body).payload() {
        check_payload(payload);
    }
}

fn json(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(payload) = Payload::from_json(text.to_owned()) {
        check_payload(&payload);
    }
}

fn msgpack(bytes: &[u8]) {
    if let Ok(payload) = Payload::from_msgpack(Bytes::copy_from_slice(bytes)) {
        check_payload(&payload);
    }
}

/// Clients get valid JSON of it, whatever the encoding in which it came.
fn check_payload(payload: &Payload) {
    let plain = payload.to_json_plain();
    Payload::from_json(plain.clone()).expect("JSON that is written can be read");
    // Lone surrogates are valid for JavaScript and unknown to serde_json.
    if !plain.contains("\\u") {
        serde_json::from_str::<IgnoredAny>(&plain).expect("JSON that is written is valid");
    }
    for rules in [Rules::Notepack, Rules::MsgpackJs] {
        let packed = payload.to_msgpack(rules).expect("a payload can be converted");
        let again = Payload::from_msgpack(packed).expect("MessagePack that is written can be read");
        assert_eq!((again.is_args(), again.is_packet()), (payload.is_args(), payload.is_packet()));
    }
    let _ = (payload.event_name(), payload.has_binary(), payload.deserialize::<IgnoredAny>());
    if payload.is_args() {
        let appended = payload.with_appended_text("offset");
        assert!(appended.is_args(), "an offset leaves it a list of arguments");
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
