//! Redis.

use trunkline_brokers::Redis;

use super::{Action, Leftovers, lines};
use crate::Failure;

pub(super) async fn perform(server: &Redis, action: Action) -> Result<(), Failure> {
    let commands: &[&[&str]] = match action {
        Action::CloseConnections => &[&["CLIENT", "KILL", "TYPE", "normal"], &["CLIENT", "KILL", "TYPE", "pubsub"]],
        Action::Fill => &[&["CONFIG", "SET", "maxmemory", "1"]],
        // A replica of nobody.
        Action::ForbidWrites => &[&["REPLICAOF", "127.0.0.1", "1"]],
        Action::DeleteData => &[&["FLUSHALL"]],
        Action::RaiseAlarm => &[],
        Action::Heal => &[&["CONFIG", "SET", "maxmemory", "0"], &["REPLICAOF", "NO", "ONE"]],
    };
    for command in commands {
        server.cli(command).await?;
    }
    Ok(())
}

pub(super) async fn leftovers(server: &Redis) -> Result<Leftovers, Failure> {
    let clients = lines(&server.cli(&["CLIENT", "LIST"]).await?);
    let mut subscriptions = lines(&server.cli(&["PUBSUB", "CHANNELS"]).await?);
    subscriptions += lines(&server.cli(&["PUBSUB", "SHARDCHANNELS"]).await?);
    subscriptions += server.cli(&["PUBSUB", "NUMPAT"]).await?.parse::<usize>()?;
    // One of the clients is the one that asks.
    Ok(Leftovers { connections: clients.saturating_sub(1), subscriptions })
}
