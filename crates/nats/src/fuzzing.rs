//! What is fuzzed (`fuzz/`): offsets that clients send. The rest is batches, which `trunkline-backend` reads.

use crate::history::fuzzing::position;

/// Name and entry of each target.
#[allow(clippy::type_complexity)] // A list needs no name of its own.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[("nats_position", position)];

#[cfg(test)]
#[path = "../../../fuzz/replay.rs"]
mod replay;
