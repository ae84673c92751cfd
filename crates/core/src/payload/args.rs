//! Argument lists, `[event, ...arguments]`: reading the name of the event and appending an argument, without decoding
//! the rest.

use std::borrow::Cow;

use super::{
    Encoded, Fault, Json, Number, Payload, Scan, json,
    msgpack::{self, Token},
};

pub(super) fn is_args(payload: &Payload) -> bool {
    match &payload.0 {
        Encoded::Json(json) => json::Scanner::new(&json.text, 0).peek() == Ok(b'['),
        Encoded::MsgPack { bytes, .. } => matches!(msgpack::Scanner::new(bytes, 0).token(), Ok(Token::Array(_))),
    }
}

pub(super) fn event_name(payload: &Payload) -> Option<Cow<'_, str>> {
    match &payload.0 {
        Encoded::Json(json) => {
            let mut scanner = json::Scanner::new(&json.text, 0);
            scanner.expect(b'[').ok()?;
            scanner.string().ok().map(json::RawText::text)
        }
        Encoded::MsgPack { bytes, .. } => {
            let mut scanner = msgpack::Scanner::new(bytes, 0);
            let Ok(Token::Array(1..)) = scanner.token() else { return None };
            let Ok(Token::Text(name)) = scanner.token() else { return None };
            Some(msgpack::text(name))
        }
    }
}

/// Event names that clients refuse, as `RESERVED_EVENTS` of socket.io-parser: a packet with one of them ends the connection.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

pub(super) fn is_packet(payload: &Payload) -> bool {
    let begins_well = match event_name(payload) {
        Some(name) => !RESERVED.contains(&&*name),
        None => begins_with_number(payload),
    };
    begins_well && !has_false_placeholder(payload)
}

/// Whether there is, beside binary, a map that JavaScript clients take for the place of an attachment that does not
/// exist.
fn has_false_placeholder(payload: &Payload) -> bool {
    match &payload.0 {
        Encoded::Json(json) if json.attachments.is_empty() => false,
        Encoded::Json(json) => is_false_placeholder_in(json),
        Encoded::MsgPack { bytes, binary } => {
            let mut scanner = msgpack::Scanner::new(bytes, 0);
            let mut tokens = std::iter::from_fn(|| scanner.token().ok());
            *binary
                && tokens.any(|token| matches!(token, Token::Text(b"_placeholder")))
                && is_false_placeholder_in(&payload.to_json())
        }
    }
}

fn is_false_placeholder_in(Json { text, attachments }: &Json) -> bool {
    // An escape may stand for any letter.
    if text.matches("_placeholder").count() == attachments.len() && !text.contains('\\') {
        return false;
    }
    json::has_false_placeholder(text, attachments.len()).unwrap_or(true)
}

/// JavaScript clients take a number for an event name, too. What JSON cannot say reaches them as `null`: infinity, and what is none.
fn begins_with_number(payload: &Payload) -> bool {
    let number = match &payload.0 {
        Encoded::Json(json) => {
            let mut scanner = json::Scanner::new(&json.text, 0);
            scanner.expect(b'[').and_then(|()| scanner.number()).ok().map(Number::from_json)
        }
        Encoded::MsgPack { bytes, .. } => {
            let mut scanner = msgpack::Scanner::new(bytes, 0);
            match (scanner.token(), scanner.token()) {
                (Ok(Token::Array(1..)), Ok(Token::Number(number))) => Some(number),
                _ => None,
            }
        }
    };
    number.is_some_and(|number| number.as_f64().is_finite())
}

pub(super) fn with_appended_text(payload: &Payload, text: &str) -> Payload {
    let appended = match &payload.0 {
        Encoded::Json(json) => append_json(&json.text, text).and_then(|out| {
            let text = out.try_into().ok()?;
            Some(Payload(Encoded::Json(Json { text, attachments: json.attachments.clone() })))
        }),
        Encoded::MsgPack { bytes, binary } => {
            append_msgpack(bytes, text).map(|out| Payload::from_valid_msgpack(out.into(), *binary))
        }
    };
    appended.unwrap_or_else(|| payload.clone())
}

fn append_json(list: &str, text: &str) -> Option<Vec<u8>> {
    let open = list.trim_end().strip_suffix(']')?.trim_end();
    let empty = open.trim_start() == "[";
    if !open.trim_start().starts_with('[') {
        return None;
    }
    let mut out = Vec::with_capacity(open.len() + text.len() + 8);
    out.extend_from_slice(open.as_bytes());
    if !empty {
        out.push(b',');
    }
    json::escape(&mut out, text);
    out.push(b']');
    Some(out)
}

fn append_msgpack(list: &[u8], text: &str) -> Option<Vec<u8>> {
    let mut scanner = msgpack::Scanner::new(list, 0);
    let Ok(Token::Array(len)) = scanner.token() else { return None };
    let mut out = Vec::with_capacity(list.len() + text.len() + 8);
    msgpack::write_array_len(&mut out, len + 1);
    out.extend_from_slice(&list[scanner.position()..]);
    msgpack::write_text(&mut out, text);
    Some(out)
}

/// Checks that `text` is valid and has exactly the placeholders of `count` attachments.
pub(super) fn check_placeholders(text: &str, count: usize) -> Scan<()> {
    if count == 0 {
        return json::validate(text);
    }
    let mut seen = vec![false; count];
    let mut valid = true;
    json::placeholders(text, |index| {
        valid &= seen.get_mut(index).is_some_and(|seen| !std::mem::replace(seen, true));
    })?;
    if valid && seen.into_iter().all(|seen| seen) { Ok(()) } else { Err(Fault::Attachments) }
}
