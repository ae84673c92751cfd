//! What is not understood, and how the error says so.

use trunkline_core::{
    ErrorKind,
    codec::{self, Format},
    model::{Answer, Message, Namespace, Response, Target},
    payload::{Attachments, Payload},
};

use crate::{decode, node, packed, payload, request};

/// The error that the message makes in both encodings.
fn refused(text: &str) -> String {
    let error = decode(text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
    assert_eq!(codec::decode(&packed(text)).unwrap_err().to_string(), error.to_string(), "{text}");
    error.to_string()
}

#[test]
fn an_error_names_the_field() {
    for (text, expected) in [
        ("{}", "type: missing"),
        (r#"{"type":"3"}"#, "type: wrong type"),
        (r#"{"type":3.5}"#, "type: number out of range"),
        (r#"{"type":3,"uid":"n"}"#, "data: missing"),
        (r#"{"type":3,"data":[]}"#, "data: wrong type"),
        (r#"{"type":3,"data":{"packet":{"data":["a"]}}}"#, "data.opts: missing"),
        (r#"{"type":3,"data":{"opts":{}}}"#, "data.packet: missing"),
        (r#"{"type":3,"data":{"packet":{"type":2},"opts":{}}}"#, "data.packet: missing"),
        (r#"{"type":3,"data":{"packet":{"data":{}},"opts":{}}}"#, "data.packet: wrong type"),
        (r#"{"type":3,"data":{"packet":{"data":["a"]},"opts":5}}"#, "opts: wrong type"),
        (r#"{"type":3,"data":{"packet":{"data":["a"]},"opts":"r"}}"#, "opts: wrong type"),
        (r#"{"type":3,"data":{"requestId":5}}"#, "data.requestId: wrong type"),
        (r#"{"type":4,"data":{"opts":{}}}"#, "data.rooms: missing"),
        (r#"{"type":7,"data":{"opts":{}}}"#, "data.requestId: missing"),
        (r#"{"type":8,"data":{"requestId":"r","sockets":{}}}"#, "sockets: wrong type"),
        (r#"{"type":8,"data":{"requestId":"r"}}"#, "data.sockets: missing"),
        (r#"{"type":9,"data":{"packet":"a"}}"#, "data.packet: wrong type"),
        (r#"{"type":11,"data":{"requestId":"r","clientCount":-1}}"#, "data.clientCount: number out of range"),
        (r#"{"type":11,"data":{"requestId":"r"}}"#, "data.clientCount: missing"),
        (r#"{"type":2,"uid":5}"#, "uid: wrong type"),
    ] {
        assert!(refused(text).ends_with(expected), "{} | {expected}", refused(text));
    }
}

#[test]
fn known_fields_occur_once() {
    for text in [
        r#"{"type":2,"type":2}"#,
        r#"{"type":2,"uid":"a","uid":"a"}"#,
        r#"{"type":2,"nsp":"a","nsp":"a"}"#,
        r#"{"type":2,"stamp":[0,1],"stamp":[0,1]}"#,
        r#"{"type":9,"data":{"packet":["a"]},"data":{"packet":["a"]}}"#,
        r#"{"type":9,"data":{"packet":["a"],"packet":["a"]}}"#,
        r#"{"type":3,"data":{"packet":{"data":[],"data":[]},"opts":{}}}"#,
        r#"{"type":4,"data":{"opts":{"rooms":[],"rooms":[]},"rooms":[]}}"#,
    ] {
        assert!(refused(text).ends_with("given twice"), "{text}");
    }
}

#[test]
fn an_unknown_type_is_told_apart_from_malformed_data() {
    for text in [r#"{"type":14,"data":5}"#, r#"{"type":0}"#] {
        for error in [decode(text).unwrap_err(), codec::decode(&packed(text)).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
    }
}

#[test]
fn garbage_is_refused() {
    for bytes in [
        &b""[..],
        b" ",
        b"null",
        b"[]",
        b"\x90",
        b"{",
        b"{}x",
        b"{\"type\":2}{",
        b"\xc1",
        b"{\"type\":2,\"x\":\"\xff\"}",
        b"\x81\xa4type\x02\x00",
    ] {
        assert_eq!(codec::decode(&bytes.into()).unwrap_err().kind(), ErrorKind::Malformed, "{bytes:?}");
    }
}

#[test]
fn oversized_rooms_and_ids_are_refused() {
    let long = "x".repeat(5000);
    assert!(
        refused(&format!(r#"{{"type":4,"data":{{"opts":{{}},"rooms":["{long}"]}}}}"#))
            .ends_with("data.rooms: too long")
    );
    assert!(refused(&format!(r#"{{"type":2,"uid":"{long}"}}"#)).ends_with("uid: too long"));
}

#[test]
fn what_the_wire_has_no_message_for_is_not_encoded() {
    let encode = |body: codec::BodyRef<'_>| {
        codec::encode(Format::Json, &node("n"), &Namespace::new("/"), body).unwrap_err().kind()
    };
    let id = || request("r").unwrap();
    assert_eq!(encode((&Message::AllRooms { request: id() }).into()), ErrorKind::Unsupported);
    let rooms = Response { request: id(), answer: Answer::Rooms(vec![]) };
    assert_eq!(encode((&rooms).into()), ErrorKind::Unsupported);
}

#[test]
fn an_event_that_would_break_node_peers_is_not_encoded() {
    for payload in [payload("{}"), Payload::from_trusted_json("[", Attachments::from(vec![vec![1].into()]))] {
        let message = Message::Broadcast { request: None, target: Target::all(), payload };
        let error = codec::encode(Format::Json, &node("n"), &Namespace::new("/"), &message).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
