//! What answers allocate: neither encoding nor decoding fetched sockets builds a tree of values, and no answer is copied
//! on its way out.

use bytes::Bytes;
use trunkline_core::{
    codec::{self, Format},
    model::{Answer, Message, Namespace, NodeId, RequestId, Response, Room, SocketId, SocketInfo, Target},
    payload::{Payload, Rules},
};

use crate::{
    codec::allocations,
    paths::{CountedNode, runtime},
    transport::RecordingTransport,
};

/// Number of clients that acknowledge a broadcast.
pub(crate) const CLIENTS: u32 = 50;

/// Allocations of an acknowledgement: its place in the driver, the calls of the transport, the message.
const ACKNOWLEDGEMENT: u64 = 6;

/// Number of sockets of an answer.
const SOCKETS: u64 = 1000;

/// Allocations of a decoded socket: the list of its rooms.
const DECODED: u64 = 1;

/// Allocations of one answer, however many sockets it has: the list of all while it grows, the message, tasks.
const ANSWER: u64 = 40;

/// Sockets with handshake and data, each in two rooms.
pub(crate) fn sockets() -> Vec<SocketInfo> {
    let handshake = SocketInfo::unknown_handshake();
    let data = Payload::from_json(r#"{"user":{"name":"someone","roles":["a","b"]}}"#).unwrap();
    let socket = |number| {
        let id = format!("{number:016}");
        let rooms = vec![Room::new("lobby"), Room::new(id.as_str())];
        let socket = SocketInfo::new(SocketId::new(id).unwrap(), rooms);
        socket.with_handshake(Some(handshake.clone())).with_data(Some(data.clone()))
    };
    (0..SOCKETS).map(socket).collect()
}

fn node(id: &str) -> NodeId {
    NodeId::new(id).unwrap()
}

fn request() -> RequestId {
    RequestId::new("89abcdef01234567").unwrap()
}

#[test]
fn encoding_fetched_sockets_allocates_once_and_decoding_once_a_socket() {
    let response = Response { request: request(), answer: Answer::Sockets(sockets()) };
    let namespace = Namespace::new("/");
    for format in [Format::Json, Format::MsgPack(Rules::Notepack)] {
        let encode = || codec::encode(format, &node("0123456789abcdef"), &namespace, &response).unwrap();
        let bytes = Bytes::from(encode().finish(None, &[]));
        let decoding = allocations(|| codec::decode(&bytes).unwrap());
        println!("{format:?}: {} to encode, {decoding} to decode {SOCKETS} sockets", allocations(encode));
        assert!(decoding <= DECODED * SOCKETS + ANSWER, "{decoding} allocations as {format:?}");
    }
    let encode = || codec::encode(Format::Json, &node("0123456789abcdef"), &namespace, &response).unwrap();
    assert_eq!(allocations(encode), 1, "the message");
}

#[test]
fn an_answer_costs_its_description_and_one_message() {
    let runtime = runtime();
    let there = RecordingTransport::new(Format::Json);
    let asked = runtime.block_on(CountedNode::join(there.backend()));
    let message = Message::FetchSockets { request: request(), target: Target::all() };
    let (asking, namespace) = (node("0123456789abcdef"), Namespace::new("/"));
    let question = codec::encode(Format::Json, &asking, &namespace, &message).unwrap().finish(None, &[]);
    let question = [Bytes::from(question)];
    let answer = || runtime.block_on(there.answered(&question, SOCKETS as usize * 100));
    // Until all queues have their size.
    answer();
    let described = allocations(|| asked.describe());
    let answering = allocations(answer);
    println!("{described} to describe, {answering} to answer");
    assert!(answering <= described + ANSWER, "{answering} allocations, {described} of them for the description");
}

#[test]
fn acknowledgements_that_come_together_go_in_one_write() {
    let runtime = runtime();
    let there = RecordingTransport::new(Format::Json);
    let _asked = runtime.block_on(CountedNode::join(there.backend()));
    let message =
        Message::Broadcast { request: Some(request()), target: Target::room("room-1"), payload: crate::text(128) };
    let (asking, namespace) = (node("0123456789abcdef"), Namespace::new("/"));
    let question = codec::encode(Format::Json, &asking, &namespace, &message).unwrap().finish(None, &[]);
    let question = [Bytes::from(question)];
    let writes = || runtime.block_on(there.writes_until_answered(&question, CLIENTS as usize + 1));
    // Until all queues have their size.
    writes();
    assert_eq!(writes(), [CLIENTS as usize + 1], "messages of each write");
    let allocated = allocations(writes);
    println!("{allocated} to acknowledge {CLIENTS} times");
    assert!(allocated <= ACKNOWLEDGEMENT * u64::from(CLIENTS) + ANSWER, "{allocated} allocations");
}
