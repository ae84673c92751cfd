//! Broadcasts and sessions in JetStream.
//!
//! One stream per prefix keeps what is said to all, of all namespaces; another one the sessions. With a history, everything but heartbeats
//! and answers travels through the stream, so that all clients see one order, and a node that was away reads on from where it was.

mod follower;
mod log;
mod position;
mod recovery;

use std::{cmp::min, time::Duration};

use async_nats::jetstream::{
    Context,
    stream::{Config as StreamConfig, DiscardPolicy, StorageType},
};
use trunkline_core::{Error, ErrorKind, Result};

pub(crate) use self::{
    follower::Follower,
    log::{HEADERS, Log},
    recovery::Recovery,
};
use crate::{
    config::{Config, HistoryConfig},
    subjects::token,
};

/// The streams of one prefix.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    prefix: String,
    config: HistoryConfig,
}

impl Streams {
    pub(crate) fn new(config: &Config) -> Option<Self> {
        config.history.map(|history| Self { prefix: token(&config.prefix), config: history })
    }

    /// The name of the stream with what was said to all.
    pub(crate) fn log(&self) -> String {
        format!("trunkline-{}", self.prefix)
    }

    /// The name of the stream with the sessions.
    pub(crate) fn sessions(&self) -> String {
        format!("trunkline-{}-sessions", self.prefix)
    }

    /// Creates the streams, or adapts their limits.
    pub(crate) async fn set_up(&self, context: &Context) -> Result<()> {
        for config in [self.log_config(), self.sessions_config()] {
            let name = config.name.clone();
            context.create_or_update_stream(config).await.map_err(|error| {
                let context = format!("the stream {name:?} cannot be set up: {error}");
                Error::new(ErrorKind::Broker, context).with_source(error)
            })?;
        }
        Ok(())
    }

    fn log_config(&self) -> StreamConfig {
        StreamConfig {
            name: self.log(),
            subjects: vec![format!("{}.*.log", self.prefix)],
            max_messages: self.config.frames.try_into().unwrap_or(i64::MAX),
            max_bytes: self.config.bytes.try_into().unwrap_or(i64::MAX),
            max_age: self.config.ttl,
            ..self.common()
        }
    }

    fn sessions_config(&self) -> StreamConfig {
        StreamConfig {
            name: self.sessions(),
            subjects: vec![format!("{}.*.session.*", self.prefix)],
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: 1,
            max_age: self.config.session_ttl,
            duplicate_window: min(self.config.session_ttl, DUPLICATE_WINDOW),
            ..self.common()
        }
    }

    fn common(&self) -> StreamConfig {
        StreamConfig {
            discard: DiscardPolicy::Old,
            storage: if self.config.in_memory { StorageType::Memory } else { StorageType::File },
            num_replicas: self.config.replicas,
            duplicate_window: min(self.config.ttl, DUPLICATE_WINDOW),
            ..StreamConfig::default()
        }
    }
}

/// How long the server recognises a frame that is sent again. After that, receivers still do.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
