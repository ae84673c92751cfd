//! Every captured message of the adapters that use these codecs is decoded and encoded again: to the same bytes, and to
//! the same meaning. Arguments that one adapter sent as JSON and another as MessagePack are converted into each other.
//!
//! The captures are those of the official Node.js adapters; the protocol stands in docs/protocol.md.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod captured;
mod meaning;
mod transcoding;

use bytes::Bytes;
use captured::Captured;
use trunkline_core::{
    Result,
    codec::{self, Decoded, Format, Kind},
    model::{Namespace, NodeId},
    payload::{Payload, Rules},
};

/// The captured files, the rules of their MessagePack encoder, and how many messages each has.
const FILES: [(&str, Rules, usize); 8] = [
    ("postgres", Rules::MsgpackJs, 138),
    ("redis-sharded-static", Rules::Notepack, 103),
    ("redis-sharded-dynamic", Rules::Notepack, 103),
    ("redis-sharded-dynamic-private", Rules::Notepack, 103),
    ("redis-streams", Rules::MsgpackJs, 103),
    ("redis-streams-csr", Rules::MsgpackJs, 107),
    ("redis-streams-plaintext", Rules::MsgpackJs, 49),
    ("redis-streams-sharded", Rules::MsgpackJs, 49),
];

/// Captured messages that are encoded to other bytes, on purpose: the beginning of the operation, how many messages,
/// and why.
const EXCEPTIONS: [(&str, usize, &str); 1] = [(
    "[postgres-emitter] ",
    7,
    "the emitter leaves out nsp, for which the adapter drops its messages; it repeats the namespace in the packet, writes flags before \
     except, and leaves out empty flags",
)];

#[test]
fn every_captured_message_is_encoded_to_the_same_bytes() {
    let mut exceptions = [0; EXCEPTIONS.len()];
    for (adapter, rules, count) in FILES {
        let messages = messages(adapter);
        assert_eq!(messages.len(), count, "{adapter}");
        for message in &messages {
            let encoded = encode(message, rules, &decode(message, &message.bytes).unwrap());
            if encoded != message.bytes {
                let exception = EXCEPTIONS.iter().position(|(operation, ..)| message.operation.starts_with(operation));
                exceptions[exception.unwrap_or_else(|| panic!("{}: {encoded:?}", message.location))] += 1;
            }
        }
    }
    assert_eq!(exceptions, EXCEPTIONS.map(|(_, count, _)| count));
}

#[test]
fn every_captured_message_keeps_its_meaning() {
    for (adapter, rules, count) in FILES {
        let mut compared = 0;
        for message in messages(adapter) {
            let decoded = decode(&message, &message.bytes).unwrap();
            let encoded = encode(&message, rules, &decoded);
            assert_eq!(decode(&message, &encoded).unwrap().body, decoded.body, "{}", message.location);
            if decoded.from != Some(NodeId::EMITTER) {
                let expected =
                    if message.is_stream_entry() { &message.row["decoded"]["data"] } else { &message.row["decoded"] };
                let read = if message.is_json {
                    Payload::from_json(String::from_utf8(encoded.to_vec()).unwrap())
                } else {
                    Payload::from_msgpack(encoded)
                };
                assert_eq!(meaning::of_message(&read.unwrap()), meaning::of_capture(expected), "{}", message.location);
            }
            compared += 1;
        }
        assert_eq!(compared, count, "{adapter}");
    }
}

#[test]
fn every_captured_message_can_be_peeked_at() {
    for (adapter, ..) in FILES {
        for message in messages(adapter).iter().filter(|message| !message.is_stream_entry()) {
            let decoded = codec::decode(&message.bytes).unwrap();
            let Some(header) = codec::peek(&message.bytes) else {
                assert_eq!(decoded.from, Some(NodeId::EMITTER), "{}", message.location);
                continue;
            };
            assert_eq!((&header.from, &header.namespace), (&decoded.from, &decoded.namespace), "{}", message.location);
        }
    }
}

#[test]
fn headers_of_attachments_are_no_messages() {
    let all = captured::read("postgres");
    let headers: Vec<_> = all.iter().filter(|message| message.is_attachment_header()).collect();
    assert_eq!(headers.len(), 14);
    for header in headers {
        assert!(codec::decode(&header.bytes).unwrap_err().to_string().contains("data: missing"));
    }
}

fn messages(adapter: &str) -> Vec<Captured> {
    captured::read(adapter).into_iter().filter(|message| !message.is_attachment_header()).collect()
}

/// Decodes `bytes`, which are of the same wire as the message.
fn decode(message: &Captured, bytes: &Bytes) -> Result<Decoded> {
    if !message.is_stream_entry() {
        return codec::decode(bytes);
    }
    let field = |name: &str| message.row["decoded"][name].as_str().unwrap();
    let kind = Kind::from_number(field("type").parse().unwrap()).unwrap();
    let from = NodeId::new(field("uid")).unwrap();
    let body = codec::decode_data(kind, Some(&from), bytes)?;
    Ok(Decoded { from: Some(from), namespace: Some(Namespace::new(field("nsp"))), seq_no: None, body })
}

/// Encodes for the wire of the message, without sequence number.
fn encode(message: &Captured, rules: Rules, decoded: &Decoded) -> Bytes {
    let format = if message.is_json { Format::Json } else { Format::MsgPack(rules) };
    if message.is_stream_entry() {
        return codec::encode_data(format, &decoded.body).unwrap().unwrap().into();
    }
    let namespace = decoded.namespace.clone().unwrap_or_else(|| Namespace::new("/"));
    let from = decoded.from.as_ref().unwrap();
    codec::encode(format, from, &namespace, &decoded.body).unwrap().finish(None, &[]).into()
}
