//! Check for servers without sharded pub/sub.

use std::{fmt, time::Duration};

use redis::Value;
use trunkline_core::{Error, ErrorKind, Result};

use crate::connect::{CommandConnection, Destination, ServerPool};

/// Refuses servers without sharded pub/sub, which `what` needs.
///
/// # Errors
/// `Unsupported`, naming the server's version.
pub(crate) async fn require(servers: &ServerPool, what: &str) -> Result<()> {
    let connection = servers.command_connection(&Destination::Anywhere).await?;
    let limit = servers.response_timeout();
    let mut probe = redis::cmd("PUBSUB");
    probe.arg("SHARDNUMSUB");
    let error = match connection.run::<Value>(&probe, limit).await {
        Ok(_) => return Ok(()),
        Err(error) if error.kind() != ErrorKind::Broker || !is_unknown(&error.to_string()) => return Err(error),
        Err(error) => error,
    };
    let mut info = redis::cmd("INFO");
    let info = connection.run::<String>(info.arg("server"), limit).await.unwrap_or_default();
    let reason = missing(connection.address(), &info);
    let instead = if what == "mode=sharded" { "mode=pubsub does without" } else { "without it, plain pub/sub is used" };
    let context = format!("{what} needs sharded pub/sub (SSUBSCRIBE, SPUBLISH), {reason}; {instead}");
    Err(Error::new(ErrorKind::Unsupported, context).with_source(error))
}

/// Why the server lacks sharded pub/sub: it is too old, or the service has left it out.
fn missing(address: &impl fmt::Display, info: &str) -> String {
    let version = version(info);
    let number = version.rsplit(' ').next().and_then(|number| number.split('.').next()?.parse::<u32>().ok());
    match number {
        Some(7..) => {
            format!("which the server at {address} does not have although it is {version}: a service may leave it out")
        }
        _ => format!("which came with Redis 7.0; the server at {address} is {version}"),
    }
}

/// Refuses servers without patterns, which `mode=pubsub` subscribes to unless told otherwise. Some services leave them out.
///
/// # Errors
/// `Unsupported`, naming a mode that does without.
pub(crate) async fn require_patterns(connection: &CommandConnection, limit: Duration) -> Result<()> {
    let mut command = redis::cmd("COMMAND");
    // A server that does not want to say is tried.
    let Ok(Value::Array(found)) = connection.run(command.arg("INFO").arg("PSUBSCRIBE"), limit).await else {
        return Ok(());
    };
    if !matches!(found.as_slice(), [Value::Nil]) {
        return Ok(());
    }
    let context = format!(
        "mode=pubsub with subscription=pattern needs PSUBSCRIBE, which the server at {} does not have; \
         subscription=rooms, mode=sharded and mode=streams do without",
        connection.address()
    );
    Err(Error::new(ErrorKind::Unsupported, context))
}

/// Whether an error is that for an unknown command or subcommand.
fn is_unknown(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    error.contains("unknown") || error.contains("wrong number of arguments")
}

fn version(info: &str) -> String {
    let field = |name| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    match (field("valkey_version"), field("redis_version")) {
        (Some(version), _) => format!("Valkey {version}"),
        (None, Some(version)) => format!("Redis {version}"),
        (None, None) => "of an unknown version".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found() {
        assert_eq!(version("# Server\r\nredis_version:6.2.14\r\nredis_mode:standalone\r\n"), "Redis 6.2.14");
        assert_eq!(version("redis_version:7.2.4\r\nserver_name:valkey\r\nvalkey_version:8.0.1\r\n"), "Valkey 8.0.1");
        assert_eq!(version(""), "of an unknown version");
    }

    #[test]
    fn a_server_that_is_new_enough_is_not_called_too_old() {
        let reason = |info| missing(&"h:1", info);
        assert!(reason("redis_version:6.2.14").ends_with("came with Redis 7.0; the server at h:1 is Redis 6.2.14"));
        for (info, version) in [("redis_version:7.0.15", "Redis 7.0.15"), ("valkey_version:8.0.1", "Valkey 8.0.1")] {
            assert!(reason(info).contains(&format!("does not have although it is {version}")), "{}", reason(info));
        }
    }

    #[test]
    fn complaints_of_old_servers_are_recognised() {
        assert!(is_unknown("ERR Unknown subcommand or wrong number of arguments for 'SHARDNUMSUB'. Try PUBSUB HELP."));
        assert!(is_unknown("ERR unknown command `PUBSUB`, with args beginning with: "));
        assert!(!is_unknown("NOPERM this user has no permissions to run the 'pubsub|shardnumsub' command"));
    }
}
