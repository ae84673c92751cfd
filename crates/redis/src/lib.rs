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

use trunkline_backend::connect_failure::look_for_tls;
use trunkline_core::{Backend, Result};

#[cfg(feature = "tls")]
pub use trunkline_backend::tls::{OwnConfig, ServerCheck, Verify, rustls};
pub use trunkline_backend::{Login, url::AddressMap};

pub use crate::config::{
    Address, Config, Mode, PubSub, PubSubSubscription, ServerConfig, Sharded, Streams, SubscriptionMode, Tls, Topology,
};
use crate::connect::{CommandConnection, Destination, ServerPool};

/// Connects to Redis. Returns when a server has answered and can do what the configuration asks for; later connections
/// are restored by the backend.
///
/// To be called on the Tokio runtime on which the backend's tasks shall run.
///
/// # Errors
/// `Config` for settings that cannot work, and if the server refuses us or does not permit to publish in the main
/// namespace; `Disconnected` if no server can be reached, `Broker` if it is not ready, `Unsupported` if it is too old.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let servers = Arc::new(ServerPool::new(&config)?);
    let connection = match first_connection(&servers).await {
        Ok(connection) => connection,
        Err(error) => return Err(look_for_tls(error, &config.server.hosts(), config.server.tls.is_some(), PING).await),
    };
    connection.require_rights(&rights(&config), servers.response_timeout()).await?;
    match &config.mode {
        Mode::PubSub(options) => {
            if options.subscription == PubSubSubscription::Pattern {
                sharded::require_patterns(&connection, servers.response_timeout()).await?;
            }
            Ok(classic::backend(&config, *options, servers))
        }
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

async fn first_connection(servers: &ServerPool) -> Result<CommandConnection> {
    servers.refresh().await?;
    servers.command_connection(&Destination::Anywhere).await
}

/// A command that any server answers, if only with an error.
const PING: &[u8] = b"PING\r\n";

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
