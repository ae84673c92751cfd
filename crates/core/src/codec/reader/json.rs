//! [`JsonReader`]: reading messages in JSON.

use std::borrow::Cow;

use super::{Container, Reader, Shape};
use crate::payload::{
    Attachments, ByteString, Fault, Number, Payload, Scan,
    json::{RawText, Scanner},
};

/// A [`Reader`] of JSON text. Payloads are slices of the text.
#[derive(Clone, Debug)]
pub struct JsonReader<'a> {
    source: &'a ByteString,
    scanner: Scanner<'a>,
}

impl<'a> JsonReader<'a> {
    /// Begins to read at the start of the text.
    #[must_use]
    pub fn new(source: &'a ByteString) -> Self {
        Self { source, scanner: Scanner::new(source, 0) }
    }

    fn begin(&mut self, bracket: u8) -> Scan<Container> {
        if self.scanner.peek()? != bracket {
            return Err(Fault::Unexpected);
        }
        self.scanner.expect(bracket)?;
        Ok(Container::marked())
    }

    /// Consumes the comma before an entry or the bracket after the last one. True if an entry follows.
    fn next(&mut self, container: &mut Container, bracket: u8) -> Scan<bool> {
        let first = !container.started();
        container.advance();
        let byte = self.scanner.peek()?;
        if byte == bracket {
            return self.scanner.expect(bracket).map(|()| false);
        }
        if first { Ok(true) } else { self.scanner.expect(b',').map(|()| true) }
    }
}

impl<'a> Reader<'a> for JsonReader<'a> {
    fn shape(&mut self) -> Scan<Shape> {
        Ok(match self.scanner.peek()? {
            b'n' => Shape::Null,
            b't' | b'f' => Shape::Boolean,
            b'-' | b'0'..=b'9' => Shape::Number,
            b'"' => Shape::Text,
            b'[' => Shape::Array,
            b'{' => Shape::Map,
            _ => return Err(Fault::Syntax),
        })
    }

    fn begin_map(&mut self) -> Scan<Container> {
        self.begin(b'{')
    }

    fn next_key(&mut self, map: &mut Container) -> Scan<Option<Cow<'a, str>>> {
        if !self.next(map, b'}')? {
            return Ok(None);
        }
        self.scanner.key().map(|key| Some(key.text()))
    }

    fn begin_array(&mut self) -> Scan<Container> {
        self.begin(b'[')
    }

    fn next_item(&mut self, array: &mut Container) -> Scan<bool> {
        self.next(array, b']')
    }

    fn boolean(&mut self) -> Scan<bool> {
        match self.scanner.peek()? {
            b't' => self.scanner.literal("true").map(|()| true),
            b'f' => self.scanner.literal("false").map(|()| false),
            _ => Err(Fault::Unexpected),
        }
    }

    fn number(&mut self) -> Scan<Number> {
        if self.shape()? != Shape::Number {
            return Err(Fault::Unexpected);
        }
        self.scanner.number().map(Number::from_json)
    }

    fn text(&mut self) -> Scan<Cow<'a, str>> {
        self.scanner.string().map(RawText::text)
    }

    fn skip(&mut self) -> Scan<()> {
        self.scanner.skip()
    }

    fn skip_unchecked(&mut self) -> Scan<()> {
        let mut open = Vec::new();
        loop {
            match self.scanner.peek()? {
                byte @ (b'{' | b'[') => {
                    self.scanner.expect(byte)?;
                    // In ASCII a closing bracket is two behind its opening one.
                    open.push(byte + 2);
                    continue;
                }
                byte @ (b',' | b':') if !open.is_empty() => {
                    self.scanner.expect(byte)?;
                    continue;
                }
                byte @ (b'}' | b']') if open.pop() == Some(byte) => self.scanner.expect(byte)?,
                _ => self.scanner.skip()?,
            }
            if open.is_empty() {
                return Ok(());
            }
        }
    }

    fn end(&mut self) -> Scan<()> {
        self.scanner.end()
    }

    fn payload(&mut self) -> Scan<Payload> {
        self.scanner.peek()?;
        let start = self.scanner.position();
        self.scanner.skip()?;
        let text = self.source.slice_ref(self.scanner.since(start));
        Ok(Payload::from_trusted_json(text, Attachments::NONE))
    }
}
