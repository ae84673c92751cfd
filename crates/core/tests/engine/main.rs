//! The engine alone: scenarios on a simulated clock, without network or sockets.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod acks;
mod gaps;
mod messages;
mod node_count;
mod numbers;
mod presence;
mod requests;
mod test_engine;
mod time;
