//! What the suite cannot ask of every backend: rooms as the broker sees them, and brokers and connections that break.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod batches;
mod faults;
mod history;
mod interest;
mod killed;
mod member;
mod support;
