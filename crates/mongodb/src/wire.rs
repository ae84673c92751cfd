//! Messages as documents: `{_id, type, data, uid, nsp}` and, for TTL indexes, `createdAt`. Fields of Trunkline nodes
//! follow.

#[cfg(test)]
mod golden;
mod object_id;
mod outgoing;
mod received;

use std::time::{SystemTime, UNIX_EPOCH};

pub(crate) use object_id::ObjectIdGenerator;
pub(crate) use outgoing::{EncodedMessage, OutgoingDocument, QueuedMessage, session, tombstone};
pub(crate) use received::{ChangeEvent, ReceivedDocument, StoredSession};

/// The type of a session. Other wires have this number for a leave; in collections a leave is a heartbeat with a field
/// `leaving`.
pub(crate) const SESSION: u8 = 13;

/// Milliseconds since 1970.
fn now_millis() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

/// When an id was made, in milliseconds since 1970: exact to the second.
fn millis_of(id: [u8; 12]) -> u64 {
    u64::from(u32::from_be_bytes([id[0], id[1], id[2], id[3]])) * 1000
}
