#![doc = include_str!("../README.md")]

mod broker;
mod config;
mod connection;
// The decoders are private, and a fuzz target is another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod names;
mod node_queue;
mod runtime;
mod socket;
#[cfg(feature = "tls")]
mod tls;

pub use trunkline_backend::Login;
#[cfg(feature = "tls")]
pub use trunkline_backend::tls::{OwnConfig, ServerCheck, Verify, rustls};

pub use crate::{
    broker::connect,
    config::{Config, HistoryConfig, Tls},
};
