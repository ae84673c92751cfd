//! The lexical layer of JSON (RFC 8259).

use std::borrow::Cow;

use super::unescape;
use crate::payload::{Fault, MAX_DEPTH, fault::Scan};

/// Reads JSON text token by token. A clone remembers the position.
#[derive(Clone, Debug)]
pub struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

/// The inside of a JSON string, with its escapes.
#[derive(Clone, Copy, Debug)]
pub struct RawText<'a> {
    /// Text between the quotes.
    pub raw: &'a str,
    /// Whether the text contains escapes.
    pub escaped: bool,
}

impl<'a> RawText<'a> {
    /// Resolves the escapes. A lone surrogate, which UTF-8 cannot hold, becomes U+FFFD.
    #[must_use]
    pub fn text(self) -> Cow<'a, str> {
        if self.escaped { unescape(self.raw) } else { Cow::Borrowed(self.raw) }
    }
}

impl<'a> Scanner<'a> {
    /// Begins to read at the byte `at`, which must be a character boundary; beyond the end everything is truncated.
    #[must_use]
    pub fn new(text: &'a str, at: usize) -> Self {
        Self { text, at }
    }

    /// Position from the start of the text, in bytes.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// Text between the position `start` and the present one.
    #[must_use]
    pub fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Next byte that is not white space, without consuming it.
    #[inline]
    pub fn peek(&mut self) -> Scan<u8> {
        match self.text.as_bytes().get(self.at) {
            Some(&byte) if byte > b' ' => Ok(byte),
            _ => self.peek_behind_white_space(),
        }
    }

    #[cold]
    fn peek_behind_white_space(&mut self) -> Scan<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                Some(&byte) => return Ok(byte),
                None => return Err(Fault::Truncated),
            }
        }
    }

    /// Consumes the byte, if it is the next one after white space.
    #[inline]
    pub fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Ok(byte);
        self.at += usize::from(found);
        found
    }

    /// Consumes the byte, which must be the next one after white space.
    #[inline]
    pub fn expect(&mut self, byte: u8) -> Scan<()> {
        if self.peek()? != byte {
            return Err(Fault::Syntax);
        }
        self.at += 1;
        Ok(())
    }

    /// Checks that nothing but white space follows.
    pub fn end(&mut self) -> Scan<()> {
        match self.peek() {
            Err(_) => Ok(()),
            Ok(_) => Err(Fault::Trailing),
        }
    }

    /// Consumes `null`, `true` or `false`.
    #[inline]
    pub fn literal(&mut self, word: &str) -> Scan<()> {
        self.peek()?;
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Fault::Syntax);
        }
        self.at += word.len();
        Ok(())
    }

    /// Consumes a string.
    #[inline]
    pub fn string(&mut self) -> Scan<RawText<'a>> {
        if self.peek()? != b'"' {
            return Err(Fault::Unexpected);
        }
        let start = self.at + 1;
        let end = plain_until(self.text.as_bytes(), start);
        let (end, escaped) = match self.text.as_bytes().get(end) {
            Some(b'"') => (end, false),
            _ => (self.end_of_escaped(end)?, true),
        };
        self.at = end + 1;
        Ok(RawText { raw: &self.text[start..end], escaped })
    }

    /// End of the string that has an escape at `end`.
    #[cold]
    fn end_of_escaped(&self, mut end: usize) -> Scan<usize> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(end) {
                Some(b'"') => return Ok(end),
                Some(b'\\') => end += escape_len(&bytes[end..])?,
                Some(_) => return Err(Fault::Syntax),
                None => return Err(Fault::Truncated),
            }
            end = plain_until(bytes, end);
        }
    }

    /// Consumes a number and returns it as it stands in the text.
    #[inline]
    pub fn number(&mut self) -> Scan<&'a str> {
        self.peek()?;
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut at = start + usize::from(bytes[start] == b'-');
        let first = at;
        at = digits(bytes, at)?;
        if bytes[first] == b'0' && at > first + 1 {
            return Err(Fault::Syntax);
        }
        if bytes.get(at) == Some(&b'.') {
            at = digits(bytes, at + 1)?;
        }
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let sign = matches!(bytes.get(at + 1), Some(b'+' | b'-'));
            at = digits(bytes, at + 1 + usize::from(sign))?;
        }
        self.at = at;
        Ok(&self.text[start..at])
    }

    /// Consumes the key of an object, with its colon.
    #[inline]
    pub fn key(&mut self) -> Scan<RawText<'a>> {
        let key = self.string().map_err(|fault| if fault == Fault::Unexpected { Fault::Syntax } else { fault })?;
        self.expect(b':')?;
        Ok(key)
    }

    /// Consumes one value of any kind, checking its syntax and its depth ([`MAX_DEPTH`]).
    pub fn skip(&mut self) -> Scan<()> {
        super::stream::skip(self, MAX_DEPTH)
    }
}

/// Position of the first byte, from `start` on, that ends or interrupts a string: a quote, a backslash or a control
/// character.
#[inline]
pub(super) fn plain_until(bytes: &[u8], start: usize) -> usize {
    let mut rest = bytes.get(start..).unwrap_or_default();
    while let Some((chunk, behind)) = rest.split_first_chunk::<8>() {
        let special = special_bytes(u64::from_le_bytes(*chunk));
        if special != 0 {
            return bytes.len() - rest.len() + (special.trailing_zeros() / 8) as usize;
        }
        rest = behind;
    }
    let plain = rest.iter().take_while(|&&byte| byte >= 0x20 && byte != b'"' && byte != b'\\').count();
    bytes.len() - rest.len() + plain
}

/// Marks, with the high bit of each byte, quotes, backslashes and control characters: a byte gets it by borrowing when
/// something is subtracted that is larger, unless it had it before. Only the lowest mark is exact, which is the one
/// that is used.
#[inline]
fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = ONES << 7;
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (control | quote | backslash) & !word & HIGHS
}

/// Length of the escape sequence at the start of `bytes`.
fn escape_len(bytes: &[u8]) -> Scan<usize> {
    match bytes.get(1) {
        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(2),
        Some(b'u') => {
            let digits = bytes.get(2..6).ok_or(Fault::Truncated)?;
            if digits.iter().all(u8::is_ascii_hexdigit) { Ok(6) } else { Err(Fault::Syntax) }
        }
        Some(_) => Err(Fault::Syntax),
        None => Err(Fault::Truncated),
    }
}

/// Position after one or more digits.
#[inline]
fn digits(bytes: &[u8], start: usize) -> Scan<usize> {
    let mut at = start;
    while bytes.get(at).is_some_and(u8::is_ascii_digit) {
        at += 1;
    }
    if at > start {
        Ok(at)
    } else if at < bytes.len() {
        Err(Fault::Syntax)
    } else {
        Err(Fault::Truncated)
    }
}
