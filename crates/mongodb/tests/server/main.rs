//! What the conformance suite does not cover: server faults, collections, documents of official adapters.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod connecting;
mod faults;
mod history;
mod messages;
mod proxy;
mod support;
