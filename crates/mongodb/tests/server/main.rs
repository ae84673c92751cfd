//! What the conformance suite does not ask: servers that are broken on purpose, collections, documents of official peers.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod connecting;
mod faults;
mod history;
mod messages;
mod support;
