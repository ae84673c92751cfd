//! Trees as BSON and back.

use mongodb::bson::{Binary, Bson, DateTime, Document, Timestamp, oid::ObjectId, spec::BinarySubtype};

use crate::tree::Tree;

pub(crate) fn to_tree(value: Bson) -> Tree {
    match value {
        Bson::Double(number) => number.into(),
        Bson::Int32(number) => number.into(),
        Bson::Int64(number) => number.into(),
        Bson::String(text) => text.into(),
        Bson::Boolean(value) => value.into(),
        Bson::Binary(binary) => Tree::Binary(binary.bytes),
        Bson::Array(items) => Tree::Array(items.into_iter().map(to_tree).collect()),
        Bson::Document(document) => {
            Tree::Map(document.into_iter().map(|(key, value)| (key.into(), to_tree(value))).collect())
        }
        _ => Tree::Nil,
    }
}

/// Types that a tree has not, other than its own, come for extensions.
pub(crate) fn from_tree(tree: &Tree) -> Bson {
    match tree {
        Tree::Nil => Bson::Null,
        Tree::Boolean(value) => Bson::Boolean(*value),
        Tree::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => i32::try_from(number).map_or(Bson::Int64(number), Bson::Int32),
            (None, number) => Bson::Double(number.unwrap_or(u64::MAX) as f64),
        },
        Tree::F32(number) => Bson::Double(f64::from(*number)),
        Tree::F64(number) => Bson::Double(*number),
        Tree::String(text) => Bson::String(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        Tree::Binary(bytes) => {
            let subtype = if bytes.len() % 3 == 0 { BinarySubtype::BinaryOld } else { BinarySubtype::Generic };
            Bson::Binary(Binary { subtype, bytes: bytes.clone() })
        }
        Tree::Array(items) => Bson::Array(items.iter().map(from_tree).collect()),
        Tree::Map(_) => Bson::Document(document(tree)),
        Tree::Ext(_, bytes) => match bytes.len() % 6 {
            0 => Bson::DateTime(DateTime::from_millis(i64::MAX)),
            1 => Bson::ObjectId(ObjectId::new()),
            2 => Bson::Timestamp(Timestamp { time: u32::MAX, increment: 0 }),
            3 => Bson::MinKey,
            4 => Bson::Undefined,
            _ => Bson::Symbol("symbol".into()),
        },
    }
}

/// A map as document; anything else becomes its `data`.
pub(crate) fn document(tree: &Tree) -> Document {
    let Tree::Map(fields) = tree else { return mongodb::bson::doc! { "type": 3, "nsp": "/", "data": from_tree(tree) } };
    fields
        .iter()
        .map(|(key, value)| {
            (key.as_str().map_or_else(|| key.to_string(), str::to_owned).replace('\0', ""), from_tree(value))
        })
        .collect()
}
