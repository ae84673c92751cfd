//! What only this backend promises, on real servers: what the wire says, the order of all sizes, connections of all
//! kinds, writes, and faults.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod captured;
mod connecting;
mod faults;
mod golden;
mod held;
mod history;
mod messages;
mod recovery;
mod support;
mod tap;
mod writes;
