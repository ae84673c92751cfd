//! One pass over a MessagePack value: into a [`Sink`], or without one, which validates the value.

use std::borrow::Cow;

use bytes::Bytes;

use super::{Scanner, Token, timestamp};
use crate::payload::{Fault, MAX_DEPTH, fault::Scan, sink::Sink};

/// Depth limit of conversion. The value was accepted before, perhaps some levels deeper because it was part of a
/// message.
const TOLERATED_DEPTH: usize = MAX_DEPTH + 8;

/// Checks that `bytes` are one MessagePack value of bounded depth. True if it contains binary.
pub(crate) fn validate(bytes: &[u8]) -> Scan<bool> {
    let mut scanner = Scanner::new(bytes, 0);
    let binary = skip(&mut scanner, MAX_DEPTH)?;
    scanner.end()?;
    Ok(binary)
}

/// Consumes one value. True if it contains binary, which is also what an unknown extension is read as.
pub(crate) fn skip(scanner: &mut Scanner<'_>, depth: usize) -> Scan<bool> {
    Ok(match scanner.token()? {
        Token::Array(len) => {
            let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
            let mut binary = false;
            for _ in 0..len {
                binary |= skip(scanner, depth)?;
            }
            binary
        }
        Token::Map(len) => {
            let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
            let mut binary = false;
            for _ in 0..len {
                check_key(scanner.token()?)?;
                binary |= skip(scanner, depth)?;
            }
            binary
        }
        Token::Binary(_) => true,
        Token::Extension(kind, data) => matches!(extension(kind, data), Extension::Buffer | Extension::Unknown),
        _ => false,
    })
}

/// Streams `bytes`, one MessagePack value, into `sink`. Binary values are slices of `bytes`.
pub(crate) fn stream(bytes: &Bytes, sink: &mut impl Sink) -> Scan<()> {
    let mut scanner = Scanner::new(bytes, 0);
    value(&mut scanner, bytes, sink, TOLERATED_DEPTH)?;
    scanner.end()
}

fn value(scanner: &mut Scanner<'_>, source: &Bytes, sink: &mut impl Sink, depth: usize) -> Scan<()> {
    match scanner.token()? {
        Token::Null => sink.null(),
        Token::Boolean(value) => sink.boolean(value),
        Token::Number(value) => sink.number(value),
        Token::Text(text) => sink.text(&super::text(text)),
        Token::Binary(data) => sink.binary(source.slice_ref(data)),
        Token::Extension(kind, data) => write_extension(kind, data, source, sink),
        Token::Array(len) => {
            let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
            sink.begin_array(Some(len));
            for _ in 0..len {
                value(scanner, source, sink, depth)?;
            }
            sink.end_array(Some(len));
        }
        Token::Map(len) => {
            let depth = depth.checked_sub(1).ok_or(Fault::TooDeep)?;
            sink.begin_map(Some(len));
            for _ in 0..len {
                sink.key(&key_text(scanner.token()?)?);
                value(scanner, source, sink, depth)?;
            }
            sink.end_map(Some(len));
        }
    }
    Ok(())
}

fn check_key(key: Token<'_>) -> Scan<()> {
    match key {
        Token::Array(_) | Token::Map(_) | Token::Extension(..) => Err(Fault::Key),
        _ => Ok(()),
    }
}

/// Converts the key of a map to text, as JavaScript does.
#[inline]
pub(super) fn key_text(key: Token<'_>) -> Scan<Cow<'_, str>> {
    Ok(match key {
        Token::Text(text) | Token::Binary(text) => super::text(text),
        Token::Null => "null".into(),
        Token::Boolean(value) => value.to_string().into(),
        Token::Number(number) => {
            let mut text = Vec::new();
            number.write_json(&mut text);
            String::from_utf8_lossy(&text).into_owned().into()
        }
        Token::Array(_) | Token::Map(_) | Token::Extension(..) => return Err(Fault::Key),
    })
}

/// The meaning of an extension value. Type 0 is what old versions of notepack wrote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Extension {
    /// `undefined`.
    Undefined,
    /// A date: milliseconds since 1970, if JavaScript can represent it.
    Date(Option<i64>),
    /// An `ArrayBuffer`.
    Buffer,
    /// Anything else: an array of its type and its data, as notepack reads it.
    Unknown,
}

pub(super) fn extension(kind: i8, data: &[u8]) -> Extension {
    match (kind, data.len()) {
        (-1, 4 | 8 | 12) => Extension::Date(timestamp::milliseconds(data)),
        (0, 1) => Extension::Undefined,
        (0, 8) => Extension::Date(timestamp::old_milliseconds(data)),
        (0, _) => Extension::Buffer,
        _ => Extension::Unknown,
    }
}

fn write_extension(kind: i8, data: &[u8], source: &Bytes, sink: &mut impl Sink) {
    match extension(kind, data) {
        Extension::Undefined | Extension::Date(None) => sink.null(),
        Extension::Date(Some(milliseconds)) => sink.text(&timestamp::iso(milliseconds)),
        Extension::Buffer => sink.binary(source.slice_ref(data)),
        Extension::Unknown => {
            sink.begin_array(Some(2));
            sink.number(i64::from(kind).into());
            sink.binary(source.slice_ref(data));
            sink.end_array(Some(2));
        }
    }
}
