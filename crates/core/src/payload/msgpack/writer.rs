//! Writing MessagePack as the official Node.js encoders do.
//!
//! `rmp` chooses the shortest form of integers and lengths, as those encoders do. Their other rules stand here: which
//! numbers are floats, what is nil, when a key is left out.

use std::io::Write;

use bytes::Bytes;
use rmp::encode;

use crate::payload::{Number, Sink};

/// Rules of one of the two MessagePack encoders that the official adapters use. Both write the shortest form of every
/// integer and length, integers for floats that carry one, and 64 bit floats for fractions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// notepack.io 3 (classic Redis, sharded Redis). Integers are integers up to 64 bits. Larger ones, which notepack
    /// corrupts, become floats.
    Notepack,
    /// @msgpack/msgpack 2.8 (Redis streams, PostgreSQL attachments). Integers beyond 2^53 are floats, unless a float
    /// would lose digits: then only Trunkline nodes can have written them, and Node.js reads the nearest float anyway. A
    /// missing value is nil instead of no key.
    MsgpackJs,
}

/// Appends a number, in the shortest form that the rules allow.
pub fn write_number(out: &mut Vec<u8>, number: Number, rules: Rules) {
    let number = number.normalized();
    match number {
        Number::Float(float) if !float.is_finite() => appended(encode::write_nil(out)),
        Number::Float(float) => appended(encode::write_f64(out, float)),
        _ if rules == Rules::MsgpackJs && is_large(number) && is_exact(number) => {
            appended(encode::write_f64(out, number.as_f64()));
        }
        Number::Unsigned(value) => appended(encode::write_uint(out, value)),
        Number::Negative(value) => appended(encode::write_sint(out, value)),
    }
}

/// Whether the number is beyond JavaScript's safe integers.
fn is_large(number: Number) -> bool {
    const MAX_SAFE: u64 = (1 << 53) - 1;
    match number {
        Number::Unsigned(value) => value > MAX_SAFE,
        Number::Negative(value) => value.unsigned_abs() > MAX_SAFE,
        Number::Float(_) => true,
    }
}

/// Whether a float can hold the number without losing digits.
fn is_exact(number: Number) -> bool {
    Number::Float(number.as_f64()).normalized() == number
}

/// Appends text.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    appended(encode::write_str(out, text));
}

/// Appends binary.
pub fn write_binary(out: &mut Vec<u8>, data: &[u8]) {
    appended(encode::write_bin(out, data));
}

/// Appends the marker and length of an array; its values must follow.
pub fn write_array_len(out: &mut Vec<u8>, len: usize) {
    Container::Array.write(out, len);
}

/// Appends the marker and length of a map; its keys and values must follow.
pub fn write_map_len(out: &mut Vec<u8>, len: usize) {
    Container::Map.write(out, len);
}

/// Drops the result of an append to a `Vec`, which cannot fail.
#[inline]
fn appended<T>(_: T) {}

#[derive(Clone, Copy)]
enum Container {
    Array,
    Map,
}

impl Container {
    /// Writes the marker and the length.
    #[inline]
    fn write(self, mut out: impl Write, len: usize) {
        match self {
            Self::Array => appended(encode::write_array_len(&mut out, len as u32)),
            Self::Map => appended(encode::write_map_len(&mut out, len as u32)),
        }
    }

    /// Replaces the byte that was reserved at `at`; a container of more than 15 entries moves what follows.
    fn patch(self, out: &mut Vec<u8>, at: usize, len: usize) {
        let mut bytes = [0; MAX_HEAD];
        let mut unused = &mut bytes[..];
        self.write(&mut unused, len);
        let used = MAX_HEAD - unused.len();
        if used == 1 {
            out[at] = bytes[0];
        } else {
            out.splice(at..=at, bytes[..used].iter().copied());
        }
    }
}

/// Bytes of the longest marker with its length.
const MAX_HEAD: usize = 5;

/// A [`Sink`] that writes MessagePack.
///
/// For arrays and maps whose length is not known at the beginning (from JSON) one byte is reserved; only those of more
/// than 15 entries are moved afterwards to make room for their length.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    rules: Rules,
    /// Open arrays and maps, from the outermost of unknown length on.
    open: Vec<Open>,
}

/// An array or map that is not complete: where its reserved byte is, and how many values it has so far.
#[derive(Clone, Copy, Debug, Default)]
struct Open {
    at: usize,
    len: usize,
}

impl<'a> Writer<'a> {
    /// Makes a writer that appends to `out`.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, rules: Rules) -> Self {
        Self { out, rules, open: Vec::new() }
    }

    /// Rules by which values are written.
    #[must_use]
    pub fn rules(&self) -> Rules {
        self.rules
    }

    /// Appends a value that is encoded already.
    pub fn verbatim(&mut self, bytes: &[u8]) {
        self.count();
        self.out.extend_from_slice(bytes);
    }

    fn count(&mut self) {
        if let Some(open) = self.open.last_mut() {
            open.len += 1;
        }
    }

    fn begin(&mut self, container: Container, len: Option<usize>) {
        self.count();
        let at = self.out.len();
        container.write(&mut *self.out, len.unwrap_or(0));
        if len.is_none() || !self.open.is_empty() {
            self.open.push(Open { at, len: 0 });
        }
    }

    fn end(&mut self, container: Container, len: Option<usize>, entries: fn(usize) -> usize) {
        // With a known length and nothing open outside, none was pushed.
        if let Some(open) = self.open.pop()
            && len.is_none()
        {
            container.patch(self.out, open.at, entries(open.len));
        }
    }
}

impl Sink for Writer<'_> {
    #[inline]
    fn null(&mut self) {
        self.count();
        appended(encode::write_nil(self.out));
    }

    #[inline]
    fn boolean(&mut self, value: bool) {
        self.count();
        appended(encode::write_bool(self.out, value));
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
        self.begin(Container::Array, len);
    }

    #[inline]
    fn end_array(&mut self, len: Option<usize>) {
        self.end(Container::Array, len, |values| values);
    }

    #[inline]
    fn begin_map(&mut self, len: Option<usize>) {
        self.begin(Container::Map, len);
    }

    #[inline]
    fn key(&mut self, key: &str) {
        self.text(key);
    }

    #[inline]
    fn end_map(&mut self, len: Option<usize>) {
        self.end(Container::Map, len, |keys_and_values| keys_and_values / 2);
    }
}
