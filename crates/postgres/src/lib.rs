#![doc = include_str!("../README.md")]

mod channel;
mod config;
mod connect;
mod error;
// The decoders are private, and a fuzz target is another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod joined_node;
mod listen;
mod publish;
mod query;
mod shared;
mod table;
mod transport;

pub use trunkline_backend::Login;
#[cfg(feature = "tls")]
pub use trunkline_backend::tls::{OwnConfig, rustls};

pub use crate::{
    config::{Config, HistoryConfig, MAX_NOTIFICATION_BYTES},
    connect::{ServerConfig, SslMode},
    table::Table,
    transport::{Postgres, connect},
};

/// SQL script that creates the tables, to be run by hand where nodes may not create them.
pub const SCHEMA: &str = include_str!("../schema.sql");
