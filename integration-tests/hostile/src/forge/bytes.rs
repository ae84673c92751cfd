//! Damage to encoded messages.

use fastrand::Rng;

/// Bytes that are nothing, or that promise more than there is.
pub(super) fn garbage(rng: &mut Rng) -> Vec<u8> {
    let length = rng.usize(..64);
    let random: Vec<u8> = (0..length).map(|_| rng.u8(..)).collect();
    match rng.u8(..10) {
        0 => Vec::new(),
        1 => [b"{\"type\":3,\"data\":", &random[..]].concat(),
        // Arrays in arrays, in JSON and in MessagePack.
        2 => [b"{\"type\":3,\"data\":{\"packet\":", &b"[".repeat(rng.usize(..100_000))[..]].concat(),
        3 => [b"\x83\xa4type\x03\xa4data", &b"\x91".repeat(rng.usize(..100_000))[..]].concat(),
        // An array, a map, a text and binary of four billion elements.
        4 => [b"\x83\xa4type\x03\xa4data\xdd\xff\xff\xff\xff", &random[..]].concat(),
        5 => [b"\x83\xa4type\x03\xa4data\xdf\xff\xff\xff\xff", &random[..]].concat(),
        6 => [b"\x93\xdb\xff\xff\xff\xff", &random[..]].concat(),
        7 => [b"\x93\xc6\xff\xff\xff\xff", &random[..]].concat(),
        8 => String::from_utf8_lossy(&random).into_owned().into(),
        _ => random,
    }
}

pub(super) fn truncate(bytes: &mut Vec<u8>, rng: &mut Rng) {
    bytes.truncate(rng.usize(..bytes.len().max(1)));
}

/// Changes, removes, inserts or repeats a few bytes.
pub(super) fn damage(bytes: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..rng.usize(1..6) {
        if bytes.is_empty() {
            return;
        }
        let at = rng.usize(..bytes.len());
        match rng.u8(..6) {
            0 => bytes[at] = rng.u8(..),
            1 => bytes[at] ^= 1 << rng.u8(..8),
            2 => _ = bytes.remove(at),
            3 => bytes.insert(at, rng.u8(..)),
            // What has a meaning in JSON or at the head of a value of MessagePack.
            4 => {
                bytes[at] =
                    *rng.choice(b"{}[]\",:\\0-9e.\x80\x90\xa0\xc0\xc1\xc4\xcb\xcf\xd3\xd9\xdc\xde\xff").unwrap_or(&0)
            }
            _ => {
                let end = rng.usize(at..bytes.len().min(at + 40));
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}
