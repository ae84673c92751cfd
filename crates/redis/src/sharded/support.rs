//! Check for servers without sharded pub/sub.

use redis::Value;
use trunkline_core::{Error, ErrorKind, Result};

use crate::connect::{Destination, ServerPool};

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
    let context = format!(
        "{what} needs sharded pub/sub (SSUBSCRIBE, SPUBLISH), which came with Redis 7.0; the server at {} is {}",
        connection.address(),
        version(&info)
    );
    Err(Error::new(ErrorKind::Unsupported, context).with_source(error))
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
    fn complaints_of_old_servers_are_recognised() {
        assert!(is_unknown("ERR Unknown subcommand or wrong number of arguments for 'SHARDNUMSUB'. Try PUBSUB HELP."));
        assert!(is_unknown("ERR unknown command `PUBSUB`, with args beginning with: "));
        assert!(!is_unknown("NOPERM this user has no permissions to run the 'pubsub|shardnumsub' command"));
    }
}
