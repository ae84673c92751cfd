//! NATS: one server, or a cluster of three.

use std::{ops::Deref, path::Path};

use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::OnceCell,
};

use crate::{
    broker::{Broker, probe, wait_until},
    certificates::{Certificates, ClientCertificate},
    error::{Error, Result},
    port::Port,
    process::{Process, Recipe, folder},
    program::find,
};

const INSTALL: &str = "apt-get install nats-server";

/// Files in the folder of a server.
const CONFIGURATION: &str = "nats.conf";
const STORE: &str = "jetstream";

/// A private NATS server with JetStream, whose messages survive [`Broker::kill`].
#[derive(Debug)]
pub struct Nats {
    broker: Broker,
    certificates: Option<Certificates>,
    monitor: Option<Port>,
}

impl Nats {
    /// Starts a server without authentication.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Returns options, to start a server with authentication, TLS or more.
    #[must_use]
    pub fn options() -> NatsOptions {
        NatsOptions::default()
    }

    /// URL of a server that the tests of this process share: `TRUNKLINE_NATS_URL`, or a private one that is started
    /// once. For tests that use subjects and streams of their own and need no control over the server.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn shared() -> Result<String> {
        static SHARED: OnceCell<Nats> = OnceCell::const_new();
        if let Ok(url) = std::env::var("TRUNKLINE_NATS_URL") {
            return Ok(url);
        }
        Ok(SHARED.get_or_try_init(Self::start).await?.url().to_owned())
    }

    /// Certificates, if it serves TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// Puts the server into lame duck mode: it asks its clients to reconnect elsewhere, and shuts down.
    ///
    /// # Errors
    /// If it is down.
    pub fn lame_duck(&self) -> Result<()> {
        self.broker.signal(Signal::USR2)
    }

    /// Replaces the lines that [`NatsOptions::configuration`] gave, and has the server read them. Not for one with TLS.
    ///
    /// # Errors
    /// If it is down, or the file cannot be written.
    pub fn reconfigure(&self, lines: &str) -> Result<()> {
        write_configuration(self.broker.folder(), lines)?;
        self.broker.signal(Signal::HUP)
    }

    /// Fetches a page of its monitoring port, for example `/connz`.
    ///
    /// # Errors
    /// If it was not started with [`NatsOptions::monitored`], or does not answer.
    pub async fn page(&self, path: &str) -> Result<String> {
        let command = format!("nats-server {path}");
        let Some(monitor) = &self.monitor else {
            return Err(Error::Failed { command, output: "it has no monitoring port".into() });
        };
        let mut page = String::new();
        let ask = async {
            let mut server = TcpStream::connect(("127.0.0.1", monitor.number())).await?;
            server.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
            server.read_to_string(&mut page).await
        };
        ask.await.map_err(Error::io(format!("ask {command}")))?;
        Ok(page.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or(page))
    }

    /// Searches a page for a JSON field, with or without a space behind its colon.
    async fn expect(&self, path: &str, text: &str) -> Result<()> {
        let page = self.page(path).await?;
        if page.contains(text) || page.contains(&text.replace("\": ", "\":")) {
            return Ok(());
        }
        Err(Error::Failed { command: format!("nats-server {path}"), output: format!("{text} is not in {page}") })
    }
}

impl Deref for Nats {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Options of a private NATS server.
#[derive(Clone, Debug, Default)]
pub struct NatsOptions {
    user: Option<(String, String)>,
    token: Option<String>,
    tls: Option<ClientCertificate>,
    arguments: Vec<String>,
    configuration: Option<String>,
    monitored: bool,
}

impl NatsOptions {
    /// Serves only this user.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Serves only clients with this token; the URL contains it.
    #[must_use]
    pub fn token(mut self, token: &str) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Serves only TLS, with certificates of a private authority.
    #[must_use]
    pub fn tls(mut self, client: ClientCertificate) -> Self {
        self.tls = Some(client);
        self
    }

    /// Adds arguments of `nats-server`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Adds lines to its configuration file.
    #[must_use]
    pub fn configuration(mut self, lines: &str) -> Self {
        self.configuration = Some(lines.into());
        self
    }

    /// Opens a monitoring port, see [`Nats::page`].
    #[must_use]
    pub fn monitored(mut self) -> Self {
        self.monitored = true;
        self
    }

    /// Starts the server, and returns when it serves.
    ///
    /// # Errors
    /// If the program is missing or the server does not get ready.
    pub async fn start(self) -> Result<Nats> {
        self.start_on(Port::reserve()?).await
    }

    async fn start_on(self, port: Port) -> Result<Nats> {
        let server = find("nats-server", &["/usr/sbin"], INSTALL)?;
        let folder = folder("nats", port.number())?;
        let monitor = self.monitored.then(Port::reserve).transpose()?;
        let mut recipe = self.recipe(Recipe::new(server), port.number());
        if let Some(monitor) = &monitor {
            recipe = recipe.args(["-m", &monitor.number().to_string()]);
        }
        // Without a store folder all servers of a machine would share one.
        let store = folder.join(STORE);
        match self.lines() {
            Some(lines) => {
                write_configuration(&folder, &lines)?;
                recipe = recipe.args(["-c".as_ref(), folder.join(CONFIGURATION).as_os_str()]);
            }
            None => recipe = recipe.args(["-js".as_ref(), "-sd".as_ref(), store.as_os_str()]),
        }
        let process = Process::new(format!("nats-server on port {}", port.number()), recipe, folder.clone())?;
        let certificates = match self.tls {
            Some(_) => Some(Certificates::generate(&folder).await?),
            None => None,
        };
        let url = self.url(port.number());
        let broker = Broker::start(process, probe(port.number(), greets), url, port).await?;
        Ok(Nats { broker, certificates, monitor })
    }

    fn recipe(&self, recipe: Recipe, port: u16) -> Recipe {
        let mut recipe = recipe.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        if let Some((name, password)) = &self.user {
            recipe = recipe.args(["--user", name, "--pass", password]);
        }
        if let Some(token) = &self.token {
            recipe = recipe.args(["--auth", token]);
        }
        recipe.args(&self.arguments)
    }

    /// Lines of the configuration file. The default timeouts of a handshake are shorter than a busy machine may need.
    fn lines(&self) -> Option<String> {
        let lines = self.configuration.clone().unwrap_or_default();
        let client = match self.tls {
            Some(ClientCertificate::Required) => "verify: true, ca_file: ca.crt, ",
            Some(_) => "",
            None => return self.configuration.clone(),
        };
        let tls = format!("tls {{ cert_file: server.crt, key_file: server.key, {client}timeout: 30 }}");
        Some(format!("{tls}\nauthorization {{ timeout: 60 }}\n{lines}"))
    }

    fn url(&self, port: u16) -> String {
        let credentials = match (&self.user, &self.token) {
            (Some((name, password)), _) => format!("{name}:{password}@"),
            (None, Some(token)) => format!("{token}@"),
            (None, None) => String::new(),
        };
        match self.tls {
            Some(_) => format!("tls://{credentials}localhost:{port}"),
            None => format!("nats://{credentials}127.0.0.1:{port}"),
        }
    }
}

/// Writes the configuration file, with JetStream in it: a server that is to read it anew switches off what stands on the
/// command line only.
fn write_configuration(folder: &Path, lines: &str) -> Result<()> {
    let (path, store) = (folder.join(CONFIGURATION), folder.join(STORE));
    let lines = format!("jetstream {{ store_dir: {:?} }}\n{lines}", store.display().to_string());
    std::fs::write(&path, lines).map_err(Error::io(format!("write {}", path.display())))
}

/// Checks that the server sends its INFO, which it does first, with or without TLS.
async fn greets(port: u16) -> Result<()> {
    let mut greeting = [0; 5];
    let read = async {
        let mut server = TcpStream::connect(("127.0.0.1", port)).await?;
        server.read_exact(&mut greeting).await
    };
    read.await.map_err(Error::io("read from nats-server"))?;
    if &greeting == b"INFO " {
        return Ok(());
    }
    Err(Error::Failed { command: "nats-server".into(), output: format!("greets with {}", greeting.escape_ascii()) })
}

/// A cluster of three NATS servers with JetStream.
#[derive(Debug)]
pub struct NatsCluster {
    nodes: Vec<Nats>,
    /// Cluster ports, reserved as long as the cluster lives.
    _routes: Vec<Port>,
}

impl NatsCluster {
    /// Starts the servers, and returns when they have connected to each other and JetStream has a leader.
    ///
    /// # Errors
    /// If they cannot be started.
    pub async fn start() -> Result<Self> {
        let routes = (0..3).map(|_| Port::reserve()).collect::<Result<Vec<_>>>()?;
        let peers =
            routes.iter().map(|port| format!("nats://127.0.0.1:{}", port.number())).collect::<Vec<_>>().join(",");
        let mut nodes = Vec::new();
        for (index, route) in routes.iter().enumerate() {
            let options = Nats::options()
                .monitored()
                .arguments(&["-n", &format!("n{index}"), "--cluster_name", "trunkline"])
                .arguments(&["--cluster", &format!("nats://127.0.0.1:{}", route.number()), "--routes", &peers]);
            nodes.push(options.start().await?);
        }
        let cluster = Self { nodes, _routes: routes };
        cluster.ready().await?;
        Ok(cluster)
    }

    /// URLs of all servers, separated by commas.
    #[must_use]
    pub fn url(&self) -> String {
        self.nodes.iter().map(|node| node.url()).collect::<Vec<_>>().join(",")
    }

    /// The servers, to be killed and restarted one by one.
    #[must_use]
    pub fn nodes(&self) -> &[Nats] {
        &self.nodes
    }

    /// Returns when every server runs and is connected to both others, and JetStream has a leader.
    ///
    /// # Errors
    /// If that takes too long.
    pub async fn ready(&self) -> Result<()> {
        for node in &self.nodes {
            wait_until("the NATS cluster", move || async move {
                node.expect("/routez", "\"num_routes\": 2").await?;
                node.expect("/healthz", "\"ok\"").await?;
                node.expect("/jsz", "\"leader\": \"").await
            })
            .await?;
        }
        Ok(())
    }
}
