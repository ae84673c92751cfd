//! Writing JSON as `JSON.stringify` does.

use bytes::Bytes;

use super::escape;
use crate::payload::{Number, Sink};

/// How a [`Writer`] writes binary, for which JSON has no notation.
#[derive(Debug)]
pub enum Binary {
    /// As Socket.IO's placeholders; the values are collected.
    Attached(Vec<Bytes>),
    /// As Node.js prints a Buffer: `{"type":"Buffer","data":[…]}`.
    Inline,
}

/// A [`Sink`] that writes JSON text.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    binary: Binary,
    comma: bool,
}

impl<'a> Writer<'a> {
    /// Makes a writer that appends to `out`.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>, binary: Binary) -> Self {
        Self { out, binary, comma: false }
    }

    /// Makes a writer that appends to `out`, which ends in the middle of an object or array, behind a value.
    pub(crate) fn resume(out: &'a mut Vec<u8>) -> Self {
        Self { out, binary: Binary::Inline, comma: true }
    }

    /// Appends a key that is given with the comma before, its quotes and the colon behind.
    #[inline]
    pub(crate) fn prepared_key(&mut self, key: &'static str) {
        let skipped = usize::from(!self.comma);
        self.out.extend_from_slice(&key.as_bytes()[skipped..]);
        self.comma = false;
    }

    /// Binary values that were replaced by placeholders.
    #[must_use]
    pub fn into_attachments(self) -> Vec<Bytes> {
        match self.binary {
            Binary::Attached(parts) => parts,
            Binary::Inline => Vec::new(),
        }
    }

    /// Appends a value that is encoded already.
    pub fn verbatim(&mut self, text: &str) {
        self.value(text.as_bytes());
    }

    #[inline]
    fn separate(&mut self) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
    }

    #[inline]
    fn value(&mut self, text: &[u8]) {
        self.separate();
        self.out.extend_from_slice(text);
    }

    #[inline]
    fn begin(&mut self, bracket: u8) {
        self.separate();
        self.out.push(bracket);
        self.comma = false;
    }

    #[inline]
    fn end(&mut self, bracket: u8) {
        self.out.push(bracket);
        self.comma = true;
    }

    fn buffer(&mut self, data: &[u8]) {
        self.value(b"{\"type\":\"Buffer\",\"data\":[");
        self.comma = false;
        for &byte in data {
            self.separate();
            Number::from(u64::from(byte)).write_json(self.out);
        }
        self.out.extend_from_slice(b"]}");
        self.comma = true;
    }
}

impl Sink for Writer<'_> {
    #[inline]
    fn null(&mut self) {
        self.value(b"null");
    }

    #[inline]
    fn boolean(&mut self, value: bool) {
        self.value(if value { b"true" } else { b"false" });
    }

    #[inline]
    fn number(&mut self, value: Number) {
        self.separate();
        value.write_json(self.out);
    }

    #[inline]
    fn text(&mut self, value: &str) {
        self.separate();
        escape(self.out, value);
    }

    #[inline]
    fn binary(&mut self, value: Bytes) {
        let Binary::Attached(parts) = &mut self.binary else { return self.buffer(&value) };
        let index = parts.len();
        parts.push(value);
        self.value(format!("{{\"_placeholder\":true,\"num\":{index}}}").as_bytes());
    }

    #[inline]
    fn begin_array(&mut self, _: Option<usize>) {
        self.begin(b'[');
    }

    #[inline]
    fn end_array(&mut self, _: Option<usize>) {
        self.end(b']');
    }

    #[inline]
    fn begin_map(&mut self, _: Option<usize>) {
        self.begin(b'{');
    }

    #[inline]
    fn key(&mut self, key: &str) {
        self.separate();
        escape(self.out, key);
        self.out.push(b':');
        self.comma = false;
    }

    #[inline]
    fn end_map(&mut self, _: Option<usize>) {
        self.end(b'}');
    }

    #[inline]
    fn json_number(&mut self, text: &str) {
        self.value(text.as_bytes());
    }

    #[inline]
    fn json_text(&mut self, escaped: &str) {
        self.separate();
        quote(self.out, escaped);
    }

    #[inline]
    fn json_key(&mut self, escaped: &str) {
        self.json_text(escaped);
        self.out.push(b':');
        self.comma = false;
    }
}

/// Appends the inside of a JSON string with its quotes.
fn quote(out: &mut Vec<u8>, escaped: &str) {
    out.push(b'"');
    out.extend_from_slice(escaped.as_bytes());
    out.push(b'"');
}
