//! How to reach the brokers, and what to do there.

use std::{fmt, path::PathBuf, time::Duration};

use percent_encoding::percent_decode_str;
#[cfg(feature = "tls")]
use trunkline_backend::tls::ServerCheck;
use trunkline_backend::{
    CredentialsProvider, Login, OutboxLimits,
    connect_failure::tls_is_left_out,
    rooms::Buckets,
    url::{Params, did_you_mean, host_and_port, redact},
};
use trunkline_core::{Error, ErrorKind, Result};

/// Where the brokers are and how nodes use them. All nodes of a cluster must agree on `vhost`, `prefix`, `buckets` and
/// whether there is `history`.
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub struct Config {
    /// The brokers of one RabbitMQ cluster, as `host:port`; any of them will do. Default `localhost:5672`.
    pub servers: Vec<String>,
    /// Who connects. Default `guest`, whom brokers accept from their own machine only.
    pub user: String,
    /// Their password. Default `guest`.
    pub password: String,
    /// Asked before each connection; [`Config::credentials`].
    pub(crate) provider: Option<CredentialsProvider>,
    /// The virtual host. Default `/`.
    pub vhost: String,
    /// Encryption.
    pub tls: Tls,
    /// Names the exchange. Clusters with different prefixes do not hear each other. Default `trunkline`.
    pub prefix: String,
    /// How rooms are spread over routing keys.
    pub buckets: Buckets,
    /// How long a bucket without rooms stays bound. Default 10 s.
    pub linger: Duration,
    /// How long messages for a room go to all nodes after sockets of other nodes were asked to join it. Default 5 s.
    pub join_grace: Duration,
    /// Bounds of what waits to be sent.
    pub outbox: OutboxLimits,
    /// How long connecting, and everything else that needs an answer of the broker, may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How often both sides show that they are alive (AMQP's heartbeat), in whole seconds. After twice that without a
    /// sign the connection counts as lost. Default 5 s.
    pub ping_interval: Duration,
    /// The largest message to publish, at most what the broker's `max_message_size` allows. Default 4 MiB.
    pub max_message_bytes: usize,
    /// Batches of messages that the broker sends ahead of what the node has taken. Default 256.
    pub prefetch: u16,
    /// Batches that the broker keeps for a node that takes nothing. Beyond it the oldest are lost, which is reported as
    /// a gap. Default 100,000.
    pub queue_batches: u32,
    /// Bytes that the broker keeps for a node that takes nothing. Default 64 MiB.
    pub queue_bytes: usize,
    /// Keep broadcasts and sessions in a stream queue, for clients that come back. Default off.
    pub history: Option<HistoryConfig>,
}

/// What the history keeps. The first node of a cluster sets it up; to change the limits later, delete the stream or
/// give it a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryConfig {
    /// Bytes to keep, about: what is too much goes by eighths. Default 256 MiB.
    pub bytes: usize,
    /// How long to keep them, in whole seconds. Default 1 h.
    pub ttl: Duration,
    /// How long a session can be restored, as `maxDisconnectionDuration` of Socket.IO. Default 2 min.
    pub session_ttl: Duration,
}

impl Default for HistoryConfig {
    fn default() -> Self {
        Self { bytes: 256 << 20, ttl: Duration::from_secs(3600), session_ttl: Duration::from_secs(120) }
    }
}

/// Encryption of the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Connect with TLS.
    pub required: bool,
    /// PEM file with the authorities to trust, instead of those of the operating system.
    pub ca: Option<PathBuf>,
    /// PEM files with the client's certificate chain and key, for brokers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
    /// How the server's certificate is checked, or a configuration of your own.
    #[cfg(feature = "tls")]
    pub check: ServerCheck,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: vec!["localhost:5672".into()],
            user: "guest".into(),
            password: "guest".into(),
            provider: None,
            vhost: "/".into(),
            tls: Tls::default(),
            prefix: "trunkline".into(),
            buckets: Buckets::DEFAULT,
            linger: Duration::from_secs(10),
            join_grace: Duration::from_secs(5),
            outbox: OutboxLimits::default(),
            connect_timeout: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            max_message_bytes: 4 << 20,
            prefetch: 256,
            queue_batches: 100_000,
            queue_bytes: 64 << 20,
            history: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("servers", &self.servers)
            .field("user", &self.user)
            .field("password", &"***")
            .field("vhost", &self.vhost)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Config {
    /// Reads `amqp://user:password@host:port,host:port/vhost?parameters`; the parameters stand in the README.
    /// `amqps://` connects with TLS.
    ///
    /// User, password and virtual host are percent-decoded; without a virtual host, or with an empty one, it is `/`.
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed, without secrets.
    pub fn from_url(url: &str) -> Result<Self> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let (scheme, rest) = address.split_once("://").ok_or_else(|| no_address(url))?;
        let mut config = Self::default();
        config.tls.required = match scheme {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(no_address(url)),
        };
        // A raw password may itself contain an at sign or a slash.
        let hosts = match rest.rsplit_once('@') {
            Some((user_info, hosts)) => {
                let (user, password) = user_info.split_once(':').unwrap_or((user_info, ""));
                (config.user, config.password) = (decoded(user)?, decoded(password)?);
                hosts
            }
            None => rest,
        };
        let (hosts, vhost) = hosts.split_once('/').unwrap_or((hosts, ""));
        if !vhost.is_empty() {
            config.vhost = decoded(vhost)?;
        }
        let default_port = if config.tls.required { 5671 } else { 5672 };
        let servers = hosts.split(',').map(|host| host_and_port(host, default_port).ok_or_else(|| no_address(url)));
        config.servers = servers.collect::<Result<_>>()?;
        let params = Params::parse(query).with_aliases(ALIASES);
        config.read_params(params.with_other_mode(
            "amqps://",
            &["tls_ca", "tls_cert", "tls_key", "tls_server_name", "tls_verify", "tls_fingerprint"],
        ))?;
        Ok(config)
    }

    /// Asks for user and password, or a token, before each connection: the first one, and those after a loss. For
    /// credentials that change or expire. They take the place of those in the URL.
    ///
    /// ```
    /// use trunkline_rabbitmq::{Config, Login};
    ///
    /// # async fn token() -> Result<String, std::io::Error> { Ok("of this hour".into()) }
    /// let config = Config::from_url("amqps://broker.example.com")?
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
        self.provider = Some(CredentialsProvider::new(ask));
        self
    }

    fn read_params(&mut self, mut params: Params) -> Result<()> {
        if self.tls.required {
            self.tls.ca = params.take::<String>("tls_ca")?.map(PathBuf::from);
            self.tls.client = params.take_files("tls_cert", "tls_key")?;
            #[cfg(feature = "tls")]
            {
                self.tls.check = ServerCheck::take(&mut params)?;
            }
        }
        params.read("prefix", &mut self.prefix)?;
        params.read("buckets", &mut self.buckets)?;
        params.read("linger", &mut self.linger)?;
        params.read("join_grace", &mut self.join_grace)?;
        params.read_bytes("outbox_bytes", &mut self.outbox.bytes)?;
        params.read("push_timeout", &mut self.outbox.push_timeout)?;
        params.read("connect_timeout", &mut self.connect_timeout)?;
        params.read("ping_interval", &mut self.ping_interval)?;
        params.read_bytes("max_message_bytes", &mut self.max_message_bytes)?;
        params.read("prefetch", &mut self.prefetch)?;
        params.read("queue_batches", &mut self.queue_batches)?;
        params.read_bytes("queue_bytes", &mut self.queue_bytes)?;
        self.history = history(&mut params)?;
        params.finish()?;
        self.check()
    }

    /// What no type can say.
    pub(crate) fn check(&self) -> Result<()> {
        if self.servers.is_empty() {
            return Err(wrong("no broker is given"));
        }
        if cfg!(not(feature = "tls")) && self.tls.required {
            return tls_is_left_out("trunkline-rabbitmq");
        }
        if self.prefix.is_empty() || self.prefix.len() > MAX_PREFIX {
            return Err(wrong(format!("a prefix of {} bytes; allowed are 1 to {MAX_PREFIX}", self.prefix.len())));
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.ping_interval) {
            return Err(wrong(format!("a ping_interval of {:?}; allowed are 1s to 10m", self.ping_interval)));
        }
        if self.prefetch == 0 || self.queue_batches == 0 || self.queue_bytes == 0 || self.connect_timeout.is_zero() {
            return Err(wrong("prefetch, queue_batches, queue_bytes and connect_timeout must not be 0"));
        }
        if self.max_message_bytes < MIN_MESSAGE_BYTES {
            return Err(wrong(format!("max_message_bytes must be at least {MIN_MESSAGE_BYTES}")));
        }
        if let Some(history) = &self.history
            && (history.bytes < MIN_HISTORY || history.ttl.is_zero() || history.session_ttl.is_zero())
        {
            return Err(wrong(format!("the history needs at least {MIN_HISTORY} bytes and times above 0")));
        }
        Ok(())
    }
}

/// Former names of parameters, which are still accepted.
const ALIASES: &[(&str, &str)] =
    &[("heartbeat", "ping_interval"), ("outbox_patience", "push_timeout"), ("queue_frames", "queue_batches")];

/// Escaping may triple it, and it is part of the names of queues.
const MAX_PREFIX: usize = 64;

/// Less could not carry what nodes have to say to each other.
const MIN_MESSAGE_BYTES: usize = 64 << 10;

/// Parts of less are not worth a file.
const MIN_HISTORY: usize = 16 << 10;

fn history(params: &mut Params) -> Result<Option<HistoryConfig>> {
    let is_on = params.take("history")?.unwrap_or(false);
    let mut history = HistoryConfig::default();
    params.read_bytes("history_bytes", &mut history.bytes)?;
    params.read("history_ttl", &mut history.ttl)?;
    params.read("session_ttl", &mut history.session_ttl)?;
    Ok(is_on.then_some(history))
}

fn wrong(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, context)
}

fn no_address(url: &str) -> Error {
    let scheme = url.split(':').next().unwrap_or_default();
    let hint =
        if ["amqp", "amqps"].contains(&scheme) { String::new() } else { did_you_mean(scheme, ["amqp", "amqps"]) };
    let context = format!(
        "{:?} names no RabbitMQ broker; allowed is amqp://user:password@host:port,host:port/vhost{hint}",
        redact(url)
    );
    Error::new(ErrorKind::Config, context)
}

fn decoded(text: &str) -> Result<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(String::from).map_err(|_| wrong("user, password and virtual host must be UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(url: &str) -> String {
        Config::from_url(url).unwrap_err().to_string()
    }

    #[test]
    fn an_address_has_brokers_credentials_a_vhost_and_parameters() {
        let url = "amqp://app:p%40ss@a:1,b,[::1]:5/my%2Fhost?prefix=chat&buckets=16&linger=1s&outbox_bytes=1MiB&ping_interval=2s&history=on&session_ttl=10s";
        let config = Config::from_url(url).unwrap();
        assert_eq!(config.servers, ["a:1", "b:5672", "[::1]:5"]);
        assert_eq!((config.user.as_str(), config.password.as_str()), ("app", "p@ss"));
        assert_eq!((config.vhost.as_str(), config.prefix.as_str()), ("my/host", "chat"));
        assert_eq!((config.buckets.count(), config.outbox.bytes), (16, 1 << 20));
        assert_eq!((config.linger, config.ping_interval), (Duration::from_secs(1), Duration::from_secs(2)));
        assert_eq!(config.history.unwrap().session_ttl, Duration::from_secs(10));
        let secure = Config::from_url("amqps://a").unwrap();
        assert!(secure.tls.required && secure.servers == ["a:5671"]);
        for url in ["amqp://localhost", "amqp://localhost/", "amqp://guest:guest@localhost/%2F"] {
            assert_eq!(Config::from_url(url).unwrap(), Config::default(), "{url}");
        }
    }

    #[test]
    fn former_names_of_parameters_are_accepted() {
        let config = Config::from_url("amqp://a?heartbeat=2s&outbox_patience=3s").unwrap();
        assert_eq!(
            (config.ping_interval, config.outbox.push_timeout),
            (Duration::from_secs(2), Duration::from_secs(3))
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_allowed() {
        assert!(refused("amqp://").contains("allowed is amqp://"));
        assert!(refused("redis://a").contains("allowed is amqp://"));
        assert!(refused("amqp://a:port").contains("names no RabbitMQ broker"));
        assert!(refused("amqp://a?bukets=1").contains("buckets"));
        assert!(refused("amqp://a?buckets=0").contains("1 to 1023"));
        assert!(refused("amqp://a?prefix=").contains("text that is not empty"));
        assert!(refused("amqps://a?tls_cert=x").contains("go together"));
        assert!(refused("amqp://a?tls_ca=x").contains("one of amqps://"));
        assert!(refused("ampq://a").contains("did you mean \"amqp\""));
        assert!(refused("amqp://a?ping_interval=10ms").contains("1s to 10m"));
        assert!(refused("amqp://a?prefetch=0").contains("must not be 0"));
        assert!(refused("amqp://a?history=on&history_bytes=1").contains("at least 16384 bytes"));
    }

    #[test]
    fn secrets_do_not_show() {
        let config = Config::from_url("amqp://app:s3cret@a").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        assert!(!refused("amqp://app:s3cret@").contains("s3cret"));
        assert!(!refused("amqp://app:s3/cret@").contains("cret"));
    }
}
