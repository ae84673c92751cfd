#![doc = include_str!("../README.md")]

mod barrier;
mod broker;
mod config;
mod connection;
mod connection_state;
// The decoders are private, and a fuzz target is another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod merge;
mod peers;
mod subscriptions;

pub use trunkline_backend::{
    Login,
    tls::{OwnConfig, ServerCheck, Verify, rustls},
    url::AddressMap,
};

pub use crate::{
    broker::connect,
    config::{Config, Credentials, HistoryConfig, Tls},
};
