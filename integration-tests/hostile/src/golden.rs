//! Messages captured from the official adapters, the models of the hostile ones.

use std::{fs, path::Path};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use mongodb::bson::Document;

use crate::{
    Failure,
    forge::Dialect,
    tree::{self, Tree},
    wire::bson,
};

/// The captured messages of a dialect.
pub(crate) fn all(dialect: Dialect) -> Result<Vec<Tree>, Failure> {
    let files: &[&str] = match dialect {
        Dialect::Classic => &["redis-classic"],
        Dialect::MongoDb => &["mongo", "mongo-csr"],
        Dialect::Envelope => &["postgres", "redis-sharded-dynamic", "redis-streams"],
    };
    let mut messages = Vec::new();
    for file in files {
        let path = Path::new(FOLDER).join(format!("{file}.jsonl"));
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for line in text.lines() {
            messages.extend(message(&serde_json::from_str(line)?));
        }
    }
    if messages.is_empty() { Err("there are no captured messages".into()) } else { Ok(messages) }
}

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/core/tests/data/wire");

/// `None` for rows without a message.
fn message(row: &serde_json::Value) -> Option<Tree> {
    let raw = BASE64_STANDARD.decode(row["raw_base64"].as_str()?).ok()?;
    let Some(fields) = row["fields_base64"].as_object() else {
        return match row["encoding"].as_str()? {
            "bson" => Document::from_reader(&raw[..]).ok().map(|document| bson::to_tree(document.into())),
            _ => tree::decode(&raw),
        };
    };
    let text = |name: &str| {
        let bytes = BASE64_STANDARD.decode(fields.get(name)?.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let kind: u64 = text("type")?.parse().ok()?;
    Some(tree::map(vec![
        ("type", kind.into()),
        ("data", tree::decode_text(&raw)?),
        ("uid", text("uid")?.into()),
        ("nsp", text("nsp")?.into()),
    ]))
}
