//! The program as a user runs it, against real brokers and real nodes.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod bench;
mod doctor;
mod doctor_measures;
mod doctor_nodes;
mod gather;
mod operations;
mod support;
mod tap;
mod top;
mod usage;
mod who;
