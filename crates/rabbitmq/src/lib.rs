#![doc = include_str!("../README.md")]

mod broker;
mod config;
mod connection;
mod history;
mod names;
mod node_queue;
mod runtime;
mod socket;

pub use crate::{
    broker::connect,
    config::{Config, HistoryConfig, Tls},
};
