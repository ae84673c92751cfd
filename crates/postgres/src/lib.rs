#![doc = include_str!("../README.md")]

mod channel;
mod config;
mod error;
mod history;
mod item;
mod lane;
mod maintenance;
mod probe;
mod publish;
mod query;
mod reader;
mod rows;
mod schema;
mod seats;
mod server;
mod shared;
mod table;
mod tls;
mod transport;
mod wire;
mod writer;

pub use crate::{
    config::{Config, HistoryConfig, MAX_NOTIFICATION_BYTES},
    server::Server,
    table::Table,
    tls::SslMode,
    transport::{Postgres, connect},
};

/// The tables, as SQL to run by hand where nodes may not create them.
pub const SCHEMA: &str = include_str!("../schema.sql");
