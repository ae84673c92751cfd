//! The trace context that may stand beside a message.

use trunkline_core::{
    codec::{self, Body},
    model::{Message, Namespace, Target},
};

use crate::{FORMATS, encode, hello, node, seq_no};

const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn traced() -> Message {
    hello(Target { trace: Some(CONTEXT.into()), ..Target::room("r") })
}

fn trace_of(body: &Body) -> Option<&str> {
    match body {
        Body::Message(message) => message.trace().map(AsRef::as_ref),
        Body::Response(_) => None,
    }
}

#[test]
fn a_context_stands_beside_the_sequence_number() {
    let encoded = codec::encode(codec::Format::Json, &node("n1"), &Namespace::new("/"), &traced()).unwrap();
    let text = String::from_utf8(encoded.finish(Some(seq_no(0, 5)), &[])).unwrap();
    let end = format!(r#","uid":"n1","nsp":"/","traceparent":"{CONTEXT}","stamp":[0,5]}}"#);
    assert!(text.ends_with(&end), "{text}");
}

#[test]
fn a_context_is_read_as_it_was_written_and_hides_nothing_from_peeking() {
    for format in FORMATS {
        let bytes = encode(format, &traced());
        let decoded = codec::decode(&bytes).unwrap();
        assert_eq!(trace_of(&decoded.body), Some(CONTEXT));
        assert_eq!(codec::peek(&bytes).unwrap().room, Some("r".into()), "{format:?}");
    }
}

#[test]
fn without_a_context_nothing_is_added() {
    for format in FORMATS {
        let plain = encode(format, &hello(Target::room("r")));
        assert!(!plain.windows(11).any(|bytes| bytes == b"traceparent"));
        assert_eq!(trace_of(&codec::decode(&plain).unwrap().body), None);
    }
}

#[test]
fn a_context_of_another_type_or_too_long_is_ignored() {
    let long = format!("\"{}\"", "x".repeat(257));
    for foreign in ["1", "null", "[]", "{}", long.as_str()] {
        let text = format!(
            r#"{{"type":3,"data":{{"packet":{{"type":2,"data":["a"]}},"opts":{{"rooms":[],"except":[],"flags":{{}}}}}},"uid":"n","nsp":"/","traceparent":{foreign}}}"#
        );
        let decoded = crate::decode(&text).unwrap();
        assert_eq!(trace_of(&decoded.body), None, "{foreign}");
    }
}
