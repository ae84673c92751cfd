//! What can be set, and how a URL sets it.

use std::{fmt, time::Duration};

use trunkline_backend::{
    OutboxLimits,
    url::{ByteSize, Params, redact},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{channel::MAX_PREFIX_BYTES, server::Server, table::Table};

/// The longest text that NOTIFY takes, in bytes. The official adapter believes it to be 8,000 and loses messages of exactly that length.
pub const MAX_NOTIFICATION_BYTES: usize = 7_999;

/// Where the server is and how this node uses it. Made from a URL, and changed field by field.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// Hosts, user, database and TLS.
    pub server: Server,
    /// Channels are named `<prefix>#<namespace>`; `channelPrefix` of the official adapter. At most 40 bytes. Default `socket.io`.
    pub channel_prefix: String,
    /// Where large and binary messages are put aside; `tableName` of the official adapter. Default `socket_io_attachments`.
    pub attachments: Table,
    /// Larger messages, in bytes, are put aside; `payloadThreshold` of the official adapter. At most, and by default,
    /// [`MAX_NOTIFICATION_BYTES`].
    pub payload_threshold: usize,
    /// How often old rows are deleted, and how old attachments become; `cleanupInterval` of the official adapter. Default 30 s.
    pub cleanup_interval: Duration,
    /// Whether tables that are missing are created. Default on.
    pub create_tables: bool,
    /// Keep messages and sessions for clients that come back. Off by default; all nodes of a cluster should agree.
    pub history: Option<HistoryConfig>,
    /// Publishes that may wait for the server.
    pub outbox: OutboxLimits,
    /// The largest message that can be published, in bytes of its encoding. Default 64 MiB; the server's own limit is about 1 GiB.
    pub max_message_bytes: usize,
    /// How long a statement may take until the connection is given up. Default 10 s.
    pub query_timeout: Duration,
    /// How often a notification to itself checks both directions. Default 5 s.
    pub probe_interval: Duration,
    /// How long that notification may take until the listening connection is given up. Default 5 s.
    pub probe_timeout: Duration,
}

/// How much is kept, where, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HistoryConfig {
    /// Where messages are kept. Default `socket_io_events`.
    pub events: Table,
    /// Where sessions are kept. Default `socket_io_sessions`.
    pub sessions: Table,
    /// Messages to keep, over all namespaces; the last one always is. Default 10,000.
    pub messages: u32,
    /// How long messages are kept. Default 5 min.
    pub ttl: Duration,
    /// How long a session can be restored, as `maxDisconnectionDuration` of Socket.IO. Default 2 min.
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

impl Config {
    /// A server and the defaults for everything else.
    #[must_use]
    pub fn new(server: Server) -> Self {
        Self {
            server,
            channel_prefix: "socket.io".into(),
            attachments: Table::known("socket_io_attachments"),
            payload_threshold: MAX_NOTIFICATION_BYTES,
            cleanup_interval: Duration::from_secs(30),
            create_tables: true,
            history: None,
            outbox: OutboxLimits::default(),
            max_message_bytes: 64 << 20,
            query_timeout: Duration::from_secs(10),
            probe_interval: Duration::from_secs(5),
            probe_timeout: Duration::from_secs(5),
        }
    }

    /// Reads a URL: `postgres://USER:PASSWORD@HOST:PORT,HOST:PORT/DATABASE?PARAMETERS`, with the parameters of the table in the
    /// [README](crate#options).
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed. No message contains the password.
    pub fn from_url(url: &str) -> Result<Self> {
        let (address, query) = split(url)?;
        let mut query = Params::parse(query);
        let server = Server::parse(address, &mut query).map_err(|error| in_url(url, &error))?;
        let mut config = Self::new(server);
        config.take(&mut query)?;
        config.history = HistoryConfig::take(&mut query)?;
        query.finish()?;
        config.check()?;
        Ok(config)
    }

    fn take(&mut self, query: &mut Params) -> Result<()> {
        set(&mut self.channel_prefix, query.take("channel_prefix")?);
        set(&mut self.attachments, query.take("table")?);
        set(&mut self.payload_threshold, query.take("payload_threshold")?.map(|ByteSize(bytes)| bytes));
        set(&mut self.cleanup_interval, query.take("cleanup_interval")?);
        set(&mut self.create_tables, query.take("create_tables")?);
        set(&mut self.outbox.bytes, query.take("outbox_bytes")?.map(|ByteSize(bytes)| bytes));
        set(&mut self.max_message_bytes, query.take("max_message_bytes")?.map(|ByteSize(bytes)| bytes));
        set(&mut self.query_timeout, query.take("query_timeout")?);
        set(&mut self.probe_interval, query.take("probe_interval")?);
        set(&mut self.probe_timeout, query.take("probe_timeout")?);
        Ok(())
    }

    /// Refuses what cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        let prefix = self.channel_prefix.len();
        if prefix == 0 || prefix > MAX_PREFIX_BYTES {
            return refuse(format!("channel_prefix has {prefix} bytes; allowed are 1 to {MAX_PREFIX_BYTES}"));
        }
        if self.payload_threshold > MAX_NOTIFICATION_BYTES {
            let threshold = self.payload_threshold;
            return refuse(format!(
                "payload_threshold is {threshold}; PostgreSQL takes at most {MAX_NOTIFICATION_BYTES} bytes in a notification"
            ));
        }
        for (name, time) in self.times() {
            if time.is_zero() {
                return refuse(format!("{name} is 0; allowed is a time above that"));
            }
        }
        Ok(())
    }

    fn times(&self) -> impl Iterator<Item = (&'static str, Duration)> {
        let history = self
            .history
            .iter()
            .flat_map(|history| [("history_ttl", history.ttl), ("session_ttl", history.session_ttl)]);
        [
            ("cleanup_interval", self.cleanup_interval),
            ("query_timeout", self.query_timeout),
            ("probe_interval", self.probe_interval),
            ("probe_timeout", self.probe_timeout),
        ]
        .into_iter()
        .chain(history)
    }
}

impl HistoryConfig {
    fn take(query: &mut Params) -> Result<Option<Self>> {
        let is_on = query.take("history")?.unwrap_or(false);
        let mut history = Self::default();
        set(&mut history.events, query.take("history_table")?);
        set(&mut history.sessions, query.take("session_table")?);
        set(&mut history.messages, query.take("history_messages")?);
        set(&mut history.ttl, query.take("history_ttl")?);
        set(&mut history.session_ttl, query.take("session_ttl")?);
        Ok(is_on.then_some(history))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("server", &self.server)
            .field("channel_prefix", &self.channel_prefix)
            .field("attachments", &self.attachments)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

/// The URL without its query, and the query. A password with a raw `?` in it would end up in the query, and in messages about it.
fn split(url: &str) -> Result<(&str, &str)> {
    let (address, query) = url.split_once('?').unwrap_or((url, ""));
    let first_name = query.split('=').next().unwrap_or_default();
    if first_name.contains('@') {
        return refuse("special characters in the URL's password must be percent-encoded");
    }
    Ok((address, query))
}

fn in_url(url: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("{:?}: {error}", redact(url)))
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn refuse<T>(context: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, context))
}
