//! [`MsgPackReader`]: reading messages in MessagePack.

use std::borrow::Cow;

use bytes::Bytes;
use rmp::Marker;

use super::{Container, Reader, Shape};
use crate::payload::{
    Fault, Number, Payload, Scan,
    msgpack::{self, Scanner, Token},
};

/// A [`Reader`] of MessagePack. Payloads are slices of the data.
#[derive(Clone, Debug)]
pub struct MsgPackReader<'a> {
    source: &'a Bytes,
    scanner: Scanner<'a>,
}

impl<'a> MsgPackReader<'a> {
    /// Begins to read at the start of the data.
    #[must_use]
    pub fn new(source: &'a Bytes) -> Self {
        Self { source, scanner: Scanner::new(source, 0) }
    }
}

impl<'a> Reader<'a> for MsgPackReader<'a> {
    fn shape(&mut self) -> Scan<Shape> {
        Ok(match self.scanner.peek()? {
            Marker::FixPos(_) | Marker::U8 | Marker::U16 | Marker::U32 | Marker::U64 => Shape::Number,
            Marker::FixNeg(_) | Marker::I8 | Marker::I16 | Marker::I32 | Marker::I64 => Shape::Number,
            Marker::F32 | Marker::F64 => Shape::Number,
            Marker::FixMap(_) | Marker::Map16 | Marker::Map32 => Shape::Map,
            Marker::FixArray(_) | Marker::Array16 | Marker::Array32 => Shape::Array,
            Marker::FixStr(_) | Marker::Str8 | Marker::Str16 | Marker::Str32 => Shape::Text,
            Marker::Null => Shape::Null,
            Marker::True | Marker::False => Shape::Boolean,
            _ => Shape::Other,
        })
    }

    fn begin_map(&mut self) -> Scan<Container> {
        match self.scanner.token()? {
            Token::Map(len) => Ok(Container::sized(len)),
            _ => Err(Fault::Unexpected),
        }
    }

    fn next_key(&mut self, map: &mut Container) -> Scan<Option<Cow<'a, str>>> {
        if map.advance() == Some(false) {
            return Ok(None);
        }
        self.scanner.key().map(Some)
    }

    fn begin_array(&mut self) -> Scan<Container> {
        match self.scanner.token()? {
            Token::Array(len) => Ok(Container::sized(len)),
            _ => Err(Fault::Unexpected),
        }
    }

    fn next_item(&mut self, array: &mut Container) -> Scan<bool> {
        Ok(array.advance() == Some(true))
    }

    fn boolean(&mut self) -> Scan<bool> {
        match self.scanner.token()? {
            Token::Boolean(value) => Ok(value),
            _ => Err(Fault::Unexpected),
        }
    }

    fn number(&mut self) -> Scan<Number> {
        match self.scanner.token()? {
            Token::Number(number) => Ok(number),
            _ => Err(Fault::Unexpected),
        }
    }

    fn text(&mut self) -> Scan<Cow<'a, str>> {
        match self.scanner.token()? {
            Token::Text(text) => Ok(msgpack::text(text)),
            _ => Err(Fault::Unexpected),
        }
    }

    fn skip(&mut self) -> Scan<()> {
        self.scanner.skip().map(|_| ())
    }

    fn skip_unchecked(&mut self) -> Scan<()> {
        let mut left = 1_usize;
        while left > 0 {
            // A container claims no more entries than there are bytes.
            left += match self.scanner.token()? {
                Token::Array(entries) => entries,
                Token::Map(entries) => 2 * entries,
                _ => 0,
            };
            left -= 1;
        }
        Ok(())
    }

    fn end(&mut self) -> Scan<()> {
        self.scanner.end()
    }

    fn payload(&mut self) -> Scan<Payload> {
        let start = self.scanner.position();
        let binary = self.scanner.skip()?;
        let bytes = self.source.slice(start..self.scanner.position());
        Ok(Payload::from_valid_msgpack(bytes, binary))
    }
}
