//! What the codecs allocate. The payload never becomes a value tree: the counts depend neither on its size nor on what
//! is in it.

use allocation_counter::measure;
use bytes::Bytes;
use trunkline_core::{
    codec::{self, Format},
    model::{Message, Namespace, NodeId, SeqChannel, SeqNo, Target},
    payload::{Payload, Rules},
};

use crate::{SIZES, objects, packed, text};

pub(crate) fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let mut result = None;
    let counted = measure(|| result = Some(work())).count_total;
    drop(result);
    counted
}

fn encode(format: Format, message: &Message) -> Vec<u8> {
    let (from, namespace) = (NodeId::new("0123456789abcdef").unwrap(), Namespace::new("/"));
    let seq_no = SeqNo { channel: SeqChannel::ALL, number: 123_456 };
    codec::encode(format, &from, &namespace, message).unwrap().finish(Some(seq_no), &[])
}

#[test]
fn encoding_and_decoding_allocate_once_whatever_the_payload() {
    for payload in SIZES.into_iter().flat_map(|size| [text(size), objects(size)]) {
        for (format, payload) in [(Format::Json, payload.clone()), (Format::MsgPack(Rules::Notepack), packed(&payload))]
        {
            let what = format!("{payload:?} as {format:?}");
            let message = Message::Broadcast { request: None, target: Target::room("room-1"), payload };
            assert_eq!(allocations(|| encode(format, &message)), 1, "encoding {what}: the message");

            let bytes = Bytes::from(encode(format, &message));
            drop(bytes.clone());
            assert_eq!(allocations(|| codec::decode(&bytes).unwrap()), 1, "decoding {what}: the list of rooms");
            assert_eq!(allocations(|| codec::peek(&bytes).unwrap()), 0, "peeking at {what}");
            assert_eq!(allocations(|| message.clone()), 1, "cloning {what}: the list of rooms");
        }
    }
}

#[test]
fn arguments_become_a_payload_with_two_allocations() {
    let entering = allocations(|| Payload::event("list", &("someone", 1, true)).unwrap());
    assert_eq!(entering, 2, "their text, and its sharing");
}

#[test]
fn conversion_builds_no_value_tree() {
    for payload in SIZES.into_iter().flat_map(|size| [text(size), objects(size)]) {
        let to_msgpack = allocations(|| payload.to_msgpack(Rules::Notepack).unwrap());
        assert!(to_msgpack <= 4, "{payload:?}: {to_msgpack}: the result, its sharing, open containers");
        let packed = packed(&payload);
        let to_json = allocations(|| packed.to_json());
        assert!(to_json <= 4, "{packed:?}: {to_json}: the result, its growth, its sharing");
    }
}
