//! Payloads: both encodings hold the same values, and what is not valid is refused.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trunkline_core::payload::{Payload, Rules};

fn json(text: &str) -> Payload {
    Payload::from_json(text).unwrap()
}

fn msgpack(bytes: &[u8]) -> Payload {
    Payload::from_msgpack(bytes.to_vec()).unwrap()
}

#[test]
fn an_event_is_its_name_and_arguments() {
    let text = |payload: Payload| payload.to_json().text.to_string();
    assert_eq!(text(Payload::event("a", &("x", 1, 2.0)).unwrap()), r#"["a","x",1,2]"#);
    assert_eq!(text(Payload::event("a", &[1, 2]).unwrap()), r#"["a",1,2]"#);
    assert_eq!(text(Payload::event("a\"b", "x").unwrap()), r#"["a\"b","x"]"#);
    assert_eq!(text(Payload::event("a", &()).unwrap()), r#"["a"]"#);
    assert_eq!(text(Payload::event("a", &[0; 0]).unwrap()), r#"["a"]"#);
    assert_eq!(text(Payload::event("a", &([1, 2],)).unwrap()), r#"["a",[1,2]]"#);
    assert_eq!(text(Payload::event("a", &(Option::<u8>::None,)).unwrap()), r#"["a",null]"#);
}

#[test]
fn byte_buffers_become_binary_and_come_back() {
    #[derive(Serialize, Deserialize, PartialEq, Debug)]
    struct Picture {
        name: String,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    }
    let picture = Picture { name: "cat".into(), data: vec![1, 2, 3] };
    let payload = Payload::event("picture", &(&picture, Bytes::from_static(b"x"))).unwrap();
    assert!(payload.has_binary());
    assert_eq!(
        &*payload.to_json().text,
        r#"["picture",{"name":"cat","data":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":1}]"#
    );
    let packed = Payload::from_msgpack(payload.to_msgpack(Rules::Notepack).unwrap()).unwrap();
    for payload in [payload, packed] {
        let (back, bytes): (Picture, Bytes) = payload.arguments().unwrap();
        assert_eq!((back, &*bytes), (Picture { name: "cat".into(), data: vec![1, 2, 3] }, &b"x"[..]));
    }
}

#[test]
fn equal_meanings_are_equal_whatever_the_encoding() {
    assert_eq!(json(" [ 1.0 , \"\\u0041\" ] "), msgpack(b"\x92\x01\xa1A"));
    assert_ne!(json("[1]"), msgpack(b"\x91\x02"));
}

#[test]
fn binary_without_a_place_is_written_as_node_prints_a_buffer() {
    let payload = msgpack(b"\x92\xa1a\x81\xa1b\xc4\x02\x01\xff");
    assert_eq!(&*payload.to_json_plain(), r#"["a",{"b":{"type":"Buffer","data":[1,255]}}]"#);
}
