//! From a configuration to a backend.

use std::sync::Arc;

use trunkline_core::{Backend, Result};

use crate::{
    classic,
    config::{Config, Mode},
    sharded, streams,
    topology::{Place, Servers},
};

/// Connects to Redis. Returns when a server has answered and can do what the configuration asks for; later connections are restored by
/// the backend.
///
/// To be called on the Tokio runtime on which the backend's tasks shall run.
///
/// # Errors
/// `Config` for settings that cannot work, `Disconnected` if no server can be reached, `Broker` if it refuses us, `Unsupported` if it is too
/// old.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let servers = Arc::new(Servers::new(&config)?);
    servers.refresh().await?;
    servers.control_of(&Place::Anywhere).await?;
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
