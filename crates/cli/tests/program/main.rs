//! The program as a user runs it, against real brokers and real nodes.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod doctor;
mod operations;
mod support;
mod tap;
mod usage;
mod who;
