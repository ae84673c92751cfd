//! The bridge, with real clients of real socketioxide servers that are one cluster.

// In helpers of tests, too, a panic is the failure message.
#![allow(clippy::unwrap_used)]

mod acks;
mod cluster;
mod dynamic;
mod foreign;
mod kit;
mod lifecycle;
mod namespaces;
mod operations;
mod pacing;
mod parsers;
mod probes;
mod recovery;
mod rooms;
mod server_side;
