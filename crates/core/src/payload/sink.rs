//! [`Sink`]: the receiving side of a conversion between encodings.

use bytes::Bytes;

use super::{Number, json};

/// Receiver of one value, part by part, in the order in which it is written; the other side of
/// [`Payload::stream`](super::Payload::stream).
///
/// Implement it to write a payload in a format of your own (BSON) without a value tree in between. The length of a
/// container is `None` when it comes from JSON, where it is unknown until the end; the same `len` is given again at the
/// end.
pub trait Sink {
    /// Receives `null`, nil or undefined.
    fn null(&mut self);
    /// Receives `true` or `false`.
    fn boolean(&mut self, value: bool);
    /// Receives a number.
    fn number(&mut self, value: Number);
    /// Receives text.
    fn text(&mut self, value: &str);
    /// Receives binary.
    fn binary(&mut self, value: Bytes);
    /// Begins an array; its elements follow.
    fn begin_array(&mut self, len: Option<usize>);
    /// Ends the array.
    fn end_array(&mut self, len: Option<usize>);
    /// Begins a map; keys and values follow in turn. A key may repeat.
    fn begin_map(&mut self, len: Option<usize>);
    /// Receives the key of a map; its value follows.
    fn key(&mut self, key: &str);
    /// Ends the map.
    fn end_map(&mut self, len: Option<usize>);

    /// Receives a number in JSON's notation. A sink that writes JSON copies it.
    fn json_number(&mut self, text: &str) {
        self.number(Number::from_json(text));
    }

    /// Receives text as the inside of a JSON string that contains escapes. A sink that writes JSON copies it.
    fn json_text(&mut self, escaped: &str) {
        self.text(&json::unescape(escaped));
    }

    /// Receives the key of a map as the inside of a JSON string that contains escapes.
    fn json_key(&mut self, escaped: &str) {
        self.key(&json::unescape(escaped));
    }
}

/// A [`Sink`] that ignores everything: streaming into it is validation.
#[derive(Debug)]
pub(crate) struct Discard;

impl Sink for Discard {
    fn null(&mut self) {}
    fn boolean(&mut self, _: bool) {}
    fn number(&mut self, _: Number) {}
    fn text(&mut self, _: &str) {}
    fn binary(&mut self, _: Bytes) {}
    fn begin_array(&mut self, _: Option<usize>) {}
    fn end_array(&mut self, _: Option<usize>) {}
    fn begin_map(&mut self, _: Option<usize>) {}
    fn key(&mut self, _: &str) {}
    fn end_map(&mut self, _: Option<usize>) {}
    fn json_number(&mut self, _: &str) {}
    fn json_text(&mut self, _: &str) {}
    fn json_key(&mut self, _: &str) {}
}
