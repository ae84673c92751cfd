//! How often the hot paths allocate. Upper bounds; docs/architecture.md states the numbers.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod codec;
mod paths;
mod transport;

use trunkline_core::payload::{Payload, Rules};

/// Sizes of the payloads, in bytes.
const SIZES: [usize; 2] = [128, 10_240];

/// An argument list with one text of about `size` bytes.
fn text(size: usize) -> Payload {
    Payload::from_json(format!(r#"["message","{}"]"#, "x".repeat(size - 14))).unwrap()
}

/// An argument list of about `size` bytes of small objects: many values.
fn objects(size: usize) -> Payload {
    let items: Vec<_> = (0..size / 32).map(|n| format!(r#"{{"id":1{n:05},"name":"someone"}}"#)).collect();
    Payload::from_json(format!(r#"["list",{}]"#, items.join(","))).unwrap()
}

fn packed(payload: &Payload) -> Payload {
    Payload::from_msgpack(payload.to_msgpack(Rules::Notepack).unwrap()).unwrap()
}
