//! Damage to the shape of messages.

use fastrand::Rng;

use crate::tree::{self, Tree};

/// Replaces a value anywhere by one of another type.
pub(super) fn confuse(tree: &mut Tree, rng: &mut Rng) {
    let value = other_value(rng);
    *somewhere(tree, rng) = value;
}

/// Removes, repeats, renames or adds keys, or mixes their order.
pub(super) fn scramble_keys(tree: &mut Tree, rng: &mut Rng) {
    let Some(fields) = some_map(tree, rng).filter(|fields| !fields.is_empty()) else { return };
    let at = rng.usize(..fields.len());
    match rng.u8(..6) {
        0 => _ = fields.remove(at),
        1 => fields.push(fields[at].clone()),
        2 => fields.push((fields[at].0.clone(), other_value(rng))),
        3 => fields[at].0 = other_value(rng),
        4 => fields.insert(at, (rng.choice(KEYS).copied().unwrap_or_default().into(), other_value(rng))),
        _ => rng.shuffle(fields),
    }
}

/// Replaces a number anywhere, or any value where there is none, by an odd one.
pub(super) fn odd_number(tree: &mut Tree, rng: &mut Rng) {
    for _ in 0..8 {
        let value = somewhere(tree, rng);
        if value.is_number() {
            *value = number(rng);
            return;
        }
    }
    *somewhere(tree, rng) = number(rng);
}

/// Puts a value anywhere at the bottom of many arrays or maps.
pub(super) fn deepen(tree: &mut Tree, rng: &mut Rng) {
    let depth = *rng.choice(&[50, 99, 100, 101, 130, 500]).unwrap_or(&100);
    let place = somewhere(tree, rng);
    let mut value = std::mem::replace(place, Tree::Nil);
    for _ in 0..depth {
        value = if rng.bool() { Tree::Array(vec![value]) } else { tree::map(vec![("a", value)]) };
    }
    *place = value;
}

/// Puts something large anywhere.
pub(super) fn inflate(tree: &mut Tree, rng: &mut Rng) {
    let size = *rng.choice(&[255, 256, 4097, 65_536, 70_000, 300_000]).unwrap_or(&0);
    let value = match rng.u8(..4) {
        0 => Tree::Array(vec![1.into(); size]),
        1 => Tree::Map((0..size / 10).map(|key| (key.to_string().into(), Tree::Nil)).collect()),
        2 => Tree::Binary(vec![0; size]),
        _ => "é".repeat(size).into(),
    };
    *somewhere(tree, rng) = value;
}

/// Replaces the sender.
pub(super) fn odd_sender(tree: &mut Tree, rng: &mut Rng) {
    let sender = match rng.u8(..8) {
        0 => "".into(),
        1 => "emitter".into(),
        2 => "x".repeat(rng.usize(200..5000)).into(),
        3 => "\",\"uid\":\"other".into(),
        4 => "\u{0}\u{1f600}*>#.".into(),
        5 => format!("invented-{}", rng.u16(..)).into(),
        _ => other_value(rng),
    };
    match tree {
        Tree::Array(items) if !items.is_empty() => items[0] = sender,
        tree => tree::set(tree, "uid", sender),
    }
}

pub(super) fn number(rng: &mut Rng) -> Tree {
    match rng.u8(..16) {
        0 => u64::MAX.into(),
        1 => (u64::MAX - 1).into(),
        2 => i64::MIN.into(),
        3 => (1_u64 << 53).into(),
        4 => (1_u64 << 32).into(),
        5 => u32::MAX.into(),
        6 => (-1).into(),
        7 => f64::NAN.into(),
        8 => f64::INFINITY.into(),
        9 => 1e308.into(),
        10 => 0.5.into(),
        11 => (-0.0).into(),
        12 => i64::MAX.into(),
        13 => rng.u64(..).into(),
        _ => rng.u8(..20).into(),
    }
}

pub(super) fn other_value(rng: &mut Rng) -> Tree {
    match rng.u8(..14) {
        0 => Tree::Nil,
        1 => rng.bool().into(),
        2..5 => number(rng),
        5 => "".into(),
        6 => "text".into(),
        7 => Tree::Array(Vec::new()),
        8 => Tree::Map(Vec::new()),
        9 => Tree::Array(vec![Tree::Nil, Tree::Map(Vec::new()), 1.into()]),
        10 => tree::map(vec![("_placeholder", true.into()), ("num", number(rng))]),
        11 => Tree::Binary(vec![1, 2, 3]),
        12 => Tree::Ext(-1, vec![0xff; rng.usize(..13)]),
        _ => tree::map(vec![("__proto__", Tree::Map(Vec::new())), ("toJSON", "x".into())]),
    }
}

/// A value anywhere in the tree, the outermost ones more often.
fn somewhere<'a>(tree: &'a mut Tree, rng: &mut Rng) -> &'a mut Tree {
    let count = match &*tree {
        Tree::Array(items) => items.len(),
        Tree::Map(fields) => fields.len(),
        _ => 0,
    };
    if count == 0 || rng.u8(..8) == 0 {
        return tree;
    }
    let at = rng.usize(..count);
    match tree {
        Tree::Array(items) => somewhere(&mut items[at], rng),
        Tree::Map(fields) => somewhere(&mut fields[at].1, rng),
        leaf => leaf,
    }
}

fn some_map<'a>(tree: &'a mut Tree, rng: &mut Rng) -> Option<&'a mut Vec<(Tree, Tree)>> {
    let at = match &*tree {
        Tree::Array(items) if !items.is_empty() => rng.usize(..items.len()),
        Tree::Map(fields) => {
            let inner: Vec<_> = (0..fields.len()).filter(|&at| fields[at].1.is_map()).collect();
            match rng.choice(&inner) {
                Some(&at) if rng.bool() => at,
                _ => return tree_fields(tree),
            }
        }
        _ => return None,
    };
    match tree {
        Tree::Array(items) => some_map(&mut items[at], rng),
        Tree::Map(fields) => some_map(&mut fields[at].1, rng),
        _ => None,
    }
}

fn tree_fields(tree: &mut Tree) -> Option<&mut Vec<(Tree, Tree)>> {
    match tree {
        Tree::Map(fields) => Some(fields),
        _ => None,
    }
}

/// Keys that mean something somewhere.
const KEYS: &[&str] = &[
    "type",
    "data",
    "uid",
    "nsp",
    "requestId",
    "packet",
    "opts",
    "rooms",
    "except",
    "flags",
    "sockets",
    "clientCount",
    "stamp",
    "counters",
    "buckets",
    "attachmentId",
    "offset",
    "to",
    "leaving",
    "undefined",
    "_id",
    "createdAt",
    "id",
    "close",
];
