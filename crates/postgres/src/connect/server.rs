//! Hosts, user, database and TLS of a server, and connecting to the first host that can be used.

use std::{env, fmt, io, net::IpAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
#[cfg(unix)]
use tokio::net::UnixStream;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};
use tokio_postgres::{
    Client, SimpleQueryMessage,
    config::{ChannelBinding, Host, SslMode as WireSslMode},
    tls::MakeTlsConnect,
};
#[cfg(feature = "tls")]
use trunkline_backend::tls::OwnConfig;
use trunkline_backend::{
    ConnectFailure, CredentialsProvider,
    url::{ParamValue, Params},
};
use trunkline_core::{Error, ErrorKind, Result};

use super::{
    ConnectionDriver, PgConnection,
    pulse::{ObservedStream, Pulse},
    tls::{Connector, SslMode, Tls},
};
use crate::error::{Failure, describe};

/// Hosts, user, database and TLS of the server: libpq's connection parameters.
#[derive(Clone)]
pub struct ServerConfig {
    endpoints: Vec<Endpoint>,
    /// User, database, session and socket parameters.
    settings: tokio_postgres::Config,
    /// Asked before each connection.
    pub(crate) provider: Option<CredentialsProvider>,
    tls: Tls,
    load_balanced: bool,
    read_write: bool,
    connect_timeout: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    host: Host,
    address: Option<IpAddr>,
    port: u16,
}

impl ServerConfig {
    /// The part of a URL before the `?`, and libpq's parameters.
    pub(crate) fn parse(address: &str, params: &mut Params) -> Result<Self> {
        let given: tokio_postgres::Config =
            address.parse().map_err(|error| refused(format!("not a PostgreSQL URL: {}", describe(&error))))?;
        let mut server = Self {
            endpoints: endpoints(&given, params)?,
            settings: tokio_postgres::Config::new(),
            provider: None,
            tls: Tls::take(params)?,
            load_balanced: params
                .take_word("load_balance_hosts", &[("disable", false), ("random", true)])?
                .unwrap_or(false),
            read_write: must_be_writable(params)?,
            connect_timeout: params.take("connect_timeout")?.map_or(Duration::from_secs(5), |Seconds(time)| time),
        };
        server.take_identity(&given, params)?;
        server.take_keepalives(params)?;
        Ok(server)
    }

    fn take_identity(&mut self, given: &tokio_postgres::Config, params: &mut Params) -> Result<()> {
        let text = |text: Option<&str>| text.map(ToOwned::to_owned);
        if let Some(user) = params.take("user")?.or_else(|| text(given.get_user())) {
            self.settings.user(user);
        }
        if let Some(password) = params.take::<String>("password")?.map(String::into_bytes) {
            self.settings.password(password);
        } else if let Some(password) = given.get_password() {
            self.settings.password(password);
        } else if let Ok(password) = env::var("PGPASSWORD") {
            self.settings.password(password);
        }
        if let Some(database) = params.take("dbname")?.or_else(|| text(given.get_dbname())) {
            self.settings.dbname(database);
        }
        if let Some(options) = params.take::<String>("options")? {
            self.settings.options(options);
        }
        self.settings.application_name(params.take("application_name")?.unwrap_or_else(|| "trunkline".to_owned()));
        let bindings = [
            ("disable", ChannelBinding::Disable),
            ("prefer", ChannelBinding::Prefer),
            ("require", ChannelBinding::Require),
        ];
        if let Some(binding) = params.take_word("channel_binding", &bindings)? {
            self.settings.channel_binding(binding);
        }
        Ok(())
    }

    fn take_keepalives(&mut self, params: &mut Params) -> Result<()> {
        let settings = &mut self.settings;
        settings.keepalives(params.take("keepalives")?.unwrap_or(true));
        let time = |time: Option<Seconds>, default| time.map_or(Duration::from_secs(default), |Seconds(time)| time);
        settings.keepalives_idle(time(params.take("keepalives_idle")?, 30));
        settings.keepalives_interval(time(params.take("keepalives_interval")?, 10));
        settings.keepalives_retries(params.take("keepalives_count")?.unwrap_or(3));
        settings.tcp_user_timeout(Duration::from_millis(params.take("tcp_user_timeout")?.unwrap_or(30_000)));
        Ok(())
    }

    /// Uses this TLS configuration in place of the one that `sslmode`, `sslrootcert`, `sslcert` and `sslkey` make: what of
    /// the certificate is checked is its business. `sslmode` still says whether there is TLS.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_client_config(mut self, config: impl Into<OwnConfig>) -> Self {
        self.tls.own = Some(config.into());
        self
    }

    /// Reads the certificates that the URL names.
    pub(crate) fn connector(&self) -> Result<Connector> {
        self.tls.connector()
    }

    /// Connects to the first host that can be used.
    pub(crate) async fn open(&self, connector: &Connector, pulse: &Arc<Pulse>) -> Result<PgConnection> {
        let mut endpoints: Vec<_> = self.endpoints.iter().collect();
        if self.load_balanced {
            fastrand::shuffle(&mut endpoints);
        }
        let mut failures = Vec::new();
        for endpoint in endpoints {
            match self.open_in_time(endpoint, connector, pulse).await {
                Ok(connection) => return Ok(connection),
                Err(error) => failures.push(error),
            }
        }
        Err(summary(failures))
    }

    async fn open_in_time(
        &self,
        endpoint: &Endpoint,
        connector: &Connector,
        pulse: &Arc<Pulse>,
    ) -> Result<PgConnection> {
        let deadline = Instant::now() + self.connect_timeout;
        // Not the server's fault if there are no credentials.
        let settings = self.settings_for(endpoint).await?;
        timeout_at(deadline, self.open_at(endpoint, &settings, connector, pulse))
            .await
            .unwrap_or_else(|_| Err(ConnectFailure::NoAnswer(self.connect_timeout).at(endpoint)))
    }

    async fn open_at(
        &self,
        endpoint: &Endpoint,
        settings: &tokio_postgres::Config,
        connector: &Connector,
        pulse: &Arc<Pulse>,
    ) -> Result<PgConnection> {
        let stream = self.connect(endpoint, pulse).await;
        let stream = stream.map_err(|error| ConnectFailure::Unreachable.at(endpoint).with_source(error))?;
        let name = if let Host::Tcp(name) = &endpoint.host { name } else { "" };
        let tls = MakeTlsConnect::<ObservedStream>::make_tls_connect(&mut connector.clone(), name)
            .map_err(|error| Error::new(ErrorKind::Config, format!("{endpoint}: TLS")).with_source(error))?;
        let connected = settings.connect_raw(stream, tls).await;
        let (client, connection) = connected.map_err(|error| Failure::from(error).into_error(endpoint))?;
        let mut driver = ConnectionDriver::new(connection);
        match driver.drive(self.unusable(&client)).await.map_err(|failure| failure.into_error(endpoint))? {
            None => Ok(PgConnection { client, driver }),
            Some((kind, reason)) => Err(Error::new(kind, format!("{endpoint}: {reason}"))),
        }
    }

    async fn connect(&self, endpoint: &Endpoint, pulse: &Arc<Pulse>) -> io::Result<ObservedStream> {
        let port = endpoint.port;
        let stream = match (endpoint.address, &endpoint.host) {
            (Some(address), _) => TcpStream::connect((address, port)).await?,
            (None, Host::Tcp(name)) => TcpStream::connect((&**name, port)).await?,
            #[cfg(unix)]
            (None, Host::Unix(folder)) => {
                let stream = UnixStream::connect(folder.join(format!(".s.PGSQL.{port}"))).await?;
                return Ok(ObservedStream::new(stream, pulse));
            }
        };
        stream.set_nodelay(true)?;
        self.set_options(&SockRef::from(&stream))?;
        Ok(ObservedStream::new(stream, pulse))
    }

    fn set_options(&self, socket: &SockRef<'_>) -> io::Result<()> {
        let settings = &self.settings;
        if settings.get_keepalives() {
            let mut keepalive = TcpKeepalive::new().with_time(settings.get_keepalives_idle());
            if let Some(interval) = settings.get_keepalives_interval() {
                keepalive = keepalive.with_interval(interval);
            }
            if let Some(retries) = settings.get_keepalives_retries() {
                keepalive = keepalive.with_retries(retries);
            }
            socket.set_tcp_keepalive(&keepalive)?;
        }
        #[cfg(target_os = "linux")]
        {
            /// Large messages are handed over in parts, so that their progress is seen.
            const MAX_UNSENT_BYTES: u32 = 128 << 10;
            socket.set_tcp_notsent_lowat(MAX_UNSENT_BYTES)?;
            socket.set_tcp_user_timeout(settings.get_tcp_user_timeout().copied())?;
        }
        Ok(())
    }

    async fn settings_for(&self, endpoint: &Endpoint) -> Result<tokio_postgres::Config> {
        let mut settings = self.settings.clone();
        if let Some(provider) = &self.provider {
            let login = provider.ask(self.connect_timeout).await?;
            settings.password(login.password);
            if let Some(user) = login.user {
                settings.user(user);
            }
        }
        settings.ssl_mode(match (self.tls.mode, &endpoint.host) {
            (SslMode::Disable, _) => WireSslMode::Disable,
            // As in libpq: there is no TLS on a socket of the machine itself.
            #[cfg(unix)]
            (_, Host::Unix(_)) => WireSslMode::Disable,
            (SslMode::Prefer, _) => WireSslMode::Prefer,
            (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull, _) => WireSslMode::Require,
        });
        Ok(settings)
    }

    /// Why the server cannot be used.
    async fn unusable(&self, client: &Client) -> Result<Option<(ErrorKind, String)>, tokio_postgres::Error> {
        /// The first major version with `MATERIALIZED`.
        const OLDEST: u32 = 12;
        let settings = "SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), current_setting('server_version_num')";
        let answers = client.simple_query(settings).await?;
        let row = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let column = |column| row.and_then(|row| row.get(column));
        let version = column(2).and_then(|version| version.parse::<u32>().ok()).map(|version| version / 10_000);
        let because = |kind, reason: &str| Ok(Some((kind, reason.to_owned())));
        match version {
            Some(version) if version < OLDEST => {
                because(ErrorKind::Unsupported, &format!("PostgreSQL {version}: this crate needs {OLDEST} or newer"))
            }
            _ if column(0) == Some("t") => {
                because(ErrorKind::Disconnected, "it is a standby, where neither LISTEN nor NOTIFY works")
            }
            _ if self.read_write && column(1) == Some("on") => because(ErrorKind::Disconnected, "it is read-only"),
            _ => Ok(None),
        }
    }
}

/// The hosts of the address, or else of the parameters `host`, `hostaddr` and `port`.
fn endpoints(given: &tokio_postgres::Config, params: &mut Params) -> Result<Vec<Endpoint>> {
    let names = list::<String>(params, "host")?;
    let addresses = list::<IpAddr>(params, "hostaddr")?;
    let mut ports = list::<u16>(params, "port")?;
    let mut hosts = given.get_hosts().to_vec();
    if ports.is_empty() {
        ports = given.get_ports().to_vec();
    }
    if !names.is_empty() && !hosts.is_empty() {
        return Err(refused("hosts are given twice, before the ? and by the parameter host"));
    }
    hosts.extend(names.iter().map(|name| host(name)));
    if hosts.is_empty() {
        hosts = addresses.iter().map(|address| Host::Tcp(address.to_string())).collect();
    }
    if hosts.is_empty() {
        hosts.push(Host::Tcp("localhost".into()));
    }
    if ports.len() <= 1 {
        ports = vec![ports.first().copied().unwrap_or(5432); hosts.len()];
    }
    if ports.len() != hosts.len() || !(addresses.is_empty() || addresses.len() == hosts.len()) {
        let context =
            format!("{} hosts, {} addresses and {} ports do not fit", hosts.len(), addresses.len(), ports.len());
        return Err(refused(context));
    }
    let addresses = addresses.into_iter().map(Some).chain(std::iter::repeat(None));
    let endpoints = hosts.into_iter().zip(addresses).zip(ports);
    Ok(endpoints.map(|((host, address), port)| Endpoint { host, address, port }).collect())
}

fn host(name: &str) -> Host {
    #[cfg(unix)]
    if name.starts_with('/') {
        return Host::Unix(PathBuf::from(name));
    }
    Host::Tcp(name.to_owned())
}

fn list<T: FromStr>(params: &mut Params, name: &'static str) -> Result<Vec<T>> {
    let text = params.take::<String>(name)?.unwrap_or_default();
    let parts = text.split(',').filter(|part| !part.is_empty());
    parts.map(|part| part.parse().map_err(|_| refused(format!("parameter {name:?} has {part:?} in it")))).collect()
}

/// Whether the server must allow writes. Standbys never do: they cannot notify.
fn must_be_writable(params: &mut Params) -> Result<bool> {
    let words = [("any", false), ("primary", false), ("read-write", true)];
    Ok(params.take_word("target_session_attrs", &words)?.unwrap_or(false))
}

/// All failures in one error, of the first one's kind.
fn summary(failures: Vec<Error>) -> Error {
    let kind = failures.first().map_or(ErrorKind::Disconnected, Error::kind);
    let texts: Vec<_> = failures.iter().map(ToString::to_string).collect();
    match <[Error; 1]>::try_from(failures) {
        Ok([only]) => only,
        Err(_) => Error::new(kind, format!("no host can be used: {}", texts.join("; "))),
    }
}

fn refused(context: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, context)
}

/// A time that is in seconds if it has no unit, as in libpq.
struct Seconds(Duration);

impl ParamValue for Seconds {
    const EXPECTED: &'static str = "seconds, or a time such as 500ms, 10s, 2m or 1h";

    fn parse(text: &str) -> Option<Self> {
        text.parse().map(Duration::from_secs).ok().or_else(|| Duration::parse(text)).map(Self)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(name) => write!(f, "{name}:{}", self.port),
            #[cfg(unix)]
            Host::Unix(folder) => write!(f, "{}/.s.PGSQL.{}", folder.display(), self.port),
        }
    }
}

impl fmt::Debug for ServerConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("endpoints", &self.endpoints)
            .field("user", &self.settings.get_user())
            .field("database", &self.settings.get_dbname())
            .field("sslmode", &self.tls.mode)
            .finish_non_exhaustive()
    }
}
