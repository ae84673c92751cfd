//! Argument lists.

use trunkline_core::payload::{Payload, Rules};

use crate::{json, msgpack, text_of};

#[test]
fn the_name_of_an_event_is_its_first_argument() {
    assert_eq!(json(r#" [ "a\u0062\"" , 1]"#).event_name().as_deref(), Some("ab\""));
    assert_eq!(msgpack(b"\x92\xa2ab\x01").event_name().as_deref(), Some("ab"));
    for none in
        [json("[]"), json("[1]"), json("{}"), json("\"a\""), msgpack(b"\x90"), msgpack(b"\x91\x01"), msgpack(b"\xa1a")]
    {
        assert_eq!(none.event_name(), None);
    }
}

#[test]
fn what_clients_take_for_no_packet_is_told() {
    for packet in [json(r#"["news"]"#), json("[1]"), json("[-1.5, 2]"), json(r#"["Connect"]"#), msgpack(b"\x91\x05")] {
        assert!(packet.is_packet(), "{:?}", packet.event_name());
    }
    let reserved = ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
    for name in reserved {
        assert!(!Payload::event(name, &("x",)).unwrap().is_packet(), "{name}");
        let packed = Payload::event(name, &()).unwrap().to_msgpack(Rules::Notepack).unwrap();
        assert!(!msgpack(&packed).is_packet(), "{name}");
    }
    for other in [json("[]"), json("[null]"), json("[{}]"), json("[true]"), json("[1e999]"), json("{}"), json("\"a\"")]
    {
        assert!(!other.is_packet(), "{:?}", other.event_name());
    }
    for other in [&b"\x90"[..], b"\x91\xc0", b"\x91\x80", b"\xa1a", b"\x91\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"] {
        assert!(!msgpack(other).is_packet(), "{other:?}");
    }
}

#[test]
fn a_placeholder_of_no_attachment_is_told_in_json_too() {
    let real = r#"{"_placeholder":true,"num":0}"#;
    for (more, is_packet) in [
        (r#"{"_placeholder":true,"num":1e+308}"#, false),
        (r#"{"num":"0","_placeholder": true}"#, false),
        (r#"{"\u005fplaceholder":true,"num":7}"#, false),
        (r#"[{"_placeholder":true,"num":0,"more":1}]"#, false),
        (r#"{"_placeholder":[true]}"#, true),
        (r#"[{"_placeholder":1},true]"#, true),
        (r#""_placeholder",true"#, true),
        (r#"{"a\"b":true}"#, true),
    ] {
        let payload = |text: String| Payload::from_trusted_json(text, vec![b"x".to_vec().into()]);
        assert_eq!(payload(format!(r#"["e",{real},{more}]"#)).is_packet(), is_packet, "{more}");
    }
}

#[test]
fn a_placeholder_of_no_attachment_beside_binary_is_told() {
    let with = |binary: &[u8], map: &[u8]| msgpack(&[b"\x93\xa1e", binary, map].concat());
    let (first, sixth) = (b"\x82\xac_placeholder\xc3\xa3num\x00", b"\x82\xac_placeholder\xc3\xa3num\x05");
    assert!(with(b"\xc4\x01\x07", first).is_packet(), "clients find the attachment");
    assert!(!with(b"\xc4\x01\x07", sixth).is_packet());
    assert!(!with(b"\xc4\x01\x07", b"\x81\xac_placeholder\xc3").is_packet());
    assert!(with(b"\xc4\x01\x07", b"\x81\xac_placeholder\xc2").is_packet(), "false");
    assert!(with(b"\xc4\x01\x07", b"\xac_placeholder").is_packet(), "text");
    assert!(with(b"\x01", sixth).is_packet(), "without attachments clients look for none");
}

#[test]
fn only_arrays_are_argument_lists() {
    assert!(json(" []").is_args());
    assert!(msgpack(b"\xdc\x00\x00").is_args());
    assert!(!json("{}").is_args());
    assert!(!msgpack(b"\x80").is_args());
}

#[test]
fn an_offset_is_appended_in_both_encodings() {
    let appended = |payload: Payload| text_of(&payload.with_appended_text("1-0\""));
    assert_eq!(appended(json("[\"a\"]")), r#"["a","1-0\""]"#);
    assert_eq!(appended(json(" [ ] \n")), r#" [,"1-0\""]"#.replace(',', ""));
    assert_eq!(appended(msgpack(b"\x91\xa1a")), r#"["a","1-0\""]"#);
    assert_eq!(appended(msgpack(b"\x90")), r#"["1-0\""]"#);
    assert_eq!(appended(json("{}")), "{}");
    assert_eq!(appended(msgpack(b"\x80")), "{}");
}

#[test]
fn appending_moves_to_the_next_width_of_a_list() {
    for len in [14, 15, 16, 65_534, 65_535, 65_536] {
        let text = format!("[{}]", vec!["0"; len].join(","));
        let packed = json(&text).to_msgpack(Rules::Notepack).unwrap();
        let appended = msgpack(&packed).with_appended_text("x");
        assert_eq!(appended, json(&text.replace(']', ",\"x\"]")), "{len}");
    }
}

#[test]
fn appending_keeps_binary() {
    let payload = Payload::from_json_with(r#"["a",{"_placeholder":true,"num":0}]"#, vec![vec![1].into()]).unwrap();
    assert_eq!(payload.with_appended_text("o"), msgpack(b"\x93\xa1a\xc4\x01\x01\xa1o"));
}
