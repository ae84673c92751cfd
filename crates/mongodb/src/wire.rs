//! Messages as documents: `{_id, type, data, uid, nsp}` and, for TTL indexes, `createdAt`. What our own nodes add stands behind.

mod document;
mod event;
#[cfg(test)]
mod golden;

pub(crate) use document::{Document, Draft, Ids, session, tombstone};
pub(crate) use event::{Arrived, Event, StoredSession};

/// The type of a session. The number of a leave elsewhere; in collections a leave is a heartbeat that says so.
const SESSION: u64 = 13;
