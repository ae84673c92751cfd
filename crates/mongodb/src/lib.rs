#![doc = include_str!("../README.md")]

mod bson;
mod collection;
mod config;
mod error;
mod history;
mod insert;
mod reader;
mod seats;
mod server;
mod shared;
mod stream;
mod transport;
mod wire;
mod writer;

pub use crate::{
    config::{Config, Storage},
    transport::{MongoDb, connect},
};

/// The largest document that can be published: BSON ends at 16 MiB, and the change stream needs some of that for itself.
pub const MAX_DOCUMENT_BYTES: usize = (16 << 20) - (64 << 10);
