//! Writes MessagePack as the official Node.js encoders do.

use bytes::Bytes;

use crate::payload::{Number, Sink};

/// The rule set of one of the two encoders that the official adapters use. What they share: the shortest form of every integer and length,
/// integers for floats that carry one, 64 bit floats for fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// notepack.io 3 (classic Redis, sharded Redis). Integers are integers up to 64 bits. Larger ones, which notepack corrupts, become
    /// floats.
    Notepack,
    /// @msgpack/msgpack 2.8 (Redis streams, PostgreSQL attachments). Integers beyond 2^53 are floats, unless a float would lose digits:
    /// then only our own nodes can have written them, and Node.js reads the nearest float anyway. A missing value is nil instead of no
    /// key.
    MsgpackJs,
}

/// Appends a number, in the shortest form the rules allow.
pub fn write_number(out: &mut Vec<u8>, number: Number, rules: Rules) {
    let number = number.normalized();
    match number {
        Number::Float(float) if !float.is_finite() => out.push(0xc0),
        Number::Float(float) => write_float(out, float),
        _ if rules == Rules::MsgpackJs && is_large(number) && is_exact(number) => write_float(out, number.as_f64()),
        Number::Unsigned(value) => write_unsigned(out, value),
        Number::Negative(value) => write_negative(out, value),
    }
}

/// Beyond JavaScript's safe integers.
fn is_large(number: Number) -> bool {
    const MAX_SAFE: u64 = (1 << 53) - 1;
    match number {
        Number::Unsigned(value) => value > MAX_SAFE,
        Number::Negative(value) => value.unsigned_abs() > MAX_SAFE,
        Number::Float(_) => true,
    }
}

/// Whether the number survives as a float.
fn is_exact(number: Number) -> bool {
    Number::Float(number.as_f64()).normalized() == number
}

fn write_float(out: &mut Vec<u8>, value: f64) {
    out.push(0xcb);
    out.extend_from_slice(&value.to_be_bytes());
}

fn write_unsigned(out: &mut Vec<u8>, value: u64) {
    match value {
        0..0x80 => out.push(value as u8),
        0x80..0x100 => out.extend_from_slice(&[0xcc, value as u8]),
        0x100..0x1_0000 => sized(out, 0xcd, &(value as u16).to_be_bytes()),
        0x1_0000..0x1_0000_0000 => sized(out, 0xce, &(value as u32).to_be_bytes()),
        _ => sized(out, 0xcf, &value.to_be_bytes()),
    }
}

fn write_negative(out: &mut Vec<u8>, value: i64) {
    match value {
        -0x20.. => out.push(value as u8),
        -0x80.. => out.extend_from_slice(&[0xd0, value as u8]),
        -0x8000.. => sized(out, 0xd1, &(value as i16).to_be_bytes()),
        -0x8000_0000.. => sized(out, 0xd2, &(value as i32).to_be_bytes()),
        _ => sized(out, 0xd3, &value.to_be_bytes()),
    }
}

/// Appends text.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    let len = text.len();
    match len {
        0..0x20 => out.push(0xa0 | len as u8),
        0x20..0x100 => out.extend_from_slice(&[0xd9, len as u8]),
        0x100..0x1_0000 => sized(out, 0xda, &(len as u16).to_be_bytes()),
        _ => sized(out, 0xdb, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Appends binary.
pub fn write_binary(out: &mut Vec<u8>, data: &[u8]) {
    let len = data.len();
    match len {
        0..0x100 => out.extend_from_slice(&[0xc4, len as u8]),
        0x100..0x1_0000 => sized(out, 0xc5, &(len as u16).to_be_bytes()),
        _ => sized(out, 0xc6, &(len as u32).to_be_bytes()),
    }
    out.extend_from_slice(data);
}

/// Appends the head of an array; its values must follow.
pub fn write_array_len(out: &mut Vec<u8>, len: usize) {
    ARRAY.write(out, len);
}

/// Appends the head of a map; its keys and values must follow.
pub fn write_map_len(out: &mut Vec<u8>, len: usize) {
    MAP.write(out, len);
}

fn sized(out: &mut Vec<u8>, head: u8, bytes: &[u8]) {
    out.push(head);
    out.extend_from_slice(bytes);
}

/// How the heads of one kind of container are written.
#[derive(Clone, Copy)]
struct Head {
    short: u8,
    wide: u8,
}

const ARRAY: Head = Head { short: 0x90, wide: 0xdc };
const MAP: Head = Head { short: 0x80, wide: 0xde };

impl Head {
    /// The bytes of the head and how many of them there are.
    fn bytes(self, len: usize) -> ([u8; 5], usize) {
        let [a, b, c, d] = (len as u32).to_be_bytes();
        match len {
            0..0x10 => ([self.short | d, 0, 0, 0, 0], 1),
            0x10..0x1_0000 => ([self.wide, c, d, 0, 0], 3),
            _ => ([self.wide + 1, a, b, c, d], 5),
        }
    }

    fn write(self, out: &mut Vec<u8>, len: usize) {
        let (bytes, count) = self.bytes(len);
        out.extend_from_slice(&bytes[..count]);
    }

    /// Replaces the byte that was reserved at `at`; a container of more than 15 moves what follows.
    fn patch(self, out: &mut Vec<u8>, at: usize, len: usize) {
        let (bytes, count) = self.bytes(len);
        if count == 1 {
            out[at] = bytes[0];
        } else {
            out.splice(at..=at, bytes[..count].iter().copied());
        }
    }
}

/// A [`Sink`] that writes MessagePack.
///
/// Of containers whose length is not known at the beginning (from JSON) one byte is reserved; only those with more than 15 entries are
/// moved afterwards to make room for their length.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    rules: Rules,
    /// The open containers, from the outermost of unknown length on.
    open: Vec<Open>,
}

/// Where the reserved byte of a container is, and how many values it has so far.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    at: usize,
    len: usize,
}

impl<'a> Writer<'a> {
    /// Appends to `out`.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, rules: Rules) -> Self {
        Self { out, rules, open: Vec::new() }
    }

    /// The rules it writes by.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Appends a value that is MessagePack already.
    pub fn verbatim(&mut self, bytes: &[u8]) {
        self.count();
        self.out.extend_from_slice(bytes);
    }

    fn count(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.len += 1;
        }
    }

    fn begin(&mut self, head: Head, len: Option<usize>) {
        self.count();
        let at = self.out.len();
        head.write(self.out, len.unwrap_or(0));
        if len.is_none() || !self.open.is_empty() {
            self.open.push(Open { at, len: 0 });
        }
    }

    fn end(&mut self, head: Head, len: Option<usize>, entries: fn(usize) -> usize) {
        // With a known length and nothing open outside, none was pushed.
        if let Some(open) = self.open.pop()
            && len.is_none()
        {
            head.patch(self.out, open.at, entries(open.len));
        }
    }
}

impl Sink for Writer<'_> {
    #[inline]
    fn null(&mut self) {
        self.count();
        self.out.push(0xc0);
    }

    #[inline]
    fn boolean(&mut self, value: bool) {
        self.count();
        self.out.push(0xc2 | u8::from(value));
    }

    #[inline]
    fn number(&mut self, value: Number) {
        self.count();
        write_number(self.out, value, self.rules);
    }

    #[inline]
    fn text(&mut self, value: &str) {
        self.count();
        write_text(self.out, value);
    }

    #[inline]
    fn binary(&mut self, value: Bytes) {
        self.count();
        write_binary(self.out, &value);
    }

    #[inline]
    fn begin_array(&mut self, len: Option<usize>) {
        self.begin(ARRAY, len);
    }

    #[inline]
    fn end_array(&mut self, len: Option<usize>) {
        self.end(ARRAY, len, |values| values);
    }

    #[inline]
    fn begin_map(&mut self, len: Option<usize>) {
        self.begin(MAP, len);
    }

    #[inline]
    fn key(&mut self, key: &str) {
        self.text(key);
    }

    #[inline]
    fn end_map(&mut self, len: Option<usize>) {
        self.end(MAP, len, |keys_and_values| keys_and_values / 2);
    }
}
