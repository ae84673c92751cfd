//! Configuration, and its parameters in a URL.

use std::time::Duration;

use trunkline_backend::{
    CredentialsProvider, Login, OutboxLimits,
    url::{Params, redact},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{channel::MAX_PREFIX_BYTES, connect::ServerConfig, table::Table};

/// Longest text of a notification in bytes. The official adapter believes it to be 8,000 and loses messages of exactly
/// that length.
pub const MAX_NOTIFICATION_BYTES: usize = 7_999;

/// Configuration of a transport: the server and how it is used. Made from a URL, and changed field by field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Hosts, user, database and TLS.
    pub server: ServerConfig,
    /// Prefix of notification channels, which are named `<prefix>#<namespace>`; `channelPrefix` of the official
    /// adapter. At most 40 bytes. Default `socket.io`.
    pub prefix: String,
    /// Table of large and binary messages; `tableName` of the official adapter. Default `socket_io_attachments`.
    pub attachments: Table,
    /// Size in bytes above which a message goes to the attachments table; `payloadThreshold` of the official adapter.
    /// At most, and by default, [`MAX_NOTIFICATION_BYTES`].
    pub payload_threshold: usize,
    /// Interval at which old rows are deleted, and the age that attachments reach; `cleanupInterval` of the official
    /// adapter. Default 30 s.
    pub cleanup_interval: Duration,
    /// Whether tables that are missing are created. Default on.
    pub create_tables: bool,
    /// History of messages and sessions for connection state recovery. Off by default; all nodes of a cluster should
    /// agree.
    pub history: Option<HistoryConfig>,
    /// Bounds of the queue of messages to be published.
    pub outbox: OutboxLimits,
    /// Largest message that can be published, in bytes of its encoding. Default 64 MiB; the server's own limit is about
    /// 1 GiB.
    pub max_message_bytes: usize,
    /// Time that the server may take to set up a connection, and that a statement waits for a lock or a connection.
    /// Default 10 s.
    pub response_timeout: Duration,
    /// Interval of the pings on each connection. Default 3 s.
    pub ping_interval: Duration,
    /// Time for which a server that was pinged may be silent, whatever else it has to answer, until the connection is
    /// given up. Default 5 s.
    pub ping_timeout: Duration,
}

/// Tables and limits of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryConfig {
    /// Table of messages. Default `socket_io_events`.
    pub events: Table,
    /// Table of sessions. Default `socket_io_sessions`.
    pub sessions: Table,
    /// Number of messages to keep, over all namespaces; the last one is never deleted. Default 10,000.
    pub messages: u32,
    /// Time that messages are kept. Default 5 min.
    pub ttl: Duration,
    /// Time that a session can be restored, as `maxDisconnectionDuration` of Socket.IO. Default 2 min.
    pub session_ttl: Duration,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            events: Table::known("socket_io_events"),
            sessions: Table::known("socket_io_sessions"),
            messages: 10_000,
            ttl: Duration::from_secs(300),
            session_ttl: Duration::from_secs(120),
        }
    }
}

/// Parameters by their former names.
const ALIASES: &[(&str, &str)] = &[
    ("channel_prefix", "prefix"),
    ("query_timeout", "response_timeout"),
    ("probe_interval", "ping_interval"),
    ("probe_timeout", "ping_timeout"),
];

impl Config {
    /// Configuration for a server, with the defaults for everything else.
    #[must_use]
    pub fn new(server: ServerConfig) -> Self {
        Self {
            server,
            prefix: "socket.io".into(),
            attachments: Table::known("socket_io_attachments"),
            payload_threshold: MAX_NOTIFICATION_BYTES,
            cleanup_interval: Duration::from_secs(30),
            create_tables: true,
            history: None,
            outbox: OutboxLimits::default(),
            max_message_bytes: 64 << 20,
            response_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(3),
            ping_timeout: Duration::from_secs(5),
        }
    }

    /// Configuration from a URL: `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETERS`, with the
    /// parameters of the table in the [README](crate#options).
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed. No message contains the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (address, query) = split(url)?;
        let mut params = Params::parse(query).with_aliases(ALIASES);
        let in_url = |error: Error| error.within(format!("{:?}", redact(url)));
        let mut config = Self::new(ServerConfig::parse(address, &mut params).map_err(in_url)?);
        config.read(&mut params)?;
        config.history = HistoryConfig::take(&mut params)?;
        params.finish()?;
        config.check()?;
        Ok(config)
    }

    /// Asks for user and password, or a token, before each connection: the first one, and those after a loss. For
    /// credentials that change or expire. They take the place of those in the URL.
    ///
    /// ```
    /// use trunkline_postgres::{Config, Login};
    ///
    /// # async fn token() -> Result<String, std::io::Error> { Ok("of this hour".into()) }
    /// let config = Config::from_url("postgres://db.example.com/app")?
    ///     .credentials(async || token().await.map(|token| Login::new("app", token)));
    /// # Ok::<(), trunkline_core::Error>(())
    /// ```
    #[must_use]
    pub fn credentials<F, Fut, E>(mut self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Login, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        self.server.provider = Some(CredentialsProvider::new(ask));
        self
    }

    fn read(&mut self, params: &mut Params) -> Result<()> {
        params.read("prefix", &mut self.prefix)?;
        params.read("table", &mut self.attachments)?;
        params.read_bytes("payload_threshold", &mut self.payload_threshold)?;
        params.read("cleanup_interval", &mut self.cleanup_interval)?;
        params.read("create_tables", &mut self.create_tables)?;
        params.read_bytes("outbox_bytes", &mut self.outbox.bytes)?;
        params.read("push_timeout", &mut self.outbox.push_timeout)?;
        params.read_bytes("max_message_bytes", &mut self.max_message_bytes)?;
        params.read("response_timeout", &mut self.response_timeout)?;
        params.read("ping_interval", &mut self.ping_interval)?;
        params.read("ping_timeout", &mut self.ping_timeout)
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        let prefix = self.prefix.len();
        if prefix == 0 || prefix > MAX_PREFIX_BYTES {
            return refuse(format!("prefix has {prefix} bytes; allowed are 1 to {MAX_PREFIX_BYTES}"));
        }
        if self.payload_threshold > MAX_NOTIFICATION_BYTES {
            let threshold = self.payload_threshold;
            return refuse(format!(
                "payload_threshold is {threshold}; PostgreSQL takes at most {MAX_NOTIFICATION_BYTES} bytes in a notification"
            ));
        }
        let history = self.history.as_ref();
        let times = [
            ("cleanup_interval", Some(self.cleanup_interval)),
            ("response_timeout", Some(self.response_timeout)),
            ("ping_interval", Some(self.ping_interval)),
            ("ping_timeout", Some(self.ping_timeout)),
            ("history_ttl", history.map(|history| history.ttl)),
            ("session_ttl", history.map(|history| history.session_ttl)),
        ];
        match times.iter().find(|(_, time)| *time == Some(Duration::ZERO)) {
            Some((name, _)) => refuse(format!("{name} is 0; allowed is a time above that")),
            None => Ok(()),
        }
    }

    /// All tables that are used.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Table> {
        let history = self.history.iter().flat_map(|history| [&history.events, &history.sessions]);
        std::iter::once(&self.attachments).chain(history)
    }
}

impl HistoryConfig {
    fn take(params: &mut Params) -> Result<Option<Self>> {
        let is_on = params.take("history")?.unwrap_or(false);
        let mut history = Self::default();
        params.read("history_table", &mut history.events)?;
        params.read("session_table", &mut history.sessions)?;
        params.read("history_messages", &mut history.messages)?;
        params.read("history_ttl", &mut history.ttl)?;
        params.read("session_ttl", &mut history.session_ttl)?;
        Ok(is_on.then_some(history))
    }
}

/// The URL without its query, and the query. A password with a raw `?` in it would end up in the query, and in messages
/// about it.
fn split(url: &str) -> Result<(&str, &str)> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let first_name = query.split('=').next().unwrap_or_default();
    if first_name.contains('@') {
        return refuse("special characters in the URL's password must be percent-encoded");
    }
    Ok((address, query))
}

fn refuse<T>(context: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, context))
}
