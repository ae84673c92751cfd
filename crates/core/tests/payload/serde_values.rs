//! Rust values to payloads and back.

use std::collections::HashMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use trunkline_core::payload::{Payload, Rules};

use crate::{json, msgpack, text_of};

#[test]
fn an_event_is_its_name_and_arguments() {
    let text = |payload: trunkline_core::Result<Payload>| text_of(&payload.unwrap());
    assert_eq!(text(Payload::event("a", &("x", 1, 2.0))), r#"["a","x",1,2]"#);
    assert_eq!(text(Payload::event("a", &[1, 2])), r#"["a",1,2]"#);
    assert_eq!(text(Payload::event("a\"b", "x")), r#"["a\"b","x"]"#);
    assert_eq!(text(Payload::event("a", &())), r#"["a"]"#);
    assert_eq!(text(Payload::event("a", &[0; 0])), r#"["a"]"#);
    assert_eq!(text(Payload::event("a", &([1, 2],))), r#"["a",[1,2]]"#);
    assert_eq!(text(Payload::event("a", &(Option::<u8>::None,))), r#"["a",null]"#);
    assert_eq!(text(Payload::event("a", &f64::NAN)), r#"["a"]"#);
    assert_eq!(text(Payload::value(&(1e21, 1e-7, 0.1_f32, u64::MAX))), "[1e+21,1e-7,0.1,18446744073709551615]");
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Picture {
    name: String,
    #[serde(with = "serde_bytes")]
    data: Vec<u8>,
}

#[test]
fn byte_buffers_become_binary_and_come_back() {
    let picture = Picture { name: "cat".into(), data: vec![1, 2, 3] };
    let payload = Payload::event("picture", &(&picture, Bytes::from_static(b"x"))).unwrap();
    assert!(payload.has_binary());
    assert_eq!(
        text_of(&payload),
        r#"["picture",{"name":"cat","data":{"_placeholder":true,"num":0}},{"_placeholder":true,"num":1}]"#
    );
    let packed = Payload::from_msgpack(payload.to_msgpack(Rules::Notepack).unwrap()).unwrap();
    for payload in [payload, packed] {
        let (back, bytes): (Picture, Bytes) = payload.arguments().unwrap();
        assert_eq!((&back, &*bytes), (&picture, &b"x"[..]));
    }
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
enum Shape {
    Empty,
    Circle(u8),
    Box { width: u8 },
    Line(i8, i8),
}

#[derive(Serialize, Deserialize, PartialEq, Debug)]
struct Everything {
    shapes: Vec<Shape>,
    optional: Option<Box<Self>>,
    by_number: HashMap<u16, String>,
    unit: (),
    letter: char,
    signed: i64,
    float: f32,
}

#[test]
fn every_kind_of_serde_value_comes_back_from_both_encodings() {
    let inner = Everything {
        shapes: vec![],
        optional: None,
        by_number: HashMap::new(),
        unit: (),
        letter: 'é',
        signed: i64::MIN,
        float: 0.5,
    };
    let value = Everything {
        shapes: vec![Shape::Empty, Shape::Circle(3), Shape::Box { width: 4 }, Shape::Line(-1, 1)],
        optional: Some(Box::new(inner)),
        by_number: HashMap::from([(7, "seven".into())]),
        unit: (),
        letter: '"',
        signed: -5,
        float: 3.0,
    };
    let payload = Payload::value(&value).unwrap();
    assert_eq!(payload.deserialize::<Everything>().unwrap(), value);
    for rules in [Rules::Notepack, Rules::MsgpackJs] {
        let packed = Payload::from_msgpack(payload.to_msgpack(rules).unwrap()).unwrap();
        assert_eq!(packed.deserialize::<Everything>().unwrap(), value);
    }
}

#[test]
fn arguments_are_read_without_the_name() {
    for payload in [json(r#"["a",1,"x"]"#), msgpack(b"\x93\xa1a\x01\xa1x")] {
        assert_eq!(payload.arguments::<(u8, String)>().unwrap(), (1, "x".into()));
        assert_eq!(payload.deserialize::<(String, u8, String)>().unwrap(), ("a".into(), 1, "x".into()));
        assert!(
            payload.arguments::<(u8,)>().is_err() || payload.arguments::<Vec<serde_json::Value>>().unwrap().len() == 2
        );
    }
    assert!(json("[]").arguments::<Vec<u8>>().is_err());
    assert!(json("{}").arguments::<Vec<u8>>().is_err());
}

#[test]
fn javascript_reads_floats_that_carry_integers_as_integers() {
    let packed = msgpack(b"\x92\xcb\x40\x08\x00\x00\x00\x00\x00\x00\xca\xc0\x40\x00\x00");
    assert_eq!(packed.deserialize::<(u8, i8)>().unwrap(), (3, -3));
    assert_eq!(packed.deserialize::<(f64, f32)>().unwrap(), (3.0, -3.0));
}
