//! Redis: one server. Cluster and Sentinel have files of their own.

mod cluster;
mod sentinel;

use std::{ops::Deref, path::PathBuf, sync::Arc};

use tokio::{process::Command, sync::OnceCell};

pub use crate::redis::{cluster::RedisCluster, sentinel::RedisSentinel};

use crate::{
    broker::{Broker, probe},
    certificates::{Certificates, ClientCertificate},
    error::{Error, Result},
    port::Port,
    process::{Process, Recipe, folder},
    program::{find, run},
};

const INSTALL: &str = "apt-get install redis-server redis-tools";

/// A private Redis server.
#[derive(Debug)]
pub struct Redis {
    broker: Broker,
    cli: Arc<Cli>,
    certificates: Option<Certificates>,
    socket: Option<PathBuf>,
}

impl Redis {
    /// Starts a server without password and persistence.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Returns options, to start a server with authentication, TLS or more.
    #[must_use]
    pub fn options() -> RedisOptions {
        RedisOptions::default()
    }

    /// URL of a server that the tests of this process share: `TRUNKLINE_REDIS_URL`, or a private one that is started
    /// once. For tests that use a prefix of their own and need no control over the server.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn shared() -> Result<String> {
        static SHARED: OnceCell<Redis> = OnceCell::const_new();
        if let Ok(url) = std::env::var("TRUNKLINE_REDIS_URL") {
            return Ok(url);
        }
        Ok(SHARED.get_or_try_init(Self::start).await?.url().to_owned())
    }

    /// Runs a command as the default user with `redis-cli`, and returns its output.
    ///
    /// # Errors
    /// If the server answers with an error.
    pub async fn cli(&self, command: &[&str]) -> Result<String> {
        self.cli.run(command).await
    }

    /// Certificates, if it serves TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Path of its unix socket, if it has one.
    #[must_use]
    pub fn socket(&self) -> Option<&PathBuf> {
        self.socket.as_ref()
    }
}

impl Deref for Redis {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Options of a private Redis server.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    password: Option<String>,
    user: Option<(String, String)>,
    tls: Option<ClientCertificate>,
    socket: bool,
    append_only: bool,
    arguments: Vec<String>,
}

impl RedisOptions {
    /// Sets a password of the default user.
    #[must_use]
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Adds a user with all rights; the URL has its name.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Serves TLS instead of plain TCP, with certificates of a private authority.
    #[must_use]
    pub fn tls(mut self, client: ClientCertificate) -> Self {
        self.tls = Some(client);
        self
    }

    /// Also listens on a unix socket, which the URL names.
    #[must_use]
    pub fn unix_socket(mut self) -> Self {
        self.socket = true;
        self
    }

    /// Syncs every write to disk before it is answered, so that it survives a crash.
    #[must_use]
    pub fn append_only(mut self) -> Self {
        self.append_only = true;
        self
    }

    /// Adds arguments of `redis-server`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Starts the server, and returns when it serves.
    ///
    /// # Errors
    /// If a program is missing or the server does not get ready.
    pub async fn start(self) -> Result<Redis> {
        self.start_on(Port::reserve()?).await
    }

    pub(crate) async fn start_on(self, port: Port) -> Result<Redis> {
        let server = server_program()?;
        let folder = folder("redis", port.number())?;
        let certificates = match self.tls {
            Some(_) => Some(Certificates::generate(&folder).await?),
            None => None,
        };
        let socket = self.socket.then(|| folder.join("redis.sock"));
        let cli = Arc::new(Cli::new(port.number(), self.password.clone(), certificates.clone())?);
        let url = self.url(port.number(), socket.as_ref());
        let recipe = self.recipe(server, port.number(), certificates.as_ref(), socket.as_ref());
        let process = Process::new(format!("redis-server on port {}", port.number()), recipe, folder)?;
        let ready = probe((Arc::clone(&cli), self.user), |(cli, user)| async move { cli.ready(user.as_ref()).await });
        let broker = Broker::start(process, ready, url, port).await?;
        Ok(Redis { broker, cli, certificates, socket })
    }

    fn recipe(&self, server: PathBuf, port: u16, tls: Option<&Certificates>, socket: Option<&PathBuf>) -> Recipe {
        let port = port.to_string();
        let kept = if self.append_only { "yes" } else { "no" };
        let mut recipe = Recipe::new(server)
            .args(["--bind", "127.0.0.1", "--save", "", "--loglevel", "warning"])
            .args(["--appendonly", kept, "--appendfsync", "always"]);
        recipe = match (tls, self.tls) {
            (Some(tls), Some(client)) => {
                let asked = if client == ClientCertificate::Required { "yes" } else { "no" };
                recipe
                    .args(["--port", "0", "--tls-port", &port, "--tls-auth-clients", asked])
                    .args(["--tls-cert-file".into(), tls.server(), "--tls-key-file".into(), tls.server_key()])
                    .args(["--tls-ca-cert-file".into(), tls.authority()])
            }
            _ => recipe.args(["--port", &port]),
        };
        if let Some(socket) = socket {
            recipe = recipe.args(["--unixsocket".as_ref(), socket.as_os_str()]);
        }
        if let Some(password) = &self.password {
            recipe = recipe.args(["--requirepass", password]);
        }
        recipe.args(&self.arguments)
    }

    fn url(&self, port: u16, socket: Option<&PathBuf>) -> String {
        let (name, password) = match (&self.user, &self.password) {
            (Some((name, password)), _) => (name.as_str(), password.as_str()),
            (None, Some(password)) => ("", password.as_str()),
            (None, None) => ("", ""),
        };
        let credentials = if password.is_empty() { String::new() } else { format!("{name}:{password}@") };
        match socket {
            Some(socket) if password.is_empty() => format!("redis+unix://{}", socket.display()),
            Some(socket) => format!("redis+unix://{}?user={name}&pass={password}", socket.display()),
            None if self.tls.is_some() => format!("rediss://{credentials}localhost:{port}"),
            None => format!("redis://{credentials}127.0.0.1:{port}"),
        }
    }
}

/// Name or path of the server: `$TRUNKLINE_REDIS_SERVER`, for another version or Valkey, or `redis-server`.
pub(crate) fn server_program() -> Result<PathBuf> {
    let name = std::env::var("TRUNKLINE_REDIS_SERVER");
    find(name.as_deref().unwrap_or("redis-server"), &[], INSTALL)
}

/// Arguments of `redis-cli` to reach one server of any version.
#[derive(Debug)]
pub(crate) struct Cli {
    program: PathBuf,
    port: u16,
    password: Option<String>,
    certificates: Option<Certificates>,
}

impl Cli {
    pub(crate) fn new(port: u16, password: Option<String>, certificates: Option<Certificates>) -> Result<Self> {
        Ok(Self { program: find("redis-cli", &[], INSTALL)?, port, password, certificates })
    }

    /// Runs a command. `redis-cli` exits with 0 even if the server answers with an error; `-e` changes that.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.args(["-e", "-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        if let Some(tls) = &self.certificates {
            command.arg("--tls").arg("--cacert").arg(tls.authority());
            command.arg("--cert").arg(tls.client()).arg("--key").arg(tls.client_key());
        }
        run(command.args(arguments)).await
    }

    async fn ready(&self, user: Option<&(String, String)>) -> Result<()> {
        let answer = self.run(&["PING"]).await?;
        if answer != "PONG" {
            return Err(Error::Failed { command: "redis-cli PING".into(), output: answer });
        }
        if let Some((name, password)) = user {
            self.run(&["ACL", "SETUSER", name, "on", &format!(">{password}"), "~*", "&*", "+@all"]).await?;
        }
        Ok(())
    }
}
