#![doc = include_str!("../README.md")]

mod barrier;
mod broker;
mod config;
mod connection;
mod connection_state;
mod history;
mod merge;
mod peers;
mod subscriptions;

pub use crate::{
    broker::connect,
    config::{Config, Credentials, HistoryConfig, Tls},
};
