//! One pass over a JSON value: into a [`Sink`], or into none, which validates the value.

use bytes::Bytes;

use super::Scanner;
use crate::payload::{
    Fault, MAX_DEPTH, Number,
    fault::Scan,
    sink::{Discard, Sink},
};

/// Checks that `text` is one JSON value of bounded depth.
pub(crate) fn validate(text: &str) -> Scan<()> {
    let mut scanner = Scanner::new(text, 0);
    skip(&mut scanner, MAX_DEPTH)?;
    scanner.end()
}

/// Streams `text`, one JSON value, into `sink`. Placeholders of existing attachments are replaced; others are ordinary
/// objects.
pub(crate) fn stream(text: &str, attachments: &[Bytes], sink: &mut impl Sink) -> Scan<()> {
    let mut scanner = Scanner::new(text, 0);
    let attachment = |index: usize| attachments.get(index).cloned();
    if attachments.is_empty() {
        value(&mut scanner, sink, TOLERATED_DEPTH, &mut None::<fn(usize) -> Option<Bytes>>)?;
    } else {
        value(&mut scanner, sink, TOLERATED_DEPTH, &mut Some(attachment))?;
    }
    scanner.end()
}

/// Calls `seen` with the number of each placeholder in `text`.
pub(crate) fn placeholders(text: &str, mut seen: impl FnMut(usize)) -> Scan<()> {
    let mut scanner = Scanner::new(text, 0);
    let report = |index| {
        seen(index);
        Some(Bytes::new())
    };
    value(&mut scanner, &mut Discard, MAX_DEPTH, &mut Some(report))?;
    scanner.end()
}

/// Whether a map claims to be a placeholder and is none of those of `count` attachments.
pub(crate) fn has_false_placeholder(text: &str, count: usize) -> Scan<bool> {
    let mut claims = Claims::default();
    let attachment = |index| (index < count).then(Bytes::new);
    value(&mut Scanner::new(text, 0), &mut claims, TOLERATED_DEPTH, &mut Some(attachment))?;
    Ok(claims.found)
}

/// A [`Sink`] that looks for `"_placeholder":true`.
#[derive(Default)]
struct Claims {
    is_next: bool,
    found: bool,
}

impl Sink for Claims {
    fn null(&mut self) {}
    fn boolean(&mut self, value: bool) {
        self.found |= self.is_next && value;
    }
    fn number(&mut self, _: Number) {}
    fn text(&mut self, _: &str) {}
    fn binary(&mut self, _: Bytes) {}
    fn begin_array(&mut self, _: Option<usize>) {
        self.is_next = false;
    }
    fn end_array(&mut self, _: Option<usize>) {}
    fn begin_map(&mut self, _: Option<usize>) {}
    fn key(&mut self, key: &str) {
        self.is_next = key == "_placeholder";
    }
    fn end_map(&mut self, _: Option<usize>) {
        self.is_next = false;
    }
}

/// Consumes one value of any kind.
pub(crate) fn skip(scanner: &mut Scanner<'_>, max_depth: usize) -> Scan<()> {
    value(scanner, &mut Discard, max_depth, &mut None::<fn(usize) -> Option<Bytes>>)
}

/// Depth limit of conversion: as much as [`Open`] can hold. The value was accepted before, perhaps some levels deeper
/// because it was part of a message.
const TOLERATED_DEPTH: usize = 128;

/// Open arrays and objects, one bit each, set for an object.
#[derive(Default)]
struct Open {
    objects: u128,
    depth: usize,
}

impl Open {
    fn push(&mut self, object: bool, max_depth: usize) -> Scan<()> {
        if self.depth >= max_depth {
            return Err(Fault::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(object);
        Ok(())
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn in_object(&self) -> bool {
        self.objects & 1 == 1
    }
}

/// Consumes one value in a loop: a scalar or an opening bracket, then as many closing brackets as follow, then a comma
/// and the next value. Not recursive, so that depth costs no stack.
fn value<S: Sink, A: FnMut(usize) -> Option<Bytes>>(
    scanner: &mut Scanner<'_>,
    sink: &mut S,
    max_depth: usize,
    attachment: &mut Option<A>,
) -> Scan<()> {
    let mut open = Open::default();
    loop {
        let opened = match scanner.peek()? {
            b'{' => match attachment.as_mut().and_then(|attachment| placeholder(scanner, attachment)) {
                Some(bytes) => {
                    sink.binary(bytes);
                    false
                }
                None => begin(scanner, sink, &mut open, true, max_depth)?,
            },
            b'[' => begin(scanner, sink, &mut open, false, max_depth)?,
            byte => scalar(scanner, sink, byte).map(|()| false)?,
        };
        if !opened && !next_value(scanner, sink, &mut open)? {
            return Ok(());
        }
    }
}

/// Consumes an opening bracket, and the first key or the closing one. True if a value follows.
#[inline]
fn begin(
    scanner: &mut Scanner<'_>,
    sink: &mut impl Sink,
    open: &mut Open,
    object: bool,
    max_depth: usize,
) -> Scan<bool> {
    open.push(object, max_depth)?;
    if object {
        scanner.expect(b'{')?;
        sink.begin_map(None);
        if !scanner.eat(b'}') {
            return key(scanner, sink).map(|()| true);
        }
        sink.end_map(None);
    } else {
        scanner.expect(b'[')?;
        sink.begin_array(None);
        if !scanner.eat(b']') {
            return Ok(true);
        }
        sink.end_array(None);
    }
    open.pop();
    Ok(false)
}

/// Consumes closing brackets and the comma after a value. False if the outermost value is complete.
#[inline]
fn next_value(scanner: &mut Scanner<'_>, sink: &mut impl Sink, open: &mut Open) -> Scan<bool> {
    while open.depth > 0 {
        if scanner.eat(b',') {
            if open.in_object() {
                key(scanner, sink)?;
            }
            return Ok(true);
        }
        if open.in_object() {
            scanner.expect(b'}')?;
            sink.end_map(None);
        } else {
            scanner.expect(b']')?;
            sink.end_array(None);
        }
        open.pop();
    }
    Ok(false)
}

#[inline]
fn key(scanner: &mut Scanner<'_>, sink: &mut impl Sink) -> Scan<()> {
    let key = scanner.key()?;
    if key.escaped {
        sink.json_key(key.raw);
    } else {
        sink.key(key.raw);
    }
    Ok(())
}

#[inline]
fn scalar(scanner: &mut Scanner<'_>, sink: &mut impl Sink, first: u8) -> Scan<()> {
    match first {
        b'"' => {
            let text = scanner.string()?;
            if text.escaped { sink.json_text(text.raw) } else { sink.text(text.raw) }
        }
        b'n' => scanner.literal("null").map(|()| sink.null())?,
        b't' => scanner.literal("true").map(|()| sink.boolean(true))?,
        b'f' => scanner.literal("false").map(|()| sink.boolean(false))?,
        b'-' | b'0'..=b'9' => sink.json_number(scanner.number()?),
        _ => return Err(Fault::Syntax),
    }
    Ok(())
}

/// Consumes `{"_placeholder":true,"num":n}` (in either order) if that is what follows and `n` is an attachment.
fn placeholder(scanner: &mut Scanner<'_>, attachment: &mut impl FnMut(usize) -> Option<Bytes>) -> Option<Bytes> {
    let mut ahead = scanner.clone();
    let index = placeholder_index(&mut ahead).ok()??;
    let bytes = attachment(index)?;
    *scanner = ahead;
    Some(bytes)
}

fn placeholder_index(scanner: &mut Scanner<'_>) -> Scan<Option<usize>> {
    let (mut marked, mut index) = (false, None);
    scanner.expect(b'{')?;
    for separator in [b',', b'}'] {
        match scanner.key()?.raw {
            "_placeholder" => marked = scanner.literal("true").is_ok(),
            "num" => index = scanner.number()?.parse().ok(),
            _ => return Ok(None),
        }
        scanner.expect(separator)?;
    }
    Ok(index.filter(|_| marked))
}
