//! Every captured document of the official adapter and emitter is decoded and encoded again: to the same bytes.
//!
//! The captures are those of the official Node.js packages; see docs/protocol.md.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use mongodb::bson::Document as Tree;
use serde_json::Value;
use trunkline_core::{NodeKey, codec::Body};

use super::{EncodedMessage, ObjectIdGenerator, ReceivedDocument};

/// The captured files, and how many documents each has.
const FILES: [(&str, usize); 2] = [("mongo", 135), ("mongo-csr", 120)];

/// Documents that are encoded to other bytes on purpose: the beginning of the operation, how many documents, and why.
const EXCEPTIONS: [(&str, usize, &str); 5] = [
    (r#"io.emit("floats""#, 2, "JSON, which sockets need, has no -0"),
    (r#"io.emit("nonfinite""#, 2, "JSON has null for NaN and the infinities"),
    (r#"io.emit("bin-mixed""#, 2, "a date becomes its ISO text, as for every client; and -0"),
    (r#"io.serverSideEmit("sse", undefined, new Date(0)"#, 2, "the date"),
    (
        "[mongo-emitter] ",
        9,
        "the emitter repeats the namespace in the packet, writes flags before except, and leaves out empty flags",
    ),
];

struct Captured {
    line: String,
    operation: String,
    bytes: Bytes,
    decoded: Value,
}

fn read(adapter: &str) -> Vec<Captured> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../core/tests/data/wire/{adapter}.jsonl"));
    let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let rows = file.lines().enumerate();
    rows.filter_map(|(index, line)| {
        let row: Value = serde_json::from_str(line).unwrap();
        Some(Captured {
            line: format!("{adapter}:{}", index + 1),
            operation: row["operation"].as_str()?.to_owned(),
            bytes: BASE64_STANDARD.decode(row["raw_base64"].as_str()?).unwrap().into(),
            decoded: row["decoded"].clone(),
        })
    })
    .collect()
}

fn messages(adapter: &str) -> impl Iterator<Item = Captured> {
    read(adapter).into_iter().filter(|captured| !ReceivedDocument::read(&captured.bytes).unwrap().is_session())
}

/// Encodes a decoded message again, without fields of Trunkline nodes and with the id that it had.
fn encode(received: &ReceivedDocument<'_>, body: &Body) -> Bytes {
    let from = NodeKey { id: received.from.clone().unwrap(), namespace: received.namespace.clone().unwrap() };
    let encoded = EncodedMessage::new(&from, None, body.into(), false).unwrap();
    let mut document = encoded.finish(&from, None, &[]).document;
    document.identify(&mut ObjectIdGenerator::new());
    let mut bytes = document.into_raw().unwrap().into_bytes();
    crate::bson::object_id(&mut bytes, 9, received.id.unwrap());
    bytes.into()
}

#[test]
fn every_captured_document_is_encoded_to_the_same_bytes() {
    let mut exceptions = [0; EXCEPTIONS.len()];
    for (adapter, count) in FILES {
        let mut compared = 0;
        for captured in messages(adapter) {
            let received = ReceivedDocument::read(&captured.bytes).unwrap();
            let body = received.body(received.kind().unwrap()).unwrap();
            let encoded = encode(&received, &body);
            if encoded != captured.bytes {
                let exception = EXCEPTIONS.iter().position(|(operation, ..)| captured.operation.starts_with(operation));
                let tree = || Tree::from_reader(&mut &*encoded);
                exceptions
                    [exception.unwrap_or_else(|| panic!("{} {}: {:?}", captured.line, captured.operation, tree()))] +=
                    1;
            }
            compared += 1;
        }
        assert_eq!(compared, count, "{adapter}");
    }
    assert_eq!(exceptions, EXCEPTIONS.map(|(_, count, _)| count));
}

#[test]
fn every_captured_document_keeps_its_meaning() {
    for (adapter, _) in FILES {
        for captured in messages(adapter) {
            let received = ReceivedDocument::read(&captured.bytes).unwrap();
            let body = received.body(received.kind().unwrap()).unwrap();
            let encoded = encode(&received, &body);
            let again = ReceivedDocument::read(&encoded).unwrap();
            assert_eq!(again.body(again.kind().unwrap()).unwrap(), body, "{}", captured.line);
            assert_eq!(received.from.unwrap().as_str(), captured.decoded["uid"].as_str().unwrap());
            assert_eq!(received.namespace.unwrap().as_str(), captured.decoded["nsp"].as_str().unwrap());
        }
    }
}

#[test]
fn the_room_of_a_captured_broadcast_is_found_without_its_payload() {
    let mut found = 0;
    for (adapter, _) in FILES {
        for captured in messages(adapter) {
            let received = ReceivedDocument::read(&captured.bytes).unwrap();
            let body = received.body(received.kind().unwrap()).unwrap();
            let single = match &body {
                Body::Message(trunkline_core::Message::Broadcast { request: None, target, .. }) => target.single_room(),
                _ => None,
            };
            assert_eq!(received.room().as_ref(), single, "{}", captured.line);
            found += usize::from(single.is_some());
        }
    }
    assert!(found > 10, "{found}");
}
