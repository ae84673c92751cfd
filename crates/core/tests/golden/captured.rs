//! The messages that the official adapters sent, as they were captured on real brokers.

use std::{fs, path::Path};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde_json::Value;

/// One captured message.
pub(crate) struct Captured {
    /// File and line.
    pub(crate) location: String,
    /// The call that sent it.
    pub(crate) operation: String,
    /// Everything that was written down about it.
    pub(crate) row: Value,
    /// Whether it is JSON; MessagePack otherwise.
    pub(crate) is_json: bool,
    /// Its bytes; base64 around MessagePack is removed.
    pub(crate) bytes: Bytes,
}

impl Captured {
    /// Whether it is an entry of a Redis stream, of which the bytes are only the `data` field.
    pub(crate) fn is_stream_entry(&self) -> bool {
        self.row["stream"].is_string()
    }

    /// Whether it only announces an attachment of PostgreSQL, which is the backend's business.
    pub(crate) fn is_attachment_header(&self) -> bool {
        !self.row["decoded"]["attachmentId"].is_null()
    }
}

/// All messages of a file, in order. Rows without a payload (subscriptions, commands) are left out.
pub(crate) fn read(adapter: &str) -> Vec<Captured> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/wire/{adapter}.jsonl"));
    let file = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    file.lines().enumerate().filter_map(|(index, line)| captured(format!("{adapter}:{}", index + 1), line)).collect()
}

fn captured(location: String, line: &str) -> Option<Captured> {
    let row: Value = serde_json::from_str(line).unwrap();
    let raw = BASE64_STANDARD.decode(row["raw_base64"].as_str()?).unwrap();
    let encoding = row["encoding"].as_str().unwrap();
    let bytes = if encoding == "base64(msgpack)" { BASE64_STANDARD.decode(&raw).unwrap() } else { raw };
    let operation = row["operation"].as_str().unwrap().to_owned();
    Some(Captured { location, operation, is_json: encoding == "json", bytes: bytes.into(), row })
}
