//! Arbitrary messages, for property tests.

use std::time::Duration;

use proptest::{collection::vec, option, prelude::*};
use trunkline_core::{
    codec::Body,
    model::{
        Ack, Answer, Flags, Heartbeat, Message, Namespace, NodeId, RequestId, Response, Room, SeqChannel, SeqNo,
        SocketId, SocketInfo, Target,
    },
    payload::{Payload, Rules},
};

use crate::tree::{Tree, arguments, tree};

/// Any message or answer that these wires carry, as it comes out of decoding.
pub(crate) fn body() -> BoxedStrategy<Body> {
    prop_oneof![3 => message().prop_map(Body::Message), 2 => response().prop_map(Body::Response)].boxed()
}

pub(crate) fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        4 => (option::of(request()), target(), encoded(arguments()))
            .prop_map(|(request, target, payload)| Message::Broadcast { request, target, payload }),
        1 => (target(), rooms()).prop_map(|(target, rooms)| Message::Join { target, rooms }),
        1 => (target(), rooms()).prop_map(|(target, rooms)| Message::Leave { target, rooms }),
        1 => (target(), any::<bool>()).prop_map(|(target, close)| Message::Disconnect { target, close }),
        1 => (request(), target()).prop_map(|(request, target)| Message::FetchSockets { request, target }),
        1 => (option::of(request()), encoded(arguments()))
            .prop_map(|(request, payload)| Message::ServerSideEmit { request, payload }),
        1 => heartbeat().prop_map(Message::Heartbeat),
        1 => Just(Message::Leaving),
    ]
}

fn heartbeat() -> impl Strategy<Value = Heartbeat> {
    (any::<bool>(), vec(seq_no(), 0..20), option::of(any::<u16>())).prop_map(|(initial, high_water_marks, buckets)| {
        Heartbeat::new(initial).with_high_water_marks(high_water_marks).with_buckets(buckets)
    })
}

fn response() -> impl Strategy<Value = Response> {
    let answer = prop_oneof![
        vec(socket(), 0..4).prop_map(Answer::Sockets),
        option::of(encoded(tree())).prop_map(Answer::ServerSideEmit),
        any::<u32>().prop_map(Answer::ClientCount),
        (option::of(encoded(tree())), option::of(socket()))
            .prop_map(|(value, socket)| Answer::Ack(Ack::new(value).with_socket(socket.map(|socket| socket.id)))),
    ];
    (request(), answer).prop_map(|(request, answer)| Response { request, answer })
}

fn socket() -> impl Strategy<Value = SocketInfo> {
    (name(), rooms(), encoded(object()), encoded(object())).prop_map(|(id, rooms, handshake, data)| {
        SocketInfo::new(SocketId::new(id).unwrap(), rooms).with_handshake(Some(handshake)).with_data(Some(data))
    })
}

fn object() -> impl Strategy<Value = Tree> {
    vec(("[a-z]{1,5}", tree()), 0..3).prop_map(Tree::Map)
}

/// The payload in either encoding.
fn encoded(tree: impl Strategy<Value = Tree>) -> impl Strategy<Value = Payload> {
    (tree, any::<bool>()).prop_map(|(tree, json)| if json { tree.to_json() } else { tree.to_msgpack(Rules::MsgpackJs) })
}

pub(crate) fn target() -> impl Strategy<Value = Target> {
    (rooms(), rooms(), flags()).prop_map(|(rooms, except, flags)| Target { rooms, except, flags, trace: None })
}

fn flags() -> impl Strategy<Value = Flags> {
    let milliseconds = prop_oneof![0..10_000_u64, any::<u32>().prop_map(u64::from)];
    (option::of(any::<bool>()), option::of(any::<bool>()), option::of(milliseconds), any::<bool>()).prop_map(
        |(volatile, compress, timeout, expect_single_response)| {
            Flags::default()
                .with_volatile(volatile)
                .with_compress(compress)
                .with_timeout(timeout.map(Duration::from_millis))
                .with_expect_single_response(expect_single_response)
        },
    )
}

fn rooms() -> impl Strategy<Value = Vec<Room>> {
    prop_oneof![4 => vec(room(), 0..3), 1 => vec(room(), 14..18)]
}

fn room() -> impl Strategy<Value = Room> {
    prop_oneof![
        4 => name().prop_map(Room::from),
        1 => any::<i32>().prop_map(Room::from),
        1 => any::<f64>().prop_filter_map("finite", Room::number),
    ]
}

pub(crate) fn seq_no() -> impl Strategy<Value = SeqNo> {
    (any::<u16>(), any::<u64>()).prop_map(|(channel, number)| SeqNo { channel: SeqChannel(channel), number })
}

pub(crate) fn node() -> impl Strategy<Value = NodeId> {
    name().prop_map(|name| NodeId::new(name).unwrap())
}

pub(crate) fn namespace() -> impl Strategy<Value = Namespace> {
    name().prop_map(|name| Namespace::new(&name))
}

fn request() -> impl Strategy<Value = RequestId> {
    name().prop_map(|name| RequestId::new(name).unwrap())
}

/// Names: ordinary ones, and ones that look like pieces of a message.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9_-]{1,24}",
        1 => "[ -~é😀\n]{0,40}",
        1 => prop::sample::select(vec![
            r#","uid":"#,
            r#"","uid":"x","nsp":"/"}"#,
            r#","opts":{"rooms":["a"],"except":[],"flags":{}}},"#,
            "\\",
            "\"",
            "a3nsp",
        ])
        .prop_map(str::to_owned),
    ]
}
