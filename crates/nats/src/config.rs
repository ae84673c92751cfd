//! How to reach the servers, and what to do there.

use std::{fmt, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
use trunkline_backend::{
    CredentialsProvider, Login, OutboxLimits,
    rooms::Buckets,
    tls::ServerCheck,
    url::{AddressMap, Params, did_you_mean, host_and_port, redact},
};
use trunkline_core::{Error, ErrorKind, Result};

/// Where the servers are and how nodes use them. All nodes of a cluster must agree on `prefix`, `buckets` and whether
/// there is `history`.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The servers, as `host:port`; any of them will do, and the other servers of their cluster are learned from them.
    /// Default `localhost:4222`.
    pub servers: Vec<String>,
    /// How connections authenticate. Default: not at all.
    pub credentials: Credentials,
    /// Encryption. Default: only if the server asks for it.
    pub tls: Tls,
    /// Addresses that servers advertise, with those by which they are reached: NAT, tunnels. Default: all are reached as
    /// they say.
    pub announce: AddressMap,
    /// The first token of every subject. Clusters with different prefixes do not hear each other. Default `trunkline`.
    pub prefix: String,
    /// How rooms are spread over subjects.
    pub buckets: Buckets,
    /// How long a bucket without rooms stays subscribed. Default 10 s.
    pub linger: Duration,
    /// How long messages for a room go to all nodes after sockets of other nodes were asked to join it. Default 5 s.
    pub join_grace: Duration,
    /// Bounds of what waits to be sent.
    pub outbox: OutboxLimits,
    /// How long connecting, and everything else that needs an answer of the server, may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How often an idle connection is probed. After two probes without an answer it counts as lost. Default 5 s.
    pub ping_interval: Duration,
    /// Batches of messages that may wait for a node in the client, per subscription. Beyond it they are lost, which is
    /// reported as a gap. Default 32,768.
    pub pending_batches: usize,
    /// Keep broadcasts and sessions in JetStream, for clients that come back. Default off.
    pub history: Option<HistoryConfig>,
}

/// What the history keeps. The first node of a cluster sets it up; the limits of an existing history are adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Batches to keep, of one or several messages each. Default 1,000,000.
    pub batches: u64,
    /// Bytes to keep. Default 256 MiB. A message of more than half of it is refused.
    pub bytes: usize,
    /// How long to keep them. Default 1 h.
    pub ttl: Duration,
    /// How many servers keep a copy. Default 1.
    pub replicas: usize,
    /// Whether they are kept in memory instead of on disk. Default off.
    pub in_memory: bool,
    /// How long a session can be restored, as `maxDisconnectionDuration` of Socket.IO. Default 2 min.
    pub session_ttl: Duration,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self {
            batches: 1_000_000,
            bytes: 256 << 20,
            ttl: Duration::from_secs(3600),
            replicas: 1,
            in_memory: false,
            session_ttl: Duration::from_secs(120),
        }
    }
}

/// How a connection authenticates.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Credentials {
    /// Not at all.
    #[default]
    None,
    /// By name and password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token.
    Token(String),
    /// By signing with the key of this seed (`SU…`).
    NKey(String),
    /// By a JWT and the key that belongs to it: the content of a credentials file.
    Jwt(String),
    /// By name and password, or a token, asked for before each connection; [`Config::credentials`].
    Provided(CredentialsProvider),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Password { user, .. } => write!(f, "Password({user:?}, ***)"),
            Self::Token(_) => f.write_str("Token(***)"),
            Self::NKey(_) => f.write_str("NKey(***)"),
            Self::Jwt(_) => f.write_str("Jwt(***)"),
            Self::Provided(_) => f.write_str("Provided"),
        }
    }
}

/// Encryption of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Refuse servers without TLS. Otherwise the server decides.
    pub required: bool,
    /// Begin with TLS, before the server says anything; for servers set up with `handshake_first`.
    pub first: bool,
    /// PEM file with the authorities to trust, instead of those of the operating system.
    pub ca: Option<PathBuf>,
    /// PEM files with the client's certificate chain and key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// How the server's certificate is checked, or a configuration of your own.
    pub check: ServerCheck,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec!["localhost:4222".into()],
            credentials: Credentials::None,
            tls: Tls::default(),
            announce: AddressMap::default(),
            prefix: "trunkline".into(),
            buckets: Buckets::DEFAULT,
            linger: Duration::from_secs(10),
            join_grace: Duration::from_secs(5),
            outbox: OutboxLimits::default(),
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            pending_batches: 32_768,
            history: None,
        }
    }
}

impl Config {
    /// Reads `nats://user:password@host:port,host:port?parameters`; the parameters stand in the README. `tls://`
    /// requires TLS.
    ///
    /// A name without a password is a token. Name, password and token are percent-decoded. Files with keys are read
    /// here.
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed, without secrets.
    pub fn from_url(url: &str) -> Result<Self> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, authority) = address.split_once("://").ok_or_else(|| no_address(url))?;
        let (user_info, hosts) = match authority.rsplit_once('@') {
            Some((user_info, hosts)) => (Some(user_info), hosts),
            None => (None, authority),
        };
        let mut config = Self { servers: servers(hosts, url)?, ..Self::default() };
        config.tls.required = match scheme {
            "nats" => false,
            "tls" => true,
            _ => return Err(no_address(url)),
        };
        config.read_params(Params::parse(query).with_aliases(ALIASES), user_info)?;
        Ok(config)
    }

    /// Asks for user and password, or a token, before each connection: the first one, and those after a loss. For
    /// credentials that change or expire. They take the place of those in the URL.
    ///
    /// ```
    /// use trunkline_nats::{Config, Login};
    ///
    /// # async fn token() -> Result<String, std::io::Error> { Ok("of this hour".into()) }
    /// let config = Config::from_url("tls://nats.example.com")?
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
        self.credentials = Credentials::Provided(CredentialsProvider::new(ask));
        self
    }

    fn read_params(&mut self, mut params: Params, user_info: Option<&str>) -> Result<()> {
        self.credentials = credentials(user_info, &mut params)?;
        self.tls.required |= params.take("tls")?.unwrap_or(false);
        self.tls.first = params.take("tls_first")?.unwrap_or(false);
        self.tls.ca = params.take::<String>("tls_ca")?.map(PathBuf::from);
        self.tls.client = params.take_files("tls_cert", "tls_key")?;
        self.tls.check = ServerCheck::take(&mut params)?;
        params.read("announce", &mut self.announce)?;
        params.read("prefix", &mut self.prefix)?;
        params.read("buckets", &mut self.buckets)?;
        params.read("linger", &mut self.linger)?;
        params.read("join_grace", &mut self.join_grace)?;
        params.read_bytes("outbox_bytes", &mut self.outbox.bytes)?;
        params.read("push_timeout", &mut self.outbox.push_timeout)?;
        params.read("connect_timeout", &mut self.connect_timeout)?;
        params.read("ping_interval", &mut self.ping_interval)?;
        params.read("pending_batches", &mut self.pending_batches)?;
        self.history = history(&mut params)?;
        params.finish()?;
        self.check()
    }

    /// What no type can say.
    pub(crate) fn check(&self) -> Result<()> {
        if self.servers.is_empty() {
            return Err(wrong("no server is given"));
        }
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX {
            return Err(wrong(format!("a prefix of {} bytes; allowed are 1 to {MAX_PREFIX}", self.prefix.len())));
        }
        if self.pending_batches == 0 || self.ping_interval.is_zero() || self.connect_timeout.is_zero() {
            return Err(wrong("pending_batches, ping_interval and connect_timeout must not be 0"));
        }
        if let Some(history) = &self.history {
            let is_zero = history.batches == 0 || history.bytes == 0 || history.session_ttl.is_zero();
            if is_zero || !(1..=5).contains(&history.replicas) {
                return Err(wrong("the history needs 1 to 5 replicas and limits above 0"));
            }
        }
        Ok(())
    }
}

/// Former names of parameters, which are still accepted.
const ALIASES: &[(&str, &str)] = &[
    ("history_frames", "history_batches"),
    ("outbox_patience", "push_timeout"),
    ("pending_frames", "pending_batches"),
];

/// Stream names are limited to 255 characters, and escaping may triple the prefix.
const MAX_PREFIX: usize = 64;

fn wrong(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, context)
}

fn no_address(url: &str) -> Error {
    let scheme = url.split(':').next().unwrap_or_default();
    let hint = if ["nats", "tls"].contains(&scheme) { String::new() } else { did_you_mean(scheme, ["nats", "tls"]) };
    let context =
        format!("{:?} names no NATS server; allowed is nats://user:password@host:port,host:port{hint}", redact(url));
    Error::new(ErrorKind::Config, context)
}

fn servers(hosts: &str, url: &str) -> Result<Vec<String>> {
    let hosts = hosts.strip_suffix('/').unwrap_or(hosts);
    let checked = hosts.split(',').map(|host| server(host).ok_or_else(|| no_address(url)));
    checked.collect()
}

fn server(host: &str) -> Option<String> {
    const DEFAULT_PORT: u16 = 4222;
    // Lists of whole addresses are common.
    let host = host.strip_prefix("nats://").or_else(|| host.strip_prefix("tls://")).unwrap_or(host);
    host_and_port(host, DEFAULT_PORT)
}

/// Credentials are given once: before the host, or by one of the parameters.
fn credentials(user_info: Option<&str>, params: &mut Params) -> Result<Credentials> {
    let in_address = match user_info.map(|user_info| user_info.split_once(':').ok_or(user_info)) {
        None => None,
        Some(Ok((user, password))) => {
            Some(Credentials::Password { user: decoded(user)?, password: decoded(password)? })
        }
        Some(Err(token)) => Some(Credentials::Token(decoded(token)?)),
    };
    let token = params.take("token")?.map(Credentials::Token);
    let nkey = file(params, "nkey_file")?.map(|seed| Credentials::NKey(seed.trim().to_owned()));
    let jwt = file(params, "credentials_file")?.map(Credentials::Jwt);
    let mut given = [in_address, token, nkey, jwt].into_iter().flatten();
    let credentials = given.next().unwrap_or_default();
    if given.next().is_some() {
        return Err(wrong(
            "credentials are given more than once: allowed is one of user and password, token, nkey_file, credentials_file",
        ));
    }
    Ok(credentials)
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| wrong("user, password and token must be UTF-8"))
}

fn file(params: &mut Params, name: &'static str) -> Result<Option<String>> {
    let Some(path) = params.take::<String>(name)? else { return Ok(None) };
    match std::fs::read_to_string(&path) {
        Ok(content) => Ok(Some(content)),
        Err(error) => Err(wrong(format!("parameter {name:?}: {path:?} cannot be read")).with_source(error)),
    }
}

fn history(params: &mut Params) -> Result<Option<HistoryConfig>> {
    let is_on = params.take("history")?.unwrap_or(false);
    let mut history = HistoryConfig::default();
    params.read("history_batches", &mut history.batches)?;
    params.read_bytes("history_bytes", &mut history.bytes)?;
    params.read("history_ttl", &mut history.ttl)?;
    params.read("history_replicas", &mut history.replicas)?;
    params.read("history_in_memory", &mut history.in_memory)?;
    params.read("session_ttl", &mut history.session_ttl)?;
    Ok(is_on.then_some(history))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Config::from_url(url).unwrap_err().to_string()
    }

    #[test]
    fn an_address_has_servers_credentials_and_parameters() {
        let url = "nats://app:p%40ss@a:1,b,[::1]:5?prefix=chat&buckets=16&linger=1s&outbox_bytes=1MiB&history=on&session_ttl=10s";
        let config = Config::from_url(url).unwrap();
        assert_eq!(config.servers, ["a:1", "b:4222", "[::1]:5"]);
        assert_eq!(Config::from_url("nats://a:1,nats://b").unwrap().servers, ["a:1", "b:4222"]);
        assert_eq!(config.credentials, Credentials::Password { user: "app".into(), password: "p@ss".into() });
        assert_eq!((config.prefix.as_str(), config.buckets.count()), ("chat", 16));
        assert_eq!((config.linger, config.outbox.bytes), (Duration::from_secs(1), 1 << 20));
        assert_eq!(config.history.unwrap().session_ttl, Duration::from_secs(10));
        assert!(Config::from_url("tls://a").unwrap().tls.required);
        assert_eq!(Config::from_url("nats://localhost").unwrap(), Config::default());
    }

    #[test]
    fn a_name_without_a_password_is_a_token() {
        let config = Config::from_url("nats://s3cret@a").unwrap();
        assert_eq!(config.credentials, Credentials::Token("s3cret".into()));
        assert_eq!(Config::from_url("nats://a?token=s3cret").unwrap(), config);
    }

    #[test]
    fn former_names_of_parameters_are_accepted() {
        let config =
            Config::from_url("nats://a?outbox_patience=3s&pending_frames=7&history=on&history_frames=9").unwrap();
        assert_eq!((config.outbox.push_timeout, config.pending_batches), (Duration::from_secs(3), 7));
        assert_eq!(config.history.unwrap().batches, 9);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        assert!(refused("nats://").contains("allowed is nats://"));
        assert!(refused("redis://a").contains("allowed is nats://"));
        assert!(refused("nats://a:port").contains("names no NATS server"));
        assert!(refused("nats://a?bukets=1").contains("buckets"));
        assert!(refused("nats://a?buckets=0").contains("1 to 1023"));
        assert!(refused("nats://a?prefix=").contains("text that is not empty"));
        assert!(refused("nats://a?tls_cert=x").contains("go together"));
        assert!(refused("nats://u:p@a?token=t").contains("more than once"));
        assert!(refused("nats://a?nkey_file=/nowhere").contains("cannot be read"));
        assert!(refused("nats://a?history=on&history_replicas=9").contains("1 to 5 replicas"));
    }

    #[test]
    fn secrets_do_not_show() {
        let config = Config::from_url("nats://app:s3cret@a").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        let config = Config::from_url("nats://a?token=s3cret").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(!refused("nats://app:s3cret@").contains("s3cret"));
        assert!(!refused("nats://s3cret@").contains("s3cret"));
    }
}
