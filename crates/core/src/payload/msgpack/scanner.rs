//! The lexical layer of MessagePack.

use std::borrow::Cow;

use crate::payload::{Fault, MAX_DEPTH, Number, fault::Scan};

/// A position in MessagePack data, from which one token after the other is read.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// A scalar value, or the beginning of a container.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Token<'a> {
    /// nil.
    Null,
    /// A boolean.
    Boolean(bool),
    /// An integer or float of any width.
    Number(Number),
    /// Text; whether it is UTF-8 has not been checked.
    Text(&'a [u8]),
    /// Binary.
    Binary(&'a [u8]),
    /// An extension: its type and data.
    Extension(i8, &'a [u8]),
    /// An array; this many values follow. There are at least as many bytes.
    Array(usize),
    /// A map; this many keys and values follow in turn. There are at least as many bytes.
    Map(usize),
}

impl<'a> Scanner<'a> {
    /// Begins at `at`; beyond the end everything is truncated.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// The position, in bytes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Nothing may follow.
    pub fn end(&self) -> Scan<()> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(Fault::Trailing) }
    }

    /// The first byte of the next token.
    pub fn peek(&self) -> Scan<u8> {
        self.bytes.get(self.at).copied().ok_or(Fault::Truncated)
    }

    /// Consumes the next token; of a container only its head.
    #[inline]
    pub fn token(&mut self) -> Scan<Token<'a>> {
        let [head] = self.array()?;
        Ok(match head {
            0x00..=0x7f => unsigned(head),
            0x80..=0x8f => self.map(usize::from(head & 0x0f))?,
            0x90..=0x9f => self.list(usize::from(head & 0x0f))?,
            0xa0..=0xbf => Token::Text(self.take(usize::from(head & 0x1f))?),
            0xe0..=0xff => signed(i8::from_be_bytes([head])),
            _ => self.wide(head)?,
        })
    }

    /// The tokens whose head does not contain their value or length.
    fn wide(&mut self, head: u8) -> Scan<Token<'a>> {
        Ok(match head {
            0xc0 => Token::Null,
            0xc2 | 0xc3 => Token::Boolean(head == 0xc3),
            0xc4..=0xc6 => Token::Binary(self.sized(head - 0xc4)?),
            0xc7..=0xc9 => self.extension(head - 0xc7)?,
            0xca => Token::Number(Number::Float(f64::from(f32::from_be_bytes(self.array()?)))),
            0xcb => Token::Number(Number::Float(f64::from_be_bytes(self.array()?))),
            0xcc => unsigned(u8::from_be_bytes(self.array()?)),
            0xcd => unsigned(u16::from_be_bytes(self.array()?)),
            0xce => unsigned(u32::from_be_bytes(self.array()?)),
            0xcf => unsigned(u64::from_be_bytes(self.array()?)),
            0xd0 => signed(i8::from_be_bytes(self.array()?)),
            0xd1 => signed(i16::from_be_bytes(self.array()?)),
            0xd2 => signed(i32::from_be_bytes(self.array()?)),
            0xd3 => signed(i64::from_be_bytes(self.array()?)),
            0xd4..=0xd8 => self.extension_data(1 << (head - 0xd4))?,
            0xd9..=0xdb => Token::Text(self.sized(head - 0xd9)?),
            0xdc | 0xdd => {
                let len = self.len(head - 0xdc + 1)?;
                self.list(len)?
            }
            0xde | 0xdf => {
                let len = self.len(head - 0xde + 1)?;
                self.map(len)?
            }
            _ => return Err(Fault::Syntax),
        })
    }

    /// Consumes one value of any kind, checking its structure and its depth ([`MAX_DEPTH`]). True if there is binary in it.
    pub fn skip(&mut self) -> Scan<bool> {
        super::skip(self, MAX_DEPTH)
    }

    /// Consumes the key of a map. One that is not text is read as JavaScript would convert it.
    pub fn key(&mut self) -> Scan<Cow<'a, str>> {
        super::stream::key_text(self.token()?)
    }

    fn list(&self, len: usize) -> Scan<Token<'a>> {
        self.require(len).map(|()| Token::Array(len))
    }

    fn map(&self, len: usize) -> Scan<Token<'a>> {
        self.require(len.saturating_mul(2)).map(|()| Token::Map(len))
    }

    fn extension(&mut self, width: u8) -> Scan<Token<'a>> {
        let len = self.len(width)?;
        self.extension_data(len)
    }

    fn extension_data(&mut self, len: usize) -> Scan<Token<'a>> {
        let kind = i8::from_be_bytes(self.array()?);
        Ok(Token::Extension(kind, self.take(len)?))
    }

    fn sized(&mut self, width: u8) -> Scan<&'a [u8]> {
        let len = self.len(width)?;
        self.take(len)
    }

    /// A length of 1, 2 or 4 bytes, for the widths 0, 1 and 2.
    fn len(&mut self, width: u8) -> Scan<usize> {
        Ok(match width {
            0 => usize::from(u8::from_be_bytes(self.array()?)),
            1 => usize::from(u16::from_be_bytes(self.array()?)),
            _ => u32::from_be_bytes(self.array()?) as usize,
        })
    }

    /// A length is believed only as far as there are bytes.
    fn require(&self, len: usize) -> Scan<()> {
        if len <= self.bytes.len() - self.at { Ok(()) } else { Err(Fault::Truncated) }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Scan<&'a [u8]> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len)).ok_or(Fault::Truncated)?;
        self.at += len;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Scan<[u8; N]> {
        let taken = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk).ok_or(Fault::Truncated)?;
        self.at += N;
        Ok(*taken)
    }
}

fn unsigned<'a>(value: impl Into<u64>) -> Token<'a> {
    Token::Number(Number::Unsigned(value.into()))
}

fn signed<'a>(value: impl Into<i64>) -> Token<'a> {
    Token::Number(Number::from(value.into()))
}
