//! The codecs: what they write, tolerate and refuse, and that peeking agrees with decoding. The messages of the
//! official adapters are compared in `golden`.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "../payload/tree.rs"]
mod tree;

mod arbitrary;
mod hostile;
mod liberal;
mod peeking;
mod properties;
mod refused;
mod sequence_numbers;
mod traces;

use bytes::Bytes;
use trunkline_core::{
    Result,
    codec::{self, BodyRef, Decoded, Format},
    model::{Message, Namespace, NodeId, RequestId, SeqChannel, SeqNo, Target},
    payload::{Payload, Rules},
};

const FORMATS: [Format; 3] = [Format::Json, Format::MsgPack(Rules::Notepack), Format::MsgPack(Rules::MsgpackJs)];

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn request(id: &str) -> Option<RequestId> {
    Some(RequestId::new(id).unwrap())
}

fn payload(json: &str) -> Payload {
    Payload::from_json(json.to_owned()).unwrap()
}

fn seq_no(channel: u16, number: u64) -> SeqNo {
    SeqNo { channel: SeqChannel(channel), number }
}

fn hello(target: Target) -> Message {
    Message::Broadcast { request: None, target, payload: payload(r#"["hello","world"]"#) }
}

fn encode<'a>(format: Format, body: impl Into<BodyRef<'a>>) -> Bytes {
    codec::encode(format, &node("n1"), &Namespace::new("/"), body).unwrap().finish(None, &[]).into()
}

fn decode(text: &str) -> Result<Decoded> {
    codec::decode(&Bytes::copy_from_slice(text.as_bytes()))
}

/// The same message as MessagePack.
fn packed(json: &str) -> Bytes {
    payload(json).to_msgpack(Rules::Notepack).unwrap()
}
