//! Batches of encoded messages, as RabbitMQ and NATS carry them (`trunkline_backend::batch`).

use fastrand::Rng;

use super::encode;
use crate::{
    forge::{Forged, Phase},
    tree::{self, Tree},
};

const HEADER: usize = 17;

/// What NATS takes in one message.
const MAX_BYTES: usize = 1 << 20;

/// No version of a batch.
pub(super) const MALFORMED: &[u8] = b"\xffmalformed";

/// Packs messages into batches.
#[derive(Debug, Default)]
pub(super) struct Packer {
    /// Connections of nodes whose batches were seen.
    connections: Vec<[u8; 8]>,
    waiting: Vec<Vec<u8>>,
}

impl Packer {
    /// Notes the connection of a node's batch, and returns its messages.
    pub(super) fn observe(&mut self, batch: &[u8]) -> Vec<Tree> {
        let Some(mut rest) = batch.get(HEADER..) else { return Vec::new() };
        let connection = batch[1..9].try_into().unwrap_or_default();
        if !self.connections.contains(&connection) {
            self.connections.push(connection);
        }
        let mut messages = Vec::new();
        while let Some((length, behind)) = rest.split_first_chunk() {
            let length = u32::from_be_bytes(*length) as usize;
            let Some(message) = behind.get(..length) else { break };
            messages.extend(tree::decode(message));
            rest = &behind[length..];
        }
        messages
    }

    /// Adds a message. Returns a batch now and then.
    pub(super) fn add(&mut self, message: Forged, phase: Phase, rng: &mut Rng) -> Option<Vec<u8>> {
        self.waiting.push(encode(message, rng));
        (rng.u8(..3) == 0).then(|| self.pack(phase, rng)).flatten()
    }

    /// Packs what is left under a sender and a number that no node has; or, among numbers, under those of one. Now and
    /// then the batch itself is damaged.
    pub(super) fn pack(&mut self, phase: Phase, rng: &mut Rng) -> Option<Vec<u8>> {
        if self.waiting.is_empty() {
            return None;
        }
        let (connection, number) = match (phase, rng.choice(&self.connections)) {
            (Phase::Numbers, Some(connection)) if rng.u8(..4) == 0 => {
                (*connection, *rng.choice(&[1, 2, 1 << 32, u64::MAX - 1, u64::MAX]).unwrap_or(&1))
            }
            _ => (rng.u64(..).to_be_bytes(), if rng.bool() { 0 } else { rng.u64(..) }),
        };
        let mut batch = vec![1];
        batch.extend(connection);
        batch.extend(number.to_be_bytes());
        for message in self.waiting.drain(..) {
            batch.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
            batch.extend(message);
        }
        batch.truncate(MAX_BYTES);
        match rng.u8(..40) {
            // Another version; an end within the head or a message; a length beyond the end.
            0 => batch[0] = rng.u8(..),
            1 => batch.truncate(rng.usize(..batch.len())),
            2 => batch[HEADER] = 0xff,
            3 => batch.extend([0, 0]),
            _ => {}
        }
        Some(batch)
    }
}
