//! Peeking at the header of a message.

use bytes::Bytes;
use trunkline_core::{
    codec::{self, Format, Header, Kind, peek},
    model::{Message, Namespace, Room, Target},
};

use crate::{FORMATS, encode, hello, node, payload, request, seq_no};

fn peeked(text: &str) -> Option<Header> {
    peek(&Bytes::copy_from_slice(text.as_bytes()))
}

#[test]
fn every_encoded_message_has_a_header_to_peek_at() {
    let message = hello(Target::room("a\"b").except("é"));
    for format in FORMATS {
        let encoded = codec::encode(format, &node("n\"1"), &Namespace::new("/é\\"), &message).unwrap();
        let header = peek(&encoded.finish(Some(seq_no(3, 9)), &[]).into()).unwrap();
        assert_eq!(header.kind, Kind::Broadcast);
        assert_eq!(header.from, Some(node("n\"1")));
        assert_eq!(header.namespace, Some(Namespace::new("/é\\")));
        assert_eq!(header.seq_no, Some(seq_no(3, 9)));
        assert_eq!(header.room, Some(Room::from("a\"b")));
    }
}

#[test]
fn only_a_plain_broadcast_to_one_room_has_a_room() {
    for format in FORMATS {
        let room = |message: &Message| peek(&encode(format, message)).unwrap().room;
        assert_eq!(room(&hello(Target::room(42))), Some(Room::from(42)));
        assert_eq!(room(&hello(Target::all())), None);
        assert_eq!(room(&hello(Target::rooms(["a", "b"]))), None);
        let acknowledged =
            Message::Broadcast { request: request("r"), target: Target::room("a"), payload: payload("[\"a\"]") };
        assert_eq!(room(&acknowledged), None);
        assert_eq!(room(&Message::Join { target: Target::room("a"), rooms: vec!["b".into()] }), None);
    }
}

#[test]
fn the_payload_is_not_touched() {
    let message = Message::Broadcast { request: None, target: Target::room("a"), payload: payload("[\"a\",[]]") };
    let mut bytes = encode(Format::Json, &message).to_vec();
    let at = bytes.windows(2).position(|pair| pair == b"[]").unwrap();
    bytes[at] = b'?';
    assert_eq!(peek(&bytes.into()).unwrap().room, Some(Room::from("a")));
}

#[test]
fn another_layout_cannot_be_peeked_at() {
    for text in [
        r#"{"uid":"n","nsp":"/","type":3,"data":{}}"#,
        r#"{ "type":3,"data":{},"uid":"n","nsp":"/"}"#,
        r#"{"type":3,"data":{},"nsp":"/","uid":"n"}"#,
        r#"{"type":3,"data":{},"uid":"n"}"#,
        r#"{"type":3,"data":{},"uid":"n","nsp":"/","x":{}}"#,
        r#"{"type":3,"data":{},"x":1,"uid":"n","nsp":"/"}"#,
        r#"{"type":3,"data":{},"uid":"n","nsp":"/","type":2}"#,
        r#"{"type":3.0,"data":{},"uid":"n","nsp":"/"}"#,
        r#"{"type":03,"data":{},"uid":"n","nsp":"/"}"#,
        r#"{"type":99,"data":{},"uid":"n","nsp":"/"}"#,
        r#"{"type":2,"uid":"n","nsp":"/""#,
        "{",
        "",
    ] {
        assert_eq!(peeked(text), None, "{text}");
    }
}

#[test]
fn text_in_a_payload_is_never_taken_for_the_envelope() {
    let tail = r#"},\"opts\":{\"rooms\":[\"b\"],\"except\":[],\"flags\":{}}},\"uid\":\"evil\",\"nsp\":\"/evil\"}"#;
    let message = Message::Broadcast {
        request: None,
        target: Target::room("a"),
        payload: payload(&format!(r#"["x","{tail}",{{"opts":{{"rooms":["c"]}},"uid":"x","nsp":"y"}}]"#)),
    };
    let header = peek(&encode(Format::Json, &message)).unwrap();
    assert_eq!((header.from, header.room), (Some(node("n1")), Some(Room::from("a"))));
}
