//! The lexical layer of MessagePack: `rmp` reads markers, lengths and numbers; what they frame is borrowed from the
//! data.

use std::borrow::Cow;

use rmp::{
    Marker,
    decode::{self, Bytes},
};

use crate::payload::{Fault, MAX_DEPTH, Number, fault::Scan};

/// Reads MessagePack data token by token. A clone remembers the position.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    rest: Bytes<'a>,
}

/// A scalar value, or the marker and length of an array or map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// `nil`.
    Null,
    /// `true` or `false`.
    Boolean(bool),
    /// An integer or float of any width.
    Number(Number),
    /// Text; whether it is UTF-8 has not been checked.
    Text(&'a [u8]),
    /// Binary.
    Binary(&'a [u8]),
    /// An extension value: its type and data.
    Extension(i8, &'a [u8]),
    /// An array; this many values follow. There are at least as many bytes.
    Array(usize),
    /// A map; this many keys and values follow in turn. There are at least as many bytes.
    Map(usize),
}

impl<'a> Scanner<'a> {
    /// Begins to read at the byte `at`; beyond the end everything is truncated.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, rest: Bytes::new(bytes.get(at..).unwrap_or_default()) }
    }

    /// Position from the start of the data, in bytes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.bytes.len() - self.rest.remaining_slice().len()
    }

    /// Checks that nothing follows.
    pub fn end(&self) -> Scan<()> {
        if self.rest.remaining_slice().is_empty() { Ok(()) } else { Err(Fault::Trailing) }
    }

    /// The marker of the next token.
    #[inline]
    pub(crate) fn peek(&self) -> Scan<Marker> {
        self.rest.remaining_slice().first().map(|&byte| Marker::from_u8(byte)).ok_or(Fault::Truncated)
    }

    /// Consumes the next token; of an array or map only its marker and length.
    #[inline]
    pub fn token(&mut self) -> Scan<Token<'a>> {
        use Marker as M;
        let marker = self.peek()?;
        // These markers contain the value or the length, and are most of all.
        if let M::Null
        | M::False
        | M::True
        | M::FixPos(_)
        | M::FixNeg(_)
        | M::FixStr(_)
        | M::FixArray(_)
        | M::FixMap(_) = marker
        {
            self.take(1)?;
        }
        Ok(match marker {
            M::Null => Token::Null,
            M::False | M::True => Token::Boolean(marker == M::True),
            M::FixPos(value) => Token::Number(Number::Unsigned(value.into())),
            M::FixNeg(value) => Token::Number(Number::from(i64::from(value))),
            M::FixStr(len) => Token::Text(self.take(len.into())?),
            M::FixArray(len) => Token::Array(self.entries(len.into(), 1)?),
            M::FixMap(len) => Token::Map(self.entries(len.into(), 2)?),
            M::U8 | M::U16 | M::U32 | M::U64 => {
                Token::Number(Number::Unsigned(decode::read_int(&mut self.rest).map_err(truncated)?))
            }
            M::I8 | M::I16 | M::I32 | M::I64 => {
                Token::Number(Number::from(decode::read_int::<i64, _>(&mut self.rest).map_err(truncated)?))
            }
            M::F32 => Token::Number(Number::Float(decode::read_f32(&mut self.rest).map_err(truncated)?.into())),
            M::F64 => Token::Number(Number::Float(decode::read_f64(&mut self.rest).map_err(truncated)?)),
            M::Str8 | M::Str16 | M::Str32 => {
                let len = decode::read_str_len(&mut self.rest).map_err(truncated)?;
                Token::Text(self.take(len)?)
            }
            M::Bin8 | M::Bin16 | M::Bin32 => {
                let len = decode::read_bin_len(&mut self.rest).map_err(truncated)?;
                Token::Binary(self.take(len)?)
            }
            M::Array16 | M::Array32 => {
                let len = decode::read_array_len(&mut self.rest).map_err(truncated)?;
                Token::Array(self.entries(len, 1)?)
            }
            M::Map16 | M::Map32 => {
                let len = decode::read_map_len(&mut self.rest).map_err(truncated)?;
                Token::Map(self.entries(len, 2)?)
            }
            M::Reserved => return Err(Fault::Syntax),
            _ => {
                let meta = decode::read_ext_meta(&mut self.rest).map_err(truncated)?;
                Token::Extension(meta.typeid, self.take(meta.size)?)
            }
        })
    }

    /// Consumes one value of any kind, checking its structure and its depth ([`MAX_DEPTH`]). True if there is binary in
    /// it.
    pub fn skip(&mut self) -> Scan<bool> {
        super::skip(self, MAX_DEPTH)
    }

    /// Consumes the key of a map. A key that is not text is converted as JavaScript does.
    pub fn key(&mut self) -> Scan<Cow<'a, str>> {
        super::stream::key_text(self.token()?)
    }

    /// The length of a container whose entries have so many values each. It is believed only as far as there are bytes.
    fn entries(&self, len: u32, values: usize) -> Scan<usize> {
        let len = len as usize;
        let possible = len.saturating_mul(values) <= self.rest.remaining_slice().len();
        if possible { Ok(len) } else { Err(Fault::Truncated) }
    }

    #[inline]
    fn take(&mut self, len: u32) -> Scan<&'a [u8]> {
        let (taken, rest) = self.rest.remaining_slice().split_at_checked(len as usize).ok_or(Fault::Truncated)?;
        self.rest = Bytes::new(rest);
        Ok(taken)
    }
}

/// The marker was looked at before, so nothing but the end of the data can be in the way of what it announces.
#[inline]
fn truncated<E>(_: E) -> Fault {
    Fault::Truncated
}
