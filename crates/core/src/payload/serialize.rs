//! Encoding Rust values as payloads, through serde: always as JSON, which most brokers carry; binary is set aside.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::{ByteString, Fault, MAX_DEPTH, Number, Payload, json};
use crate::error::{Error, Result};

pub(super) fn value<T: Serialize + ?Sized>(value: &T) -> Result<Payload> {
    let mut out = Vec::with_capacity(128);
    let Written { attachments, .. } = write(&mut out, value)?;
    finish(out, attachments)
}

/// Encodes `[name, ...arguments]`. The arguments are serialized right behind the name: if they turn out to be a list,
/// its opening bracket becomes the comma and its closing bracket that of the whole list.
pub(super) fn event<T: Serialize + ?Sized>(name: &str, arguments: &T) -> Result<Payload> {
    let mut out = Vec::with_capacity(128);
    out.push(b'[');
    json::escape(&mut out, name);
    let start = out.len();
    let Written { attachments, depth } = write(&mut out, arguments)?;
    match &out[start..] {
        b"null" | b"[]" => {
            out.truncate(start);
            out.push(b']');
        }
        [b'[', ..] => out[start] = b',',
        _ if depth == MAX_DEPTH => return Err(Fault::TooDeep.at("value that cannot be encoded")),
        _ => {
            out.insert(start, b',');
            out.push(b']');
        }
    }
    finish(out, attachments)
}

/// What serializing a value tells beside its text.
#[derive(Default)]
struct Written {
    attachments: Vec<Bytes>,
    /// Deepest nesting of arrays and maps.
    depth: usize,
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<Written> {
    let mut written = Written::default();
    let format = Compact { written: &mut written, open: 0, digits: Vec::new() };
    value
        .serialize(&mut Serializer::with_formatter(&mut *out, format))
        .map_err(|error| Error::malformed("value that cannot be encoded").with_source(error))?;
    Ok(written)
}

fn finish(out: Vec<u8>, attachments: Vec<Bytes>) -> Result<Payload> {
    let text = ByteString::try_from(out)
        .map_err(|error| Error::malformed("value that cannot be encoded").with_source(error))?;
    Ok(Payload::from_trusted_json(text, attachments))
}

/// Formats JSON as `JSON.stringify` does, and replaces byte buffers by placeholders.
struct Compact<'a> {
    written: &'a mut Written,
    open: usize,
    digits: Vec<u8>,
}

impl Compact<'_> {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.open += 1;
        self.written.depth = self.written.depth.max(self.open);
        if self.open > MAX_DEPTH {
            return Err(io::Error::other(Fault::TooDeep));
        }
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.open -= 1;
        writer.write_all(bracket)
    }
}

impl Formatter for Compact<'_> {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        self.digits.clear();
        Number::Float(value).write_json(&mut self.digits);
        writer.write_all(&self.digits)
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        // The digits that tell it from other f32, not those of the f64 next to it.
        self.write_f64(writer, value.to_string().parse().unwrap_or(f64::NAN))
    }

    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        write!(writer, "{{\"_placeholder\":true,\"num\":{}}}", self.written.attachments.len())?;
        self.written.attachments.push(Bytes::copy_from_slice(value));
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> io::Result<()> {
        serde_json::ser::CompactFormatter.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"]")
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.begin(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.end(writer, b"}")
    }
}
