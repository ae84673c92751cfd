//! The transport on real NATS servers: what interrupts it, who is let in, and what the servers see of its rooms.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod access;
mod barrier;
mod batches;
mod cluster;
mod faults;
mod interest;
mod member;
mod process;
