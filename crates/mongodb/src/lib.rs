#![doc = include_str!("../README.md")]

mod bson;
mod change_stream;
mod collection;
mod config;
mod error;
// The decoders are private, and a fuzz target is another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod insert;
mod joined;
mod publisher;
mod server;
mod subscriber;
mod time_limit;
mod transport;
mod transport_core;
mod wire;

pub use trunkline_backend::{CredentialsProvider, Login};

pub use crate::{
    config::{Config, Storage},
    transport::{MongoDb, connect},
};

/// Size limit of one message, as a BSON document. BSON ends at 16 MiB; the change stream adds up to 64 KiB of its own.
pub const MAX_DOCUMENT_BYTES: usize = (16 << 20) - (64 << 10);
