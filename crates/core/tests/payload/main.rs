//! Payloads: both encodings hold the same values, and what is not valid is refused.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod arguments;
mod limits;
mod properties;
mod serde_values;
mod tree;

use trunkline_core::payload::Payload;

fn json(text: &str) -> Payload {
    Payload::from_json(text.to_owned()).unwrap()
}

fn msgpack(bytes: &[u8]) -> Payload {
    Payload::from_msgpack(bytes.to_vec()).unwrap()
}

fn text_of(payload: &Payload) -> String {
    payload.to_json().text.to_string()
}

#[test]
fn equal_meanings_are_equal_whatever_the_encoding() {
    assert_eq!(json(" [ 1.0 , \"\\u0041\" ] "), msgpack(b"\x92\x01\xa1A"));
    assert_ne!(json("[1]"), msgpack(b"\x91\x02"));
    assert_ne!(json(r#"{"a":1,"b":2}"#), json(r#"{"b":2,"a":1}"#));
}

#[test]
fn binary_in_plain_json_is_written_as_node_prints_a_buffer() {
    let payload = msgpack(b"\x93\xa1a\x81\xa1b\xc4\x02\x01\xff\xc4\x00");
    assert_eq!(
        &*payload.to_json_plain(),
        r#"["a",{"b":{"type":"Buffer","data":[1,255]}},{"type":"Buffer","data":[]}]"#
    );
}

#[test]
fn an_encoding_that_fits_is_not_copied() {
    let text = json("[1]");
    assert_eq!(text.to_json().text.as_ptr(), text.as_json_text().unwrap().as_ptr());
    let packed = msgpack(b"\x91\x01");
    assert_eq!(
        packed.to_msgpack(trunkline_core::payload::Rules::MsgpackJs).unwrap().as_ptr(),
        packed.as_msgpack().unwrap().as_ptr()
    );
}

#[test]
fn placeholders_without_attachments_are_ordinary_objects() {
    let payload = json(r#"["a",{"_placeholder":true,"num":0}]"#);
    assert!(!payload.has_binary());
    assert_eq!(payload, msgpack(b"\x92\xa1a\x82\xac_placeholder\xc3\xa3num\x00"));
}

#[test]
fn attachments_and_placeholders_must_match() {
    let placeholder = |numbers: &[i32]| {
        let items: Vec<_> = numbers.iter().map(|n| format!(r#"{{ "num" : {n}, "_placeholder": true }}"#)).collect();
        format!("[{}]", items.join(","))
    };
    let attach = |numbers: &[i32], count| Payload::from_json_with(placeholder(numbers), vec![vec![7].into(); count]);
    assert_eq!(attach(&[0], 1).unwrap(), msgpack(b"\x91\xc4\x01\x07"));
    assert!(attach(&[1, 0], 2).is_ok());
    for (numbers, count) in [(&[0][..], 2), (&[0, 0], 2), (&[0, 1], 1), (&[2], 1), (&[-1], 1), (&[], 1)] {
        let error = attach(numbers, count).unwrap_err();
        assert!(error.to_string().contains("placeholders"), "{numbers:?} {count} {error}");
    }
}

#[test]
fn dates_and_extensions_become_what_javascript_reads() {
    for (packed, text) in [
        (&b"\xd6\xff\x00\x00\x00\x00"[..], r#""1970-01-01T00:00:00.000Z""#),
        (b"\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", "null"),
        (b"\xd4\x00\x00", "null"),
        (b"\xd7\x00\x00\x00\x00\x00\x00\x00\x03\xe8", r#""1970-01-01T00:00:01.000Z""#),
        (b"\xd4\x05\x09", r#"[5,{"_placeholder":true,"num":0}]"#),
        (b"\xc7\x03\x00abc", r#"{"_placeholder":true,"num":0}"#),
        (b"\xca\x40\x20\x00\x00", "2.5"),
        (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", "null"),
        (b"\xa2a\xff", "\"a\u{fffd}\""),
        (b"\x82\x01\x02\xc2\x03", r#"{"1":2,"false":3}"#),
    ] {
        let payload = msgpack(packed);
        assert_eq!(text_of(&payload), text);
        assert_eq!(payload.has_binary(), text.contains("placeholder"));
    }
}

#[test]
fn lone_surrogates_are_replaced_when_converted_and_kept_otherwise() {
    let payload = json(r#"["\ud800x"]"#);
    assert_eq!(text_of(&payload), r#"["\ud800x"]"#);
    assert_eq!(payload, msgpack(b"\x91\xa4\xef\xbf\xbdx"));
    assert_eq!(payload.deserialize::<Vec<String>>().unwrap(), ["\u{fffd}x"]);
}
