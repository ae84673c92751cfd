//! What it takes to write messages in some encoding.

use crate::payload::{Payload, Rules, Scan, Sink, json, msgpack};

/// A [`Sink`] that can write messages: it takes names of fields and whole payloads.
pub trait Writer: Sink {
    /// The name of a field, which never needs escaping; its value follows.
    fn field(&mut self, name: &'static str);

    /// A payload, as it is if its encoding fits. Fails only if its JSON was never valid.
    fn payload(&mut self, payload: &Payload) -> Scan<()>;

    /// Whether a value that is `undefined` is written as null, instead of leaving its key out.
    fn writes_undefined(&self) -> bool;

    /// A map with exactly `len` fields, which `fields` writes.
    fn map<T>(&mut self, len: usize, fields: impl FnOnce(&mut Self) -> T) -> T
    where
        Self: Sized,
    {
        self.begin_map(Some(len));
        let written = fields(self);
        self.end_map(Some(len));
        written
    }

    /// An array of the items, each written by `write`.
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
    fn field(&mut self, name: &'static str) {
        self.plain_key(name);
    }

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
    fn field(&mut self, name: &'static str) {
        self.key(name);
    }

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
