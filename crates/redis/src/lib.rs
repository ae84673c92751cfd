#![doc = include_str!("../README.md")]

mod classic;
mod config;
mod connect;
// The decoders are private, and a fuzz target is another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod publish;
mod sharded;
mod streams;
mod subscribe;
mod transport_core;
mod url;

use std::sync::Arc;

use trunkline_core::{Backend, Result};

pub use crate::config::{
    Address, Config, Mode, PubSub, ServerConfig, Sharded, Streams, SubscriptionMode, Tls, Topology,
};
use crate::connect::{Destination, ServerPool};

/// Connects to Redis. Returns when a server has answered and can do what the configuration asks for; later connections
/// are restored by the backend.
///
/// To be called on the Tokio runtime on which the backend's tasks shall run.
///
/// # Errors
/// `Config` for settings that cannot work, `Disconnected` if no server can be reached, `Broker` if it refuses us or does
/// not permit to publish in the main namespace,
/// `Unsupported` if it is too old.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let servers = Arc::new(ServerPool::new(&config)?);
    servers.refresh().await?;
    let connection = servers.command_connection(&Destination::Anywhere).await?;
    connection.require_rights(&rights(&config), servers.response_timeout()).await?;
    match &config.mode {
        Mode::PubSub(options) => Ok(classic::backend(&config, *options, servers)),
        Mode::Streams(options) => {
            if options.sharded_pubsub {
                sharded::require(&servers, "sharded_pubsub=on").await?;
            }
            Ok(streams::backend(&config, options, servers))
        }
        Mode::Sharded(options) => {
            sharded::require(&servers, "mode=sharded").await?;
            Ok(sharded::backend(&config, *options, servers))
        }
    }
}

/// What everything that publishes must be permitted to do, in the main namespace.
fn rights(config: &Config) -> Vec<redis::Cmd> {
    let Config { prefix, mode, .. } = config;
    let publish = |command: &str, channel: String| {
        let mut publish = redis::cmd(command);
        publish.arg(channel).arg("");
        publish
    };
    match mode {
        Mode::PubSub(_) => {
            vec![publish("PUBLISH", format!("{prefix}#/#")), publish("PUBLISH", format!("{prefix}-request#/#"))]
        }
        Mode::Sharded(_) => vec![publish("SPUBLISH", format!("{prefix}#/#"))],
        Mode::Streams(streams) => {
            let mut append = redis::cmd("XADD");
            let stream = if streams.count > 1 { format!("{}-0", streams.stream) } else { streams.stream.clone() };
            append.arg(stream).arg("*").arg("").arg("");
            vec![append]
        }
    }
}
