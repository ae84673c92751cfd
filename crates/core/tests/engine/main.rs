//! The engine alone: scenarios on a simulated clock, without network or sockets.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod acks;
mod census;
mod gaps;
mod messages;
mod numbers;
mod presence;
mod requests;
mod rig;
mod time;
