//! What is fuzzed of the history.

use trunkline_core::Offset;

use super::position::Position;

/// An offset has one text.
pub(crate) fn position(bytes: &[u8]) {
    let Some(offset) = std::str::from_utf8(bytes).ok().and_then(|text| Offset::new(text).ok()) else { return };
    if let Ok(position) = Position::parse(&offset) {
        assert_eq!(position.offset(), offset);
    }
}
