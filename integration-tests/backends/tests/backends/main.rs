//! What every backend must do alike, tried with real brokers. One program, so that its tests run beside each other;
//! those that take over the log or the allocator of their process are programs of their own.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod answers;
mod credentials;
mod emitters;
mod idle;
mod mistakes;
mod partial_rights;
mod reach;
mod rights;
mod sessions;
mod tls;
