//! Payloads that are refused, and lengths that are not trusted before the bytes are there.

use trunkline_core::{
    ErrorKind,
    payload::{MAX_DEPTH, Payload, Rules},
};

#[test]
fn text_that_is_not_json_is_refused() {
    for text in [
        "",
        " ",
        "[",
        "]",
        "[1,]",
        "[1 2]",
        "{",
        "{1:2}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "nul",
        "nulll",
        "tru",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "+1",
        "--1",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\n\"",
        "\"\u{1f}\"",
        "[1]]",
        "1 2",
        "'a'",
        "NaN",
        "[1}",
        "{\"a\":1]",
        "\u{feff}1",
        "{,}",
        "[,1]",
        "{\"a\":1 \"b\":2}",
    ] {
        let error = Payload::from_json(text.to_owned()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
    }
}

#[test]
fn json_is_accepted_as_the_standard_says() {
    for text in [
        "0",
        "-0",
        "1.5e-10",
        "1E+3",
        " \t\r\n[ ] ",
        "\"\\ud800\"",
        "{\"a\":{},\"a\":[]}",
        "\"\u{7f}\u{10ffff}\"",
        "\"12345678\\\"90\"",
    ] {
        Payload::from_json(text.to_owned()).unwrap();
    }
}

#[test]
fn bytes_that_are_not_one_msgpack_value_are_refused() {
    for bytes in [
        &b""[..],
        b"\xc1",
        b"\x91",
        b"\x01\x02",
        b"\xa2a",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff\x00",
        b"\xdb\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x00",
        b"\x81\x90\x01",
        b"\x81\x80\x01",
        b"\x81\xd4\x00\x00\x01",
        b"\xcf\x00",
        b"\xd4\x00",
    ] {
        let error = Payload::from_msgpack(bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed, "{bytes:x?}");
    }
}

#[test]
fn depth_is_bounded_the_same_in_both_encodings() {
    let json = |depth| Payload::from_json("[".repeat(depth) + &"]".repeat(depth));
    let map = |depth| Payload::from_json(r#"{"a":"#.repeat(depth) + "1" + &"}".repeat(depth));
    let msgpack = |depth| Payload::from_msgpack([vec![0x91; depth - 1], vec![0x90]].concat());
    for payload in [json(MAX_DEPTH), map(MAX_DEPTH), msgpack(MAX_DEPTH)] {
        let payload = payload.unwrap();
        let packed = Payload::from_msgpack(payload.to_msgpack(Rules::Notepack).unwrap()).unwrap();
        assert_eq!(Payload::from_json(packed.to_json().text).unwrap(), payload);
        payload.deserialize::<serde_json::Value>().unwrap();
    }
    for error in [json(MAX_DEPTH + 1), map(MAX_DEPTH + 1), msgpack(MAX_DEPTH + 1), json(1_000_000), msgpack(1_000_000)]
    {
        assert!(error.unwrap_err().to_string().contains("nested too deeply"));
    }
}

#[test]
fn values_nested_too_deeply_are_not_encoded() {
    let nested = |depth| (0..depth).fold(serde_json::Value::Null, |value, _| serde_json::json!([value]));
    assert!(Payload::value(&nested(MAX_DEPTH)).is_ok());
    assert!(Payload::value(&nested(MAX_DEPTH + 1)).is_err());
    assert!(Payload::event("a", &(nested(MAX_DEPTH - 1),)).is_ok());
    assert!(Payload::event("a", &(nested(MAX_DEPTH),)).is_err());
}

#[test]
fn errors_and_debug_output_never_show_the_payload() {
    let error = Payload::from_json("[\"secret\"".to_owned()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"));
    let payload = Payload::from_json("[\"secret\"]".to_owned()).unwrap();
    assert!(!format!("{payload:?}").contains("secret"));
    let error = payload.deserialize::<Vec<u8>>().unwrap_err();
    assert!(!error.to_string().contains("secret"));
}
