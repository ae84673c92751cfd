//! What is fuzzed of the history.

use bytes::Bytes;
use trunkline_backend::batch::{Batch, ConnectionId};
use trunkline_core::Offset;

use super::{position::Position, records::Record};

/// A record that is read is written the same.
pub(crate) fn records(bytes: &[u8]) {
    let Ok(batch) = Batch::parse(Bytes::copy_from_slice(bytes)) else { return };
    for record in Record::all(batch) {
        let again = Batch::parse(record.batch(ConnectionId::random())).expect("an own batch");
        let again: Vec<_> = Record::all(again).collect();
        if let Record::Session { .. } = record {
            assert_eq!(again, [record]);
        }
    }
}

/// An offset has one text.
pub(crate) fn position(bytes: &[u8]) {
    let Some(offset) = std::str::from_utf8(bytes).ok().and_then(|text| Offset::new(text).ok()) else { return };
    if let Ok(position) = Position::parse(&offset) {
        assert_eq!(position.offset(), offset);
    }
}
