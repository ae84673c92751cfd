//! What the description of sockets allocates on its way from the server that answers to the caller.

use allocation_counter::measure;
use bytes::Bytes;
use trunkline_core::{
    Answer, Namespace, NodeId, Payload, RequestId, Response, RoomIndex, SocketId, SocketInfo, Target,
    codec::{self, Format},
    payload::Rules,
};

/// Sockets of one answer.
const SOCKETS: u64 = 1000;

/// Allocations for all sockets together where the answer is encoded: the message and its growth.
const ENCODE: u64 = 2;

/// Allocations per socket where the answer is decoded: its id, its rooms and their list, its handshake and data.
const DECODE: u64 = 8;

fn answer() -> Response {
    let sockets = (0..SOCKETS).map(|number| {
        let id = SocketId::new(format!("{number:020}")).unwrap();
        let data = Payload::from_json(r#"{"name":"someone","level":7}"#).unwrap();
        SocketInfo::new(id.clone(), vec![id.as_str().into(), "room-1".into()])
            .with_handshake(Some(SocketInfo::unknown_handshake()))
            .with_data(Some(data))
    });
    let answer = Answer::Sockets(sockets.collect());
    Response { request: RequestId::new("0123456789abcdef").unwrap(), answer }
}

#[test]
fn an_answer_is_encoded_at_once_and_decoded_with_a_few_allocations_a_socket() {
    let (from, namespace, answer) = (NodeId::new("0123456789abcdef").unwrap(), Namespace::new("/"), answer());
    for format in [Format::Json, Format::MsgPack(Rules::Notepack)] {
        let mut encoded = Vec::new();
        let encoding = measure(|| {
            encoded = codec::encode(format, &from, &namespace, &answer).unwrap().finish(None, &[]);
        });
        let bytes = Bytes::from(encoded);
        let mut decoded = None;
        let decoding = measure(|| decoded = Some(codec::decode(&bytes).unwrap()));
        let a_socket = decoding.count_total as f64 / SOCKETS as f64;
        println!("{format:?}: encoding {}, decoding {a_socket:.2} a socket", encoding.count_total);
        assert!(encoding.count_total <= ENCODE, "{format:?}: {} allocations to encode", encoding.count_total);
        assert!(a_socket <= DECODE as f64 + 0.1, "{format:?}: {a_socket} allocations a socket to decode");
    }
}

/// What a server does to deliver: it asks its rooms.
#[test]
fn the_members_of_a_room_are_visited_without_an_allocation() {
    let mut index = RoomIndex::new();
    for number in 0..SOCKETS {
        index.insert(number);
        index.join(&number, &"room-1".into());
    }
    let target = Target::room("room-1");
    let mut visited = 0;
    let counted = measure(|| index.for_each_match(&target, |_| visited += 1));
    assert_eq!((visited, counted.count_total), (SOCKETS, 0));
}
