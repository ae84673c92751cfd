//! The program as a user runs it, against real brokers and real nodes.

mod doctor;
mod operations;
mod support;
mod usage;
mod who;
