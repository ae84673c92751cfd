//! The same arguments, captured as JSON on one wire and as MessagePack on another, are converted into each other: byte
//! for byte.

use std::collections::HashMap;

use bytes::Bytes;
use trunkline_core::{
    codec::BodyRef,
    payload::{
        Payload, Rules,
        msgpack::{Scanner, Token},
    },
};

use crate::{captured, decode, messages};

/// What a captured payload belongs to: the call, the type of the message, and the position among these.
type MessageKey = (String, u8, usize);

/// Arguments that differ between the wires already when they leave Node.js, and why.
const EXCEPTIONS: [(&str, &str); 5] = [
    (
        r#"io.serverSideEmit("sse", undefined, new Date(0)"#,
        "@msgpack/msgpack keeps keys whose value is undefined, JSON does not",
    ),
    (r#"io.emit("floats""#, "notepack makes 0 of 1e300"),
    (r#"io.emit("nonfinite""#, "JSON has null where MessagePack has NaN and the infinities"),
    (r#"io.emit("bin-view""#, "notepack writes typed arrays element by element"),
    (r#"io.emit("bin-mixed""#, "MessagePack has a date where JSON has text; notepack makes another number of 1e20"),
];

#[test]
fn json_becomes_what_the_official_encoders_make_of_the_same_arguments() {
    let json = payloads("redis-sharded-static");
    compare(&json, &classic_broadcasts(), Rules::Notepack, 26);
    compare(&json, &payloads("redis-streams"), Rules::MsgpackJs, 37);
}

/// Compares in both directions all arguments that occur in both, with binary as attachments.
fn compare(json: &HashMap<MessageKey, Payload>, msgpack: &HashMap<MessageKey, Payload>, rules: Rules, count: usize) {
    let mut compared = 0;
    for (key, packed) in msgpack {
        let Some(bytes) = packed.as_msgpack() else { continue };
        let Some(text) = json.get(key).map(Payload::to_json) else { continue };
        if EXCEPTIONS.iter().any(|(operation, _)| key.0.starts_with(operation)) {
            continue;
        }
        let payload = Payload::from_json_with(text.text.clone(), text.attachments.clone()).unwrap();
        assert_eq!(payload.to_msgpack(rules).unwrap(), bytes, "{key:?}");
        assert_eq!(packed.to_json(), text, "{key:?}");
        compared += 1;
    }
    assert_eq!(compared, count);
}

/// The arguments and answers of all messages of an adapter.
fn payloads(adapter: &str) -> HashMap<MessageKey, Payload> {
    let mut payloads = HashMap::new();
    let mut counts: HashMap<_, usize> = HashMap::new();
    for message in messages(adapter) {
        let decoded = decode(&message, &message.bytes).unwrap();
        let body = BodyRef::from(&decoded.body);
        let kind = body.kind().unwrap().number();
        let count = counts.entry((message.operation.clone(), kind)).or_default();
        if let Some(payload) = body.payload() {
            payloads.insert((message.operation, kind, *count), payload.clone());
        }
        *count += 1;
    }
    payloads
}

/// The arguments of the broadcasts of classic Redis, `[uid, {type, data, nsp}, opts]`.
fn classic_broadcasts() -> HashMap<MessageKey, Payload> {
    captured::read("redis-classic")
        .into_iter()
        .filter(|message| message.bytes[0] == 0x93)
        .map(|message| {
            let payload = Payload::from_msgpack(packet_data(&message.bytes)).unwrap();
            ((message.operation, 3, 0), payload)
        })
        .collect()
}

fn packet_data(bytes: &Bytes) -> Bytes {
    let mut scanner = Scanner::new(bytes, 1);
    scanner.skip().unwrap();
    assert!(matches!(scanner.token().unwrap(), Token::Map(_)));
    loop {
        let key = scanner.key().unwrap();
        let start = scanner.position();
        scanner.skip().unwrap();
        if key == "data" {
            return bytes.slice(start..scanner.position());
        }
    }
}
