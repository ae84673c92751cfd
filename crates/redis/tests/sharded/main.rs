//! Sharded pub/sub on real servers.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod clusters;
mod conformance;
mod golden;
mod rooms;
mod support;
mod tap;
