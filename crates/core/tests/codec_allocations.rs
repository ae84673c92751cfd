//! How often the hot paths allocate. The payload never becomes a value tree: the counts do not depend on what is in it.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use allocation_counter::measure;
use bytes::Bytes;
use trunkline_core::{
    codec::{self, Format},
    id::{Namespace, NodeId},
    message::{Channel, Message, Stamp},
    payload::{Payload, Rules},
    target::Target,
};

/// An argument list of about `size` bytes of small objects.
fn payload(size: usize) -> Payload {
    let items: Vec<_> = (0..size / 32).map(|n| format!(r#"{{"id":{n:06},"name":"someone"}}"#)).collect();
    Payload::from_json(format!(r#"["list",{}]"#, items.join(",").replace(":0", ":1"))).unwrap()
}

fn broadcast(payload: Payload) -> Message {
    Message::Broadcast { request: None, target: Target::room("room-1"), payload }
}

fn allocations<T>(work: impl FnOnce() -> T) -> u64 {
    let mut result = None;
    let counted = measure(|| result = Some(work())).count_total;
    drop(result);
    counted
}

fn encode(format: Format, message: &Message, from: &NodeId, namespace: &Namespace) -> Vec<u8> {
    let stamp = Stamp { channel: Channel::ALL, number: 123_456 };
    codec::encode(format, from, namespace, message).unwrap().finish(Some(stamp), &[])
}

#[test]
fn the_hot_paths_allocate_what_the_architecture_says() {
    let (from, namespace) = (NodeId::new("0123456789abcdef").unwrap(), Namespace::new("/"));
    for size in [128, 10_240] {
        let text = broadcast(payload(size));
        let Message::Broadcast { payload, .. } = &text else { unreachable!() };
        let packed = broadcast(Payload::from_msgpack(payload.to_msgpack(Rules::Notepack).unwrap()).unwrap());
        for (format, message) in [(Format::Json, &text), (Format::MsgPack(Rules::Notepack), &packed)] {
            let encoding = allocations(|| encode(format, message, &from, &namespace));
            assert_eq!(encoding, 1, "encoding {size} bytes as {format:?}: the message");

            let bytes = Bytes::from(encode(format, message, &from, &namespace));
            let decoding = allocations(|| codec::decode(&bytes).unwrap());
            assert_eq!(decoding, 1, "decoding {size} bytes of {format:?}: the list of rooms");

            let peeking = allocations(|| codec::peek(&bytes).unwrap());
            assert_eq!(peeking, 1, "peeking at {size} bytes of {format:?}: the list of rooms");

            let cloning = allocations(|| message.clone());
            assert_eq!(cloning, 1, "cloning: the list of rooms, not the payload");
        }
        let entering = allocations(|| Payload::event("list", &("someone", 1, true)).unwrap());
        assert_eq!(entering, 2, "encoding arguments: their text, its sharing");
        let converting = allocations(|| payload.to_msgpack(Rules::Notepack).unwrap());
        assert!(converting <= 4, "converting {size} bytes: the result, its sharing, open containers; was {converting}");
    }
}
