//! What only a real server can show: faults, trimmed streams, TLS and sockets, what is on its way, the wire of
//! emitters, replays of captured messages.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod answers;
mod credentials;
mod emitter;
mod faults;
mod golden;
mod half_open;
mod held;
mod many_sockets;
mod outages;
mod refusals;
mod rooms;
mod sessions;
mod slow;
mod support;
mod tap;
mod topologies;
mod writing;
