//! What is fuzzed of a stream.

use bytes::Bytes;

use super::{
    entry::{Entry, EntryId},
    history::decode_session,
    reader::parse_entries,
};
use crate::connect::Reader;

/// An entry: fields, each a name and a value, separated by zero bytes.
pub(crate) fn entry(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let mut parts = bytes.split(|byte| *byte == 0).map(|part| bytes.slice_ref(part));
    let id = parts.next().and_then(|id| EntryId::parse(&id)).unwrap_or_default();
    assert_eq!(EntryId::parse(id.to_string().as_bytes()), Some(id));
    assert!(id.next() > id || id == id.next());
    let fields = std::iter::from_fn(|| Some((parts.next()?, parts.next()?)));
    read(&Entry::new(id, fields));
}

fn read(entry: &Entry) {
    if let (Ok(kind), Ok(data)) = (entry.kind(), entry.data()) {
        let _ = entry.body(kind, &data);
    }
}

/// Entries in the reply of a server.
pub(crate) fn entries(reply: &Bytes) {
    let mut reader = Reader::new(reply.clone());
    if reader.next_array().is_some() {
        parse_entries(&mut reader).unwrap_or_default().iter().for_each(read);
    }
}

pub(crate) fn session(bytes: &[u8]) {
    let _ = decode_session(bytes);
}
