//! Configuration of the backend.

use std::{fmt, path::PathBuf, time::Duration};

#[cfg(feature = "tls")]
use trunkline_backend::tls::ServerCheck;
use trunkline_backend::{CredentialsProvider, Login, OutboxLimits, connect_failure::tls_is_left_out, url::AddressMap};
use trunkline_core::{Error, ErrorKind, Result};

/// Configuration of the backend: made from a URL ([`Config::from_url`]) or a [`ServerConfig`], and changed field by
/// field.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Addresses, user and TLS.
    pub server: ServerConfig,
    /// Asked before each connection to a server with data; [`Config::credentials`].
    pub(crate) provider: Option<CredentialsProvider>,
    /// Asked before each connection to a sentinel; [`Config::sentinel_credentials`].
    pub(crate) sentinel_provider: Option<CredentialsProvider>,
    /// Official adapter whose protocol the cluster speaks. Default [`Mode::PubSub`].
    pub mode: Mode,
    /// Prefix of all channel names; `key` or `channelPrefix` of the official adapters. Default `socket.io`.
    pub prefix: String,
    /// Bounds of the queue of publishes. Default 64 MiB.
    pub outbox: OutboxLimits,
    /// Largest message that can be published, in bytes of its encoding. Default 16 MiB: by default Redis cuts off
    /// subscribers for whom more than 32 MiB wait.
    pub max_message_bytes: usize,
    /// How long connecting may take, authentication included. Default 5 s.
    pub connect_timeout: Duration,
    /// How long an answer may take until the connection is given up. Default 5 s.
    pub response_timeout: Duration,
    /// How long a connection may be silent until the server is probed. Outside of a Redis Cluster each connection also asks
    /// as often whether the server still is the master. Default 5 s.
    pub ping_interval: Duration,
    /// Longest pause between attempts to reconnect; they begin with 50 ms. Default 5 s.
    pub max_backoff: Duration,
}

impl Config {
    /// Configuration for a server, with the defaults for everything else.
    #[must_use]
    pub fn new(server: ServerConfig) -> Self {
        Self {
            server,
            provider: None,
            sentinel_provider: None,
            mode: Mode::PubSub(PubSub::default()),
            prefix: "socket.io".into(),
            outbox: OutboxLimits::default(),
            max_message_bytes: 16 << 20,
            connect_timeout: Duration::from_secs(5),
            response_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            max_backoff: Duration::from_secs(5),
        }
    }

    /// Asks for user and password, or a token, before each connection: the first one, and those after a loss. For
    /// credentials that change or expire. They take the place of those in the URL.
    ///
    /// If they are said to expire ([`Login::valid_for`]), they are asked for again in time, and all connections that stand
    /// authenticate with them: Amazon ElastiCache and Azure Cache end those that do not.
    ///
    /// ```
    /// use std::time::Duration;
    /// use trunkline_redis::{Config, Login};
    ///
    /// # async fn token() -> Result<String, std::io::Error> { Ok("of this hour".into()) }
    /// let config = Config::from_url("rediss://cache.example.com:6379")?
    ///     .credentials(async || {
    ///         let token = token().await?;
    ///         Ok::<_, std::io::Error>(Login::new("app", token).valid_for(Duration::from_secs(900)))
    ///     });
    /// # Ok::<(), trunkline_core::Error>(())
    /// ```
    #[must_use]
    pub fn credentials<F, Fut, E>(mut self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Login, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        self.provider = Some(CredentialsProvider::new(ask));
        self
    }

    /// As [`Config::credentials`], for the sentinels. Those for servers with data are not given to sentinels.
    #[must_use]
    pub fn sentinel_credentials<F, Fut, E>(mut self, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Login, E>> + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>> + 'static,
    {
        self.sentinel_provider = Some(CredentialsProvider::new(ask));
        self
    }

    /// Refuses values that cannot work.
    pub(crate) fn check(&self) -> Result<()> {
        if self.prefix.is_empty() {
            return refuse("prefix is empty");
        }
        if self.max_message_bytes > MAX_BULK_BYTES {
            return refuse(format!(
                "max_message_bytes is {}; Redis takes at most {MAX_BULK_BYTES}",
                self.max_message_bytes
            ));
        }
        for (name, time) in [
            ("connect_timeout", self.connect_timeout),
            ("response_timeout", self.response_timeout),
            ("ping_interval", self.ping_interval),
            ("max_backoff", self.max_backoff),
        ] {
            if time.is_zero() {
                return refuse(format!("{name} is 0; allowed is a time above that"));
            }
        }
        self.server.check()?;
        if cfg!(not(feature = "tls")) && self.server.tls.is_some() {
            return tls_is_left_out("trunkline-redis");
        }
        match &self.mode {
            Mode::Streams(streams) => streams.check(),
            Mode::PubSub(pubsub) => pubsub.check(),
            Mode::Sharded(_) => Ok(()),
        }
    }
}

/// Default of `proto-max-bulk-len`, which bounds a string.
const MAX_BULK_BYTES: usize = 512 << 20;

fn refuse<T>(context: impl Into<String>) -> Result<T> {
    Err(Error::new(ErrorKind::Config, context))
}

/// Official adapter whose protocol the cluster speaks. All nodes of a cluster must use the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// `createAdapter` of `@socket.io/redis-adapter`.
    PubSub(PubSub),
    /// `createShardedAdapter` of `@socket.io/redis-adapter`. Needs Redis 7.
    Sharded(Sharded),
    /// `createAdapter` of `@socket.io/redis-streams-adapter` from 0.3 on.
    Streams(Streams),
}

/// Options of [`Mode::PubSub`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PubSub {
    /// Whether answers go to a channel of the node that asked; `publishOnSpecificResponseChannel`. Off by default.
    /// Nodes with and without it understand each other.
    pub specific_response_channel: bool,
    /// How broadcasts to rooms are subscribed to. Nodes that do it in different ways understand each other. Default
    /// [`PubSubSubscription::Pattern`], as Node.js.
    pub subscription: PubSubSubscription,
    /// With [`PubSubSubscription::Rooms`], how many rooms a node subscribes to; with more, it subscribes to the pattern
    /// until it leaves. Default 100,000.
    pub max_subscriptions: usize,
    /// How long the subscription of a room outlasts its last member. Default 5 s.
    pub linger: Duration,
    /// How long after sockets of other nodes were made to join a room messages for it still go to all nodes: those that
    /// subscribe to rooms, and did not have this one before, need a moment to do so. Default 5 s.
    pub join_grace: Duration,
}

impl Default for PubSub {
    fn default() -> Self {
        Self {
            specific_response_channel: false,
            subscription: PubSubSubscription::default(),
            max_subscriptions: 100_000,
            linger: Duration::from_secs(5),
            join_grace: Duration::from_secs(5),
        }
    }
}

impl PubSub {
    fn check(&self) -> Result<()> {
        if self.max_subscriptions == 0 {
            return refuse("max_subscriptions is 0; allowed is 1 or more");
        }
        Ok(())
    }
}

/// How a node subscribes to broadcasts to rooms over pub/sub. In both ways each room has a channel of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum PubSubSubscription {
    /// To those of all rooms, by pattern.
    #[default]
    Pattern,
    /// To those of the rooms that have a member on the node, socket ids included. The server sends it no others.
    ///
    /// A node must have subscribed before a neighbour publishes, as in the dynamic modes of [`SubscriptionMode`], and
    /// a broken connection is a gap of unknown size.
    Rooms,
}

/// Options of [`Mode::Sharded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sharded {
    /// Which rooms have channels of their own; `subscriptionMode`. All nodes of a cluster must agree. Default
    /// [`SubscriptionMode::Dynamic`], as Node.js.
    pub subscription: SubscriptionMode,
    /// How long the subscription of a room outlasts its last member. Default 5 s.
    pub linger: Duration,
    /// How long after sockets of other nodes were made to join a room messages for it still go to all nodes: those that
    /// did not have the room before need a moment to subscribe. Default 5 s.
    pub join_grace: Duration,
}

impl Default for Sharded {
    fn default() -> Self {
        Self {
            subscription: SubscriptionMode::default(),
            linger: Duration::from_secs(5),
            join_grace: Duration::from_secs(5),
        }
    }
}

/// Which rooms have channels of their own, on which only nodes with a member receive messages.
///
/// In the dynamic modes a node must have subscribed to a room before a neighbour publishes to it. Joins that are
/// awaited are complete when the subscription is active; others are picked up a moment later, and what Node.js
/// neighbours publish to the room meanwhile is missed. What our own nodes publish to a room right after they made
/// sockets join it goes to all nodes ([`Sharded::join_grace`]).
///
/// A single server keeps the order of everything that a node sends, in every mode. On a Redis Cluster channels live on
/// different servers, each with a connection of its own: in the static mode, where a namespace has one channel, its
/// order is kept there too; in the dynamic modes the order is kept in each room, and in what goes to all nodes, which
/// acknowledged broadcasts do.
///
/// In the static mode our nodes notice by their numbers what is missing. In the dynamic modes they drop repeats by
/// them; a broken connection is reported as a gap of unknown size, since no node receives every room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum SubscriptionMode {
    /// No room: all nodes get all messages.
    Static,
    /// All rooms but those with names of 20 characters, which Node.js takes for socket ids. Ids of socketioxide have 16:
    /// each socket costs a subscription.
    #[default]
    Dynamic,
    /// All rooms.
    DynamicPrivate,
}

/// Options of [`Mode::Streams`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Streams {
    /// Name of the stream; `streamName`. Default `socket.io`.
    pub stream: String,
    /// How many streams the namespaces are spread over; `streamCount`. All nodes must agree. Default 1.
    pub count: u16,
    /// How many messages a stream keeps, roughly; `maxLen`. Default 10,000.
    pub max_len: u64,
    /// How many messages are read at a time; `readCount`. Default 1000.
    pub read_count: u32,
    /// How long a read waits for messages; `blockTimeInMs`. Default 1 s.
    pub block: Duration,
    /// Prefix of the keys of sessions; `sessionKeyPrefix`. Default `sio:session:`.
    pub session_prefix: String,
    /// How long a session can be restored; `maxDisconnectionDuration` of the server. Default 2 min.
    pub session_ttl: Duration,
    /// Whether requests and answers travel over sharded pub/sub; `useShardedPubSub`. All nodes must agree. Off by
    /// default. Needs Redis 7.
    pub sharded_pubsub: bool,
    /// Whether messages with binary are stored as JSON all the same, in which binary is no binary any more;
    /// `onlyPlaintext`. Off by default.
    pub plaintext: bool,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            stream: "socket.io".into(),
            count: 1,
            max_len: 10_000,
            read_count: 1_000,
            block: Duration::from_secs(1),
            session_prefix: "sio:session:".into(),
            session_ttl: Duration::from_secs(120),
            sharded_pubsub: false,
            plaintext: false,
        }
    }
}

impl Streams {
    fn check(&self) -> Result<()> {
        if self.stream.is_empty() {
            return refuse("stream is empty");
        }
        let least =
            [("streams", u64::from(self.count)), ("max_len", self.max_len), ("read_count", self.read_count.into())];
        if let Some((name, _)) = least.into_iter().find(|(_, value)| *value == 0) {
            return refuse(format!("{name} is 0; allowed is a number above that"));
        }
        for (name, time) in [("block", self.block), ("session_ttl", self.session_ttl)] {
            if time.as_millis() == 0 {
                return refuse(format!("{name} is below 1ms"));
            }
        }
        Ok(())
    }
}

/// Servers: their addresses, user and TLS.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Kind of servers at the addresses.
    pub topology: Topology,
    /// Addresses: one, or several of a sentinel or a cluster, of which the first that answers leads to the others.
    pub addresses: Vec<Address>,
    /// User name; `None` for the default user.
    pub user: Option<String>,
    /// Password of the user.
    pub password: Option<String>,
    /// Database with the streams and sessions; pub/sub knows no databases. Default 0.
    pub database: u32,
    /// TLS settings; `None` for plain connections.
    pub tls: Option<Tls>,
    /// Addresses that sentinels and the nodes of a cluster name, where they are reached by others. Empty by default.
    pub announce: AddressMap,
}

impl ServerConfig {
    /// One server without user and TLS.
    #[must_use]
    pub fn new(address: Address) -> Self {
        Self {
            topology: Topology::Standalone,
            addresses: vec![address],
            user: None,
            password: None,
            database: 0,
            tls: None,
            announce: AddressMap::default(),
        }
    }

    /// The addresses that are no unix sockets, as text.
    pub(crate) fn hosts(&self) -> Vec<String> {
        let hosts = self.addresses.iter().filter(|address| matches!(address, Address::Tcp(..)));
        hosts.map(ToString::to_string).collect()
    }

    fn check(&self) -> Result<()> {
        if self.addresses.is_empty() {
            return refuse("no address is given");
        }
        if self.addresses.len() > 1 && self.topology == Topology::Standalone {
            return refuse("several addresses need cluster=on or sentinel=NAME");
        }
        if self.database != 0 && self.topology == Topology::Cluster {
            return refuse(format!("database {}; a cluster has only database 0", self.database));
        }
        Ok(())
    }
}

impl fmt::Debug for ServerConfig {
    /// Leaves the passwords out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("topology", &self.topology)
            .field("addresses", &self.addresses)
            .field("user", &self.user)
            .field("database", &self.database)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}

/// Kind of servers at the addresses of a [`ServerConfig`].
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Topology {
    /// A Redis server.
    Standalone,
    /// Sentinels, which know the address of the master.
    Sentinel {
        /// Name of the master at the sentinels.
        service: String,
        /// User name at the sentinels; `None` for the default user.
        user: Option<String>,
        /// Password at the sentinels.
        password: Option<String>,
    },
    /// Nodes of a Redis Cluster.
    Cluster,
}

impl fmt::Debug for Topology {
    /// Leaves the password out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standalone => f.write_str("Standalone"),
            Self::Sentinel { service, .. } => write!(f, "Sentinel({service:?})"),
            Self::Cluster => f.write_str("Cluster"),
        }
    }
}

/// Address of a server.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// Host and port.
    Tcp(String, u16),
    /// Path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// TLS settings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tls {
    /// PEM file with the authorities to trust; those of the operating system if `None`.
    pub authorities: Option<PathBuf>,
    /// PEM files with our certificate chain and its private key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// How the server's certificate is checked, or a configuration of your own.
    #[cfg(feature = "tls")]
    pub check: ServerCheck,
}
