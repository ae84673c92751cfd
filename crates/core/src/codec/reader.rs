//! [`Reader`]: reading messages in one encoding.

mod json;
mod msgpack;

use std::borrow::Cow;

pub use self::{json::JsonReader, msgpack::MsgPackReader};
use crate::{
    error::Result,
    payload::{Fault, Number, Payload, Scan},
};

/// Reader of encoded data, value by value from front to back. A clone remembers the position.
pub trait Reader<'a>: Clone {
    /// Type of the next value, without consuming it.
    fn shape(&mut self) -> Scan<Shape>;

    /// Consumes the beginning of a map.
    fn begin_map(&mut self) -> Scan<Container>;

    /// Consumes the next key of a map; after the last one its end.
    fn next_key(&mut self, map: &mut Container) -> Scan<Option<Cow<'a, str>>>;

    /// Consumes the beginning of an array.
    fn begin_array(&mut self) -> Scan<Container>;

    /// Consumes what stands before the next item of an array; after the last one its end. True if an item follows.
    fn next_item(&mut self, array: &mut Container) -> Scan<bool>;

    /// Consumes a boolean.
    fn boolean(&mut self) -> Scan<bool>;

    /// Consumes a number.
    fn number(&mut self) -> Scan<Number>;

    /// Consumes text.
    fn text(&mut self) -> Scan<Cow<'a, str>>;

    /// Consumes any value, checking that it is valid.
    fn skip(&mut self) -> Scan<()>;

    /// Consumes any value of any depth. Only its end is looked for.
    fn skip_unchecked(&mut self) -> Scan<()>;

    /// Consumes any value and keeps it, without copying where the encoding is one of [`Payload`]'s own.
    fn payload(&mut self) -> Scan<Payload>;

    /// Checks that nothing but white space follows.
    fn end(&mut self) -> Scan<()>;

    /// Consumes null or any other value; `None` for null.
    fn optional<T>(&mut self, read: impl FnOnce(&mut Self) -> Scan<T>) -> Scan<Option<T>> {
        if self.shape()? == Shape::Null { self.skip().map(|()| None) } else { read(self).map(Some) }
    }

    /// Consumes a value that peers may use for something else: `None`, and skipped, if it is not what `read` expects.
    fn lenient<T>(&mut self, read: impl FnOnce(&mut Self) -> Scan<T>) -> Scan<Option<T>> {
        let start = self.clone();
        if let Ok(value) = read(self) {
            return Ok(Some(value));
        }
        *self = start;
        self.skip_unchecked().map(|()| None)
    }

    /// Consumes an array, one item after the other.
    fn items(&mut self, mut read: impl FnMut(&mut Self) -> Scan<()>) -> Scan<()> {
        let mut array = self.begin_array()?;
        while self.next_item(&mut array)? {
            read(self)?;
        }
        Ok(())
    }
}

/// Type of an encoded value, as far as messages distinguish them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `null`, nil.
    Null,
    /// `true` or `false`.
    Boolean,
    /// A number.
    Number,
    /// Text.
    Text,
    /// An array.
    Array,
    /// A map.
    Map,
    /// Binary, or whatever else an encoding has.
    Other,
}

/// Progress of a reader in a map or an array.
#[derive(Debug)]
pub struct Container {
    left: Option<usize>,
    started: bool,
}

impl Container {
    /// Begins a map or array whose length is known (MessagePack).
    #[must_use]
    pub fn sized(len: usize) -> Self {
        Self { left: Some(len), started: false }
    }

    /// Begins a map or array that ends with a mark (JSON).
    #[must_use]
    pub fn marked() -> Self {
        Self { left: None, started: false }
    }

    /// Counts one more entry. `Some(false)` when the known length is exhausted, `None` if only the mark can tell.
    pub fn advance(&mut self) -> Option<bool> {
        self.started = true;
        let left = self.left.as_mut()?;
        let more = *left > 0;
        *left = left.saturating_sub(1);
        Some(more)
    }

    /// Whether [`Container::advance`] was called before.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started
    }
}

/// Reads a value that must be all of the data.
pub(super) fn whole<'a, R: Reader<'a>, T>(mut reader: R, read: impl FnOnce(&mut R) -> Result<T>) -> Result<T> {
    let value = read(&mut reader)?;
    reader.end().map_err(|fault| fault.at("message"))?;
    Ok(value)
}

/// Stores the value of a field, which may occur once.
pub fn set<T>(field: &mut Option<T>, value: T) -> Scan<()> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Repeated),
    }
}
