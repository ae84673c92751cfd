//! Sessions in Redis, where Node.js servers look for them.

use std::{fmt, time::Duration};

use async_trait::async_trait;
use redis::{AsyncCommands, Client, aio::ConnectionManager};
use trunkline_socketioxide::{Error, ErrorKind, Result};

use crate::sessions::SessionStore;

/// Sessions in Redis under the keys of `RedisStore` of `@socket.io/admin-ui`: a page that has logged in to one kind of
/// server is logged in to the other.
#[derive(Clone)]
pub struct RedisSessions {
    connection: ConnectionManager,
    prefix: String,
}

impl RedisSessions {
    /// Connects to a server, as `redis://…`. A connection that breaks is restored.
    ///
    /// # Errors
    /// `Config` for a malformed URL, `Disconnected` if the server cannot be reached.
    pub async fn connect(url: &str) -> Result<Self> {
        let client = Client::open(url)
            .map_err(|error| Error::new(ErrorKind::Config, "the URL of the sessions' Redis").with_source(error))?;
        let connection = ConnectionManager::new(client)
            .await
            .map_err(|error| Error::new(ErrorKind::Disconnected, "the sessions' Redis").with_source(error))?;
        Ok(Self { connection, prefix: "socket.io-admin".to_owned() })
    }

    /// The `prefix` of the Node.js servers' `RedisStore`; `socket.io-admin` otherwise.
    #[must_use]
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    fn key(&self, session: &str) -> String {
        format!("{}#{session}", self.prefix)
    }
}

#[async_trait]
impl SessionStore for RedisSessions {
    async fn exists(&self, session: &str) -> bool {
        let exists: redis::RedisResult<bool> = self.connection.clone().exists(self.key(session)).await;
        exists
            .inspect_err(|error| tracing::warn!(%error, "a session of the admin page cannot be looked up"))
            .unwrap_or(false)
    }

    async fn save(&self, session: &str, duration: Duration) {
        let saved: redis::RedisResult<()> =
            self.connection.clone().set_ex(self.key(session), "true", duration.as_secs().max(1)).await;
        if let Err(error) = saved {
            tracing::warn!(%error, "a session of the admin page is not known to Node.js servers");
        }
    }
}

impl fmt::Debug for RedisSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisSessions").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
