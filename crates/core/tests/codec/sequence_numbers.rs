//! Fields that Trunkline adds at the end of a message: sequence number, room buckets, high-water marks.

use bytes::Bytes;
use trunkline_core::{
    codec::{self, Body, Format},
    model::{Heartbeat, Message, Namespace, Target},
    payload::Rules,
};

use crate::{FORMATS, hello, node, seq_no};

fn text(message: &Message, numbers: impl FnOnce(codec::EncodedMessage) -> Vec<u8>) -> String {
    let encoded = codec::encode(Format::Json, &node("n1"), &Namespace::new("/"), message).unwrap();
    let len = encoded.len();
    let bytes = numbers(encoded);
    assert!(len <= bytes.len());
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_sequence_number_is_added_at_the_end() {
    let text = text(&Message::Leaving, |encoded| encoded.finish(Some(seq_no(7, 123)), &[]));
    assert_eq!(text, r#"{"type":13,"uid":"n1","nsp":"/","stamp":[7,123]}"#);
}

#[test]
fn a_heartbeat_carries_buckets_and_high_water_marks() {
    let heartbeat = Heartbeat::new(true).with_high_water_marks(vec![seq_no(9, 9)]).with_buckets(Some(256));
    let message = Message::Heartbeat(heartbeat);
    let written = text(&message, |encoded| encoded.finish(Some(seq_no(0, 5)), &[seq_no(0, 4), seq_no(3, 1)]));
    assert_eq!(written, r#"{"type":1,"uid":"n1","nsp":"/","stamp":[0,5],"buckets":256,"counters":[[0,4],[3,1]]}"#);
    let decoded = codec::decode(&written.into_bytes().into()).unwrap();
    let high_water_marks = vec![seq_no(0, 4), seq_no(3, 1)];
    let expected = Heartbeat::new(true).with_high_water_marks(high_water_marks).with_buckets(Some(256));
    assert_eq!(decoded.body, Body::Message(Message::Heartbeat(expected)));
}

#[test]
fn only_heartbeats_carry_high_water_marks() {
    let written = text(&Message::Leaving, |encoded| encoded.finish(None, &[seq_no(0, 4)]));
    assert_eq!(written, r#"{"type":13,"uid":"n1","nsp":"/"}"#);
}

#[test]
fn without_a_sequence_number_the_length_is_known_in_advance() {
    for format in FORMATS {
        let encoded = codec::encode(format, &node("n1"), &Namespace::new("/"), &hello(Target::all())).unwrap();
        let len = encoded.len();
        assert_eq!(encoded.finish(None, &[]).len(), len);
    }
}

#[test]
fn the_length_of_a_msgpack_map_includes_the_added_fields() {
    let encode = |seq_no| {
        let format = Format::MsgPack(Rules::Notepack);
        codec::encode(format, &node("n1"), &Namespace::new("/"), &hello(Target::all())).unwrap().finish(seq_no, &[])
    };
    assert_eq!(encode(None)[0], 0x84);
    let stamped = encode(Some(seq_no(0, 300)));
    assert_eq!(stamped[0], 0x85);
    assert!(stamped.ends_with(b"\xa5stamp\x92\x00\xcd\x01\x2c"));
    assert_eq!(codec::decode(&Bytes::from(stamped)).unwrap().seq_no, Some(seq_no(0, 300)));
}

#[test]
fn added_fields_of_another_type_are_ignored() {
    for foreign in ["1", "\"x\"", "{}", "[]", "[1]", "[1,2,3]", "[70000,1]", "[-1,1]", "[1,1.5]", "null", "[[1,2]]"] {
        let text =
            format!(r#"{{"type":2,"uid":"n","nsp":"/","stamp":{foreign},"counters":{foreign},"buckets":{foreign}}}"#);
        let decoded = crate::decode(&text).unwrap();
        assert_eq!(decoded.seq_no, None, "{foreign}");
        assert_eq!(codec::peek(&text.into_bytes().into()).unwrap().seq_no, None);
    }
}
