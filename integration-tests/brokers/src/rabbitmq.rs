//! RabbitMQ, with an epmd of its own.

use std::{
    ffi::OsString,
    fs,
    ops::Deref,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    sync::OnceCell,
};

use crate::{
    broker::{Broker, probe},
    certificates::Certificates,
    error::{Error, Result},
    port::Port,
    process::{Process, Recipe, folder},
    program::{find, run},
};

const INSTALL: &str = "apt-get install rabbitmq-server";

/// Folder of the programs themselves; those in `$PATH` are wrappers that change user and folder.
const FOLDER: &str = "/usr/lib/rabbitmq/bin";

/// A private RabbitMQ server. It takes about 5 s to start: one per test program is enough for most. Durable messages
/// survive [`Broker::kill`].
#[derive(Debug)]
pub struct RabbitMq {
    broker: Broker,
    certificates: Option<Certificates>,
    environment: Vec<(OsString, OsString)>,
    node: String,
    /// epmd, which ends after the server.
    _epmd: Broker,
    _ports: [Port; 2],
}

impl RabbitMq {
    /// Starts a server with the user `guest`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Returns options, to start a server with another user, TLS or more.
    #[must_use]
    pub fn options() -> RabbitMqOptions {
        RabbitMqOptions::default()
    }

    /// URL of a server that the tests of this process share: `TRUNKLINE_RABBITMQ_URL`, or a private one that is started
    /// once. For tests that use exchanges and queues of their own and need no control over the server.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn shared() -> Result<String> {
        static SHARED: OnceCell<RabbitMq> = OnceCell::const_new();
        if let Ok(url) = std::env::var("TRUNKLINE_RABBITMQ_URL") {
            return Ok(url);
        }
        Ok(SHARED.get_or_try_init(Self::start).await?.url().to_owned())
    }

    /// Runs `rabbitmqctl`, for example `["stop_app"]`, and returns its output. It takes half a second to boot its
    /// virtual machine.
    ///
    /// # Errors
    /// If the command fails.
    pub async fn ctl(&self, command: &[&str]) -> Result<String> {
        let mut ctl =
            Command::new(find("rabbitmqctl", &[FOLDER], INSTALL).map(|_| Path::new(FOLDER).join("rabbitmqctl"))?);
        ctl.env_clear().envs(self.environment.iter().map(|(name, value)| (name, value)));
        run(ctl.args(["-q", "-n", &self.node]).args(command).current_dir(self.folder())).await
    }

    /// Certificates, if it serves TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }
}

impl Deref for RabbitMq {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Options of a private RabbitMQ server.
#[derive(Clone, Debug, Default)]
pub struct RabbitMqOptions {
    user: Option<(String, String)>,
    tls: bool,
    settings: String,
}

impl RabbitMqOptions {
    /// Creates this administrator instead of `guest`.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Also serves TLS, with certificates of a private authority; the URL has the TLS port.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Adds lines to `rabbitmq.conf`.
    #[must_use]
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings.push_str(lines);
        self.settings.push('\n');
        self
    }

    /// Starts the server, and returns when it serves.
    ///
    /// # Errors
    /// If a program is missing or the server does not get ready.
    pub async fn start(self) -> Result<RabbitMq> {
        find("rabbitmq-server", &[FOLDER], INSTALL)?;
        let server = Path::new(FOLDER).join("rabbitmq-server");
        let port = Port::reserve()?;
        let (dist, tls) = (Port::reserve()?, Port::reserve()?);
        let epmd = start_epmd().await?;
        let node = format!("trunkline{}@localhost", port.number());
        let folder = folder("rabbitmq", port.number())?;
        let environment = environment(&folder, &node, port.number(), dist.number(), epmd.port());
        let recipe = Recipe { environment: environment.clone(), ..Recipe::new(server) };
        let process = Process::new(format!("rabbitmq-server on port {}", port.number()), recipe, folder.clone())?;
        let certificates = match self.tls {
            true => Some(Certificates::generate(&folder).await?),
            false => None,
        };
        self.write_files(&folder, tls.number())?;
        let url = self.url(port.number(), tls.number());
        let tls_port = self.tls.then_some(tls.number());
        let ready = probe(port.number(), move |port| async move {
            answers(port).await?;
            listens(tls_port).await
        });
        let broker = Broker::start(process, ready, url, port).await?;
        Ok(RabbitMq { broker, certificates, environment, node, _epmd: epmd, _ports: [dist, tls] })
    }

    fn write_files(&self, folder: &Path, tls_port: u16) -> Result<()> {
        let mut settings = self.settings.clone();
        if let Some((name, password)) = &self.user {
            settings += &format!("default_user = {name}\ndefault_pass = {password}\nloopback_users = none\n");
        }
        if self.tls {
            let at = folder.display();
            settings += &format!(
                "listeners.ssl.1 = 127.0.0.1:{tls_port}\nssl_options.cacertfile = {at}/ca.crt\nssl_options.certfile = {at}/server.crt\n\
                 ssl_options.keyfile = {at}/server.key\nssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n"
            );
        }
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(Error::io(format!("write {}", path.display()))).map(|()| path)
        };
        write("rabbitmq.conf", &settings)?;
        write("enabled_plugins", "[].\n")?;
        let cookie = write(".erlang.cookie", "trunkline")?;
        fs::set_permissions(&cookie, fs::Permissions::from_mode(0o400)).map_err(Error::io("protect the Erlang cookie"))
    }

    fn url(&self, port: u16, tls_port: u16) -> String {
        let (name, password) = match &self.user {
            Some((name, password)) => (name.as_str(), password.as_str()),
            None => ("guest", "guest"),
        };
        match self.tls {
            true => format!("amqps://{name}:{password}@localhost:{tls_port}"),
            false => format!("amqp://{name}:{password}@127.0.0.1:{port}"),
        }
    }
}

/// Starts a private epmd. Otherwise the server would start one that outlives it.
async fn start_epmd() -> Result<Broker> {
    let port = Port::reserve()?;
    let number = port.number();
    let recipe = Recipe::new(find("epmd", &[], "apt-get install erlang-base")?).args([
        "-port",
        &number.to_string(),
        "-address",
        "127.0.0.1",
    ]);
    let process = Process::new(format!("epmd on port {number}"), recipe, folder("epmd", number)?)?;
    let ready = probe(number, |port| async move {
        TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(Error::io("connect to epmd"))
    });
    Broker::start(process, ready, String::new(), port).await
}

/// Environment that confines a server to its own folder and ports.
fn environment(folder: &Path, node: &str, port: u16, dist: u16, epmd: u16) -> Vec<(OsString, OsString)> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut variables: Vec<(OsString, OsString)> = vec![("PATH".into(), path), ("HOME".into(), folder.into())];
    let below = |name: &str| -> PathBuf { folder.join(name) };
    for (name, value) in [
        ("RABBITMQ_MNESIA_BASE", below("mnesia")),
        ("RABBITMQ_LOG_BASE", below("logs")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", below("enabled_plugins")),
        ("RABBITMQ_CONFIG_FILE", below("rabbitmq.conf")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", below("advanced.config")),
    ] {
        variables.push((name.into(), value.into()));
    }
    for (name, value) in [
        ("LANG", "C.UTF-8"),
        ("ERL_EPMD_PORT", &epmd.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1"),
        ("RABBITMQ_CONF_ENV_FILE", "/dev/null"),
        ("RABBITMQ_NODENAME", node),
        ("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1"),
        ("RABBITMQ_NODE_PORT", &port.to_string()),
        ("RABBITMQ_DIST_PORT", &dist.to_string()),
        ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2"),
        // Makes the start script replace itself with the virtual machine, so that the process we kill is the server.
        ("RUNNING_UNDER_SYSTEMD", "true"),
    ] {
        variables.push((name.into(), value.into()));
    }
    variables
}

/// Checks all ports: the server opens one after the other.
async fn listens(tls_port: Option<u16>) -> Result<()> {
    let Some(port) = tls_port else { return Ok(()) };
    TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(Error::io("connect to RabbitMQ with TLS"))
}

/// Checks that the server answers the protocol header with Connection.Start.
async fn answers(port: u16) -> Result<()> {
    let ask = async {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        server.write_all(b"AMQP\x00\x00\x09\x01").await?;
        server.read_u8().await
    };
    ask.await.map(drop).map_err(Error::io("greet RabbitMQ"))
}
