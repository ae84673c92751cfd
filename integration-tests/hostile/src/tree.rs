//! Messages as trees of MessagePack values, which may have what JSON has not: binary, repeated keys, any key.

use std::fmt::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
pub(crate) use rmpv::Value as Tree;

/// Reads JSON or MessagePack; `None` for anything else.
pub(crate) fn decode(bytes: &[u8]) -> Option<Tree> {
    if matches!(bytes.first(), Some(b'{' | b'[')) {
        return serde_json::from_slice(bytes).ok();
    }
    let mut rest = bytes;
    let tree = rmpv::decode::read_value(&mut rest).ok()?;
    rest.is_empty().then_some(tree)
}

/// Reads base64 of MessagePack, or JSON.
pub(crate) fn decode_text(text: &[u8]) -> Option<Tree> {
    if text.first() == Some(&b'{') { decode(text) } else { decode(&BASE64_STANDARD.decode(text).ok()?) }
}

pub(crate) fn to_msgpack(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, tree).expect("a vector takes everything");
    bytes
}

/// Base64 of MessagePack.
pub(crate) fn to_base64(tree: &Tree) -> String {
    BASE64_STANDARD.encode(to_msgpack(tree))
}

/// JSON text. Binary is written as Node.js prints a Buffer, keys as their text, and numbers that JSON has not as null.
pub(crate) fn to_json(tree: &Tree) -> String {
    let mut text = String::new();
    write_json(&mut text, tree);
    text
}

fn write_json(out: &mut String, tree: &Tree) {
    match tree {
        Tree::Boolean(value) => out.push_str(if *value { "true" } else { "false" }),
        Tree::Integer(number) => out.push_str(&number.to_string()),
        Tree::F32(number) if number.is_finite() => _ = write!(out, "{number:?}"),
        Tree::F64(number) if number.is_finite() => _ = write!(out, "{number:?}"),
        Tree::String(text) => write_text(out, &String::from_utf8_lossy(text.as_bytes())),
        Tree::Binary(bytes) => _ = write!(out, "{{\"type\":\"Buffer\",\"data\":{bytes:?}}}"),
        Tree::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write_json(out, item);
            }
            out.push(']');
        }
        Tree::Map(fields) => {
            out.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                let key = key.as_str().map_or_else(|| key.to_string(), str::to_owned);
                write_text(out, &key);
                out.push(':');
                write_json(out, value);
            }
            out.push('}');
        }
        _ => out.push_str("null"),
    }
}

fn write_text(out: &mut String, text: &str) {
    out.push_str(&serde_json::to_string(text).expect("text is always JSON"));
}

pub(crate) fn map(fields: Vec<(&str, Tree)>) -> Tree {
    Tree::Map(fields.into_iter().map(|(key, value)| (key.into(), value)).collect())
}

pub(crate) fn get<'a>(tree: &'a Tree, key: &str) -> Option<&'a Tree> {
    let fields = tree.as_map()?;
    fields.iter().find(|(name, _)| name.as_str() == Some(key)).map(|(_, value)| value)
}

/// Replaces a field of a map, or adds it.
pub(crate) fn set(tree: &mut Tree, key: &str, value: Tree) {
    remove(tree, key);
    if let Tree::Map(fields) = tree {
        fields.push((key.into(), value));
    }
}

/// Removes a field of a map, as often as it is there.
pub(crate) fn remove(tree: &mut Tree, key: &str) {
    if let Tree::Map(fields) = tree {
        fields.retain(|(name, _)| name.as_str() != Some(key));
    }
}

/// Replaces every text that is exactly `old`.
pub(crate) fn replace_text(tree: &mut Tree, old: &str, new: &str) {
    match tree {
        Tree::String(text) if text.as_str() == Some(old) => *tree = new.into(),
        Tree::Array(items) => items.iter_mut().for_each(|item| replace_text(item, old, new)),
        Tree::Map(fields) => fields.iter_mut().for_each(|(_, value)| replace_text(value, old, new)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_and_msgpack_come_back() {
        let text = r#"{"a":[1,-2,0.5,null,true,"é\n"],"b":{"c":{}}}"#;
        let tree = decode(text.as_bytes()).unwrap();
        assert_eq!(to_json(&tree), text);
        assert_eq!(decode(&to_msgpack(&tree)), Some(tree.clone()));
        assert_eq!(decode_text(to_base64(&tree).as_bytes()), Some(tree));
    }
}
