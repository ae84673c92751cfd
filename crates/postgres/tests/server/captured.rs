//! The messages that the official adapter and emitter sent, as they were captured on a real server.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use trunkline_core::{
    NodeId, Payload,
    codec::{self, Decoded},
};

/// The server that every captured operation was called on, its adapter of `/` and of `/custom`.
pub(crate) const CALLER: [&str; 2] = ["038bae6e70e3312e", "9e274a6431d49e47"];

/// The other server.
pub(crate) const OTHER: [&str; 2] = ["7385c15f36406d13", "a7cc8473dce39146"];

/// One line of the capture: a notification, a row of the attachments table, or only a note.
#[derive(Debug)]
pub(crate) struct Captured {
    /// The call that sent it.
    pub(crate) operation: String,
    pub(crate) row: Value,
    pub(crate) bytes: Bytes,
}

impl Captured {
    pub(crate) fn channel(&self) -> Option<&str> {
        self.row["channel"].as_str()
    }

    pub(crate) fn row_id(&self) -> Option<i64> {
        self.row["row_id"].as_str().map(|id| id.parse().unwrap())
    }

    pub(crate) fn is_from(&self, senders: [&str; 2]) -> bool {
        senders.contains(&self.row["decoded"]["uid"].as_str().unwrap_or_default())
    }

    pub(crate) fn is_answer(&self) -> bool {
        self.row["direction"] == "response"
    }

    /// The message, unless it only points to a row.
    pub(crate) fn message(&self) -> Option<Decoded> {
        let is_message = self.row["decoded"].is_object() && self.row["decoded"]["attachmentId"].is_null();
        is_message.then(|| codec::decode(&self.bytes).unwrap_or_else(|error| panic!("{}: {error}", self.operation)))
    }

    /// What the client of this name was seen to receive: arguments of an event, or a note that it was disconnected.
    pub(crate) fn received(&self, client: &str) -> Vec<Value> {
        let received = &self.row["received"];
        if received["$omitted"].is_string() {
            let got = received["clients"].as_array().unwrap().iter().any(|name| name == client);
            return if got { vec![plain(&self.row["decoded"]["packet"])] } else { Vec::new() };
        }
        received[client].as_array().into_iter().flatten().map(|packet| plain(&packet["args"])).collect()
    }

    /// The server-side event that it is.
    pub(crate) fn server_side_event(&self) -> Option<Value> {
        let packet = &self.row["decoded"]["data"]["packet"];
        (self.row["decoded"]["type"] == 9 && packet.is_array()).then(|| plain(packet))
    }
}

/// As `like` is encoded.
pub(crate) fn encode(like: &[u8], message: &Decoded, from: &NodeId) -> Vec<u8> {
    let format = match like.first() {
        Some(b'{') => codec::Format::Json,
        _ => codec::Format::MsgPack(trunkline_core::payload::Rules::MsgpackJs),
    };
    let namespace = message.namespace.clone().unwrap();
    codec::encode(format, from, &namespace, &message.body).unwrap().finish(None, &[])
}

/// All lines, in order.
pub(crate) fn read() -> Vec<Captured> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/data/wire/postgres.jsonl");
    let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lines().map(captured).collect()
}

fn captured(line: &str) -> Captured {
    let mut row: Value = serde_json::from_str(line).unwrap();
    let bytes = BASE64_STANDARD.decode(row["raw_base64"].as_str().unwrap_or_default()).unwrap();
    // What a large packet brought is written down only here.
    let packet = row["decoded"]["data"]["packet"]["data"].clone();
    if row["decoded"].is_object() {
        row["decoded"]["packet"] = packet;
    }
    Captured { operation: row["operation"].as_str().unwrap().to_owned(), bytes: bytes.into(), row }
}

/// Without the notes on how wide numbers are, and with all of them as floats; `undefined` arrives as null.
fn plain(value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(plain).collect(),
        Value::Object(fields) if fields.contains_key("$undefined") => Value::Null,
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), plain(value))).collect(),
        Value::Number(number) => json!(number.as_f64().unwrap()),
        other => other.clone(),
    }
}

/// A payload as the capture writes it down.
pub(crate) fn of_payload(payload: &Payload) -> Value {
    let json = payload.to_json();
    // Lone surrogates, which serde_json refuses, are replaced.
    let value = serde_json::from_str(&json.text).or_else(|_| payload.deserialize()).unwrap();
    with_binary(&plain(&value), &json.attachments)
}

fn with_binary(value: &Value, binary: &[Bytes]) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| with_binary(item, binary)).collect(),
        Value::Object(fields) if fields.contains_key("_placeholder") => {
            json!({"$binary": BASE64_STANDARD.encode(&binary[fields["num"].as_f64().unwrap() as usize])})
        }
        Value::Object(fields) => fields.iter().map(|(key, value)| (key.clone(), with_binary(value, binary))).collect(),
        other => other.clone(),
    }
}
