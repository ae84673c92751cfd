//! [`Writer`]: writing messages in one encoding.

use crate::payload::{Payload, Rules, Scan, Sink, json, msgpack};

/// Name of a field, which needs no escaping and is prepared at compile time for JSON.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    name: &'static str,
    /// The name with the comma before, its quotes and the colon behind.
    json: &'static str,
}

impl Field {
    /// As [`field!`](crate::field).
    #[doc(hidden)]
    #[must_use]
    pub const fn from_parts(name: &'static str, json: &'static str) -> Self {
        Self { name, json }
    }

    /// Name without quotes.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }
}

/// Makes a [`Field`](crate::codec::Field) of a literal name, which must not need escaping.
#[macro_export]
macro_rules! field {
    ($name:literal) => {
        const { $crate::codec::Field::from_parts($name, concat!(",\"", $name, "\":")) }
    };
}

/// A [`Sink`] that writes messages: it takes names of fields and whole payloads, too.
pub trait Writer: Sink {
    /// Writes the name of a field; its value follows.
    fn field(&mut self, field: Field);

    /// Writes a payload, without conversion if its encoding fits. Fails only if its JSON was never valid.
    fn payload(&mut self, payload: &Payload) -> Scan<()>;

    /// Whether a field that is `undefined` is written as null instead of being left out.
    fn writes_undefined(&self) -> bool;

    /// Writes a map with exactly `len` fields, which `fields` writes.
    #[inline]
    fn map<T>(&mut self, len: usize, fields: impl FnOnce(&mut Self) -> T) -> T
    where
        Self: Sized,
    {
        self.begin_map(Some(len));
        let written = fields(self);
        self.end_map(Some(len));
        written
    }

    /// Writes an array of the items, each by `write`.
    fn list<I: IntoIterator<IntoIter: ExactSizeIterator>, E>(
        &mut self,
        items: I,
        mut write: impl FnMut(&mut Self, I::Item) -> Result<(), E>,
    ) -> Result<(), E>
    where
        Self: Sized,
    {
        let items = items.into_iter();
        let len = items.len();
        self.begin_array(Some(len));
        for item in items {
            write(self, item)?;
        }
        self.end_array(Some(len));
        Ok(())
    }
}

impl Writer for json::Writer<'_> {
    #[inline]
    fn field(&mut self, field: Field) {
        self.prepared_key(field.json);
    }

    #[inline]
    fn payload(&mut self, payload: &Payload) -> Scan<()> {
        match payload.as_json_text() {
            Some(text) => {
                self.verbatim(text);
                Ok(())
            }
            None => payload.stream(self),
        }
    }

    fn writes_undefined(&self) -> bool {
        false
    }
}

impl Writer for msgpack::Writer<'_> {
    #[inline]
    fn field(&mut self, field: Field) {
        self.key(field.name);
    }

    #[inline]
    fn payload(&mut self, payload: &Payload) -> Scan<()> {
        match payload.as_msgpack() {
            Some(bytes) => {
                self.verbatim(bytes);
                Ok(())
            }
            None => payload.stream(self),
        }
    }

    fn writes_undefined(&self) -> bool {
        self.rules() == Rules::MsgpackJs
    }
}
