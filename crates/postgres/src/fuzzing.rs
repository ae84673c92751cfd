//! What is fuzzed (`fuzz/`): notifications, and putting them in order with their rows.

use crate::{
    listen::fuzzing::reassembler,
    publish::{RowNotification, offset_of},
};

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] =
    &[("postgres_notification", notification), ("postgres_reassembler", reassembler)];

fn notification(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = offset_of(text);
    if let Some((_, row)) = RowNotification::read(text) {
        let _ = (row.from(), row.kind(), row.seq_no(), row.room(), row.offset());
    }
}

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
