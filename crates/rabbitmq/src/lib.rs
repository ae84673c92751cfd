#![doc = include_str!("../README.md")]

mod attachment;
mod config;
mod connection;
mod history;
mod keeper;
mod names;
mod place;
mod publish;
mod reader;
mod runtime;
mod shared;
mod socket;
mod tls;
mod transport;
mod writer;

pub use crate::{
    config::{Config, HistoryConfig, Tls},
    transport::connect,
};
