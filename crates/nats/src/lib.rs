#![doc = include_str!("../README.md")]

mod attachment;
mod config;
mod connection;
mod fence;
mod history;
mod keeper;
mod life;
mod merge;
mod peers;
mod place;
mod publish;
mod reader;
mod shared;
mod subjects;
mod tls;
mod transport;
mod writer;

pub use crate::{
    config::{Config, Credentials, HistoryConfig, Tls},
    transport::connect,
};
