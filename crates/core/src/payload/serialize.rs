//! From Rust values to payloads, through serde.

use std::io::{self, Write};

use bytes::Bytes;
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

use super::{ByteString, MAX_DEPTH, Number, Payload, json};
use crate::error::{Error, Result};

pub(super) fn value<T: Serialize + ?Sized>(value: &T) -> Result<Payload> {
    let mut out = Vec::with_capacity(128);
    let attachments = write(&mut out, value, 0)?;
    finish(out, attachments)
}

/// Serializes the arguments right behind the name: if they turn out to be a list, its opening bracket becomes the comma and its closing
/// bracket that of the whole list.
pub(super) fn event<T: Serialize + ?Sized>(name: &str, arguments: &T) -> Result<Payload> {
    let mut out = Vec::with_capacity(128);
    out.push(b'[');
    json::escape(&mut out, name);
    let start = out.len();
    let attachments = write(&mut out, arguments, 1)?;
    match &out[start..] {
        b"null" | b"[]" => {
            out.truncate(start);
            out.push(b']');
        }
        [b'[', ..] => out[start] = b',',
        _ => {
            out.insert(start, b',');
            out.push(b']');
        }
    }
    finish(out, attachments)
}

fn write<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T, depth: usize) -> Result<Vec<Bytes>> {
    let mut attachments = Vec::new();
    let format = Compact { attachments: &mut attachments, depth };
    value
        .serialize(&mut Serializer::with_formatter(&mut *out, format))
        .map_err(|error| Error::malformed("value that cannot be encoded").with_source(error))?;
    Ok(attachments)
}

fn finish(out: Vec<u8>, attachments: Vec<Bytes>) -> Result<Payload> {
    let text = ByteString::try_from(out)
        .map_err(|error| Error::malformed("value that cannot be encoded").with_source(error))?;
    Ok(Payload::from_trusted_json(text, attachments))
}

/// Formats as `JSON.stringify` does, and puts byte buffers aside.
struct Compact<'a> {
    attachments: &'a mut Vec<Bytes>,
    depth: usize,
}

impl Compact<'_> {
    fn begin<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(io::Error::other("nested too deeply"));
        }
        writer.write_all(bracket)
    }

    fn end<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        writer.write_all(bracket)
    }
}

impl Formatter for Compact<'_> {
    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> io::Result<()> {
        let mut text = Vec::with_capacity(24);
        Number::Float(value).write_json(&mut text);
        writer.write_all(&text)
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> io::Result<()> {
        self.write_f64(writer, f64::from(value))
    }

    fn write_byte_array<W: ?Sized + Write>(&mut self, writer: &mut W, value: &[u8]) -> io::Result<()> {
        write!(writer, "{{\"_placeholder\":true,\"num\":{}}}", self.attachments.len())?;
        self.attachments.push(Bytes::copy_from_slice(value));
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
