//! Sharded pub/sub on real servers.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod conformance;
