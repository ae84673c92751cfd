//! The same message in another spelling: valid, and like no encoder writes it.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::tree::{self, Tree};

/// JSON with escaped letters, white space and numbers with fractions and exponents.
pub(super) fn json(tree: &Tree, rng: &mut Rng) -> Vec<u8> {
    let mut text = String::new();
    write_json(&mut text, tree, rng);
    text.into()
}

fn write_json(out: &mut String, tree: &Tree, rng: &mut Rng) {
    let space = *rng.choice(&["", "", "", " ", "\n\t", "\r\n"]).unwrap_or(&"");
    match tree {
        Tree::Integer(number) => match rng.u8(..8) {
            0 => _ = write!(out, "{number}.0"),
            1 => _ = write!(out, "{number}e0"),
            2 => _ = write!(out, "{number}0E-1"),
            3 => _ = write!(out, "{number}.{}", "0".repeat(400)),
            // As large as a float can be.
            4 => _ = write!(out, "{number}{}", "0".repeat(rng.usize(20..280))),
            _ => _ = write!(out, "{number}"),
        },
        Tree::String(text) => write_text(out, &String::from_utf8_lossy(text.as_bytes()), rng),
        Tree::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { space });
                write_json(out, item, rng);
            }
            out.push_str(space);
            out.push(']');
        }
        Tree::Map(fields) => {
            out.push('{');
            for (index, (key, value)) in fields.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { space });
                write_text(out, &key.as_str().map_or_else(|| key.to_string(), str::to_owned), rng);
                out.push_str(space);
                out.push(':');
                write_json(out, value, rng);
            }
            out.push_str(space);
            out.push('}');
        }
        other => out.push_str(&tree::to_json(other)),
    }
}

fn write_text(out: &mut String, text: &str, rng: &mut Rng) {
    let escapes = rng.u8(..3) == 0;
    out.push('"');
    for letter in text.chars() {
        if escapes || letter < ' ' || matches!(letter, '"' | '\\') {
            letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(out, "\\u{unit:04X}"));
        } else {
            out.push(letter);
        }
    }
    out.push('"');
}

/// MessagePack in longer forms than needed, with floats for integers and binary for texts.
pub(super) fn msgpack(tree: &Tree, rng: &mut Rng) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_msgpack(&mut bytes, tree, rng);
    bytes
}

fn write_msgpack(out: &mut Vec<u8>, tree: &Tree, rng: &mut Rng) {
    let is_long = rng.bool();
    match tree {
        Tree::Integer(number) if is_long => match (number.as_u64(), number.as_f64()) {
            (_, Some(number)) if rng.u8(..4) == 0 => head(out, 0xcb, &number.to_be_bytes()),
            (Some(number), _) => head(out, 0xcf, &number.to_be_bytes()),
            _ => out.extend(tree::to_msgpack(tree)),
        },
        Tree::String(text) if is_long => {
            let marker = if rng.u8(..8) == 0 { 0xc6 } else { 0xdb };
            head(out, marker, &length(text.as_bytes().len()));
            out.extend(text.as_bytes());
        }
        Tree::Array(items) => {
            head(out, 0xdd, &length(items.len()));
            items.iter().for_each(|item| write_msgpack(out, item, rng));
        }
        Tree::Map(fields) => {
            head(out, 0xdf, &length(fields.len()));
            for (key, value) in fields {
                write_msgpack(out, key, rng);
                write_msgpack(out, value, rng);
            }
        }
        other => out.extend(tree::to_msgpack(other)),
    }
}

fn head(out: &mut Vec<u8>, marker: u8, rest: &[u8]) {
    out.push(marker);
    out.extend(rest);
}

fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_spelling_says_the_same() {
        let tree = tree::decode(br#"{"a":["x","\n",{"b":null,"c":true}],"\u00e9":""}"#).unwrap();
        let mut rng = Rng::with_seed(1);
        let is_same = |bytes: &[u8]| tree::decode(bytes).as_ref() == Some(&tree);
        let json = (0..200).filter(|_| is_same(&json(&tree, &mut rng))).count();
        let msgpack = (0..200).filter(|_| is_same(&msgpack(&tree, &mut rng))).count();
        assert!(json > 150 && (20..200).contains(&msgpack), "{json} {msgpack}");
    }
}
