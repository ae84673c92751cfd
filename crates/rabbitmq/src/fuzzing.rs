//! What is fuzzed (`fuzz/`): sessions and claims in the stream, and offsets that clients send.

use crate::history::fuzzing::{position, records};

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("rabbitmq_records", records), ("rabbitmq_position", position)];

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
