//! MongoDB: a replica set with one member.

mod command;

use std::{
    ops::Deref,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::sync::OnceCell;

use crate::{
    broker::{Broker, probe},
    certificates::{Certificates, ClientCertificate},
    error::{Error, Result},
    mongodb::command::{Connection, Value, has_true},
    port::Port,
    process::{Process, Recipe, folder},
    program::find,
};

const INSTALL: &str =
    "run `sh integration-tests/run.sh --only mongodb`, which fetches it into the cache folder of the user";

/// A private MongoDB server: a replica set named `rs0` with one member, so that it has change streams and sessions.
#[derive(Debug)]
pub struct MongoDb {
    broker: Broker,
    certificates: Option<Certificates>,
}

impl MongoDb {
    /// Starts a server without authentication.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Returns options, to start a server with authentication, TLS or more.
    #[must_use]
    pub fn options() -> MongoDbOptions {
        MongoDbOptions::default()
    }

    /// URL of a server that the tests of this process share: `TRUNKLINE_MONGODB_URL`, or a private one that is started
    /// once. For tests that use a database of their own and need no control over the server.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn shared() -> Result<String> {
        static SHARED: OnceCell<MongoDb> = OnceCell::const_new();
        if let Ok(url) = std::env::var("TRUNKLINE_MONGODB_URL") {
            return Ok(url);
        }
        Ok(SHARED.get_or_try_init(Self::start).await?.url().to_owned())
    }

    /// Certificates, if it serves TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }
}

impl Deref for MongoDb {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Options of a private MongoDB server.
#[derive(Clone, Debug, Default)]
pub struct MongoDbOptions {
    user: Option<(String, String)>,
    tls: Option<ClientCertificate>,
    arguments: Vec<String>,
    standalone: bool,
}

impl MongoDbOptions {
    /// Serves only this user, with the role `root`.
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Serves only TLS, with certificates of a private authority.
    #[must_use]
    pub fn tls(mut self, client: ClientCertificate) -> Self {
        self.tls = Some(client);
        self
    }

    /// Adds arguments of `mongod`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Starts no replica set: the server has neither change streams nor sessions.
    #[must_use]
    pub fn standalone(mut self) -> Self {
        self.standalone = true;
        self
    }

    /// Starts the server, and returns when it is the primary of its set.
    ///
    /// # Errors
    /// If a program is missing or the server does not get ready.
    pub async fn start(self) -> Result<MongoDb> {
        let server = program()?;
        let port = Port::reserve()?;
        let folder = folder("mongodb", port.number())?;
        let recipe = self.recipe(server, port.number(), &folder);
        let process = Process::new(format!("mongod on port {}", port.number()), recipe, folder.clone())?;
        let certificates = match self.tls {
            Some(_) => Some(Certificates::generate(&folder).await?),
            None => None,
        };
        if self.user.is_some() {
            write_key(&folder.join("key"))?;
        }
        let url = self.url(port.number());
        let setup = (self, port.number(), certificates.clone());
        let ready = probe(setup, |(options, port, tls)| async move { options.ready(port, tls.as_ref()).await });
        let broker = Broker::start(process, ready, url, port).await?;
        Ok(MongoDb { broker, certificates })
    }

    fn recipe(&self, server: PathBuf, port: u16, folder: &Path) -> Recipe {
        let mut recipe = Recipe::new(server)
            .args(["--port", &port.to_string(), "--bind_ip", "127.0.0.1", "--nounixsocket", "--dbpath"])
            .args([folder])
            .args(["--oplogSize", "50", "--wiredTigerCacheSizeGB", "0.25"])
            .args(["--setParameter", "diagnosticDataCollectionEnabled=false"])
            // Otherwise the journal takes 300 MB in advance.
            .args(["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=2MB)"]);
        if !self.standalone {
            recipe = recipe.args(["--replSet", "rs0"]);
        }
        if self.user.is_some() {
            recipe = recipe.args(["--keyFile".as_ref(), folder.join("key").as_os_str()]);
        }
        if let Some(client) = self.tls {
            recipe = recipe.args(["--tlsMode", "requireTLS", "--tlsCertificateKeyFile"]).args([
                "server.pem",
                "--tlsCAFile",
                "ca.crt",
            ]);
            if client == ClientCertificate::Ignored {
                recipe = recipe.args(["--tlsAllowConnectionsWithoutCertificates"]);
            }
        }
        recipe.args(&self.arguments)
    }

    /// Creates the replica set and the user on the first start; later only checks for the primary.
    async fn ready(&self, port: u16, tls: Option<&Certificates>) -> Result<()> {
        let mut server = Connection::open(port, tls).await?;
        let hello = server.run("hello", Value::Int(1), &[]).await?;
        if !has_true(&hello, "isWritablePrimary") {
            // Refused, without harm, while a set that exists is still coming up.
            server.run("replSetInitiate", self.set(port), &[]).await?;
            return Err(Error::Failed { command: "hello".into(), output: "not primary yet".into() });
        }
        if let Some((name, password)) = &self.user {
            let role = Value::document([("role", Value::text("root")), ("db", Value::text("admin"))]);
            let fields = [("pwd", Value::text(password)), ("roles", Value::array([role]))];
            // Allowed without a user as long as there is none; afterwards it is refused.
            server.run("createUser", Value::text(name), &fields).await?;
        }
        Ok(())
    }

    fn set(&self, port: u16) -> Value {
        let member = Value::document([("_id", Value::Int(0)), ("host", Value::text(&self.address(port)))]);
        let settings = Value::document([("electionTimeoutMillis", Value::Int(1_000))]);
        Value::document([("_id", Value::text("rs0")), ("members", Value::array([member])), ("settings", settings)])
    }

    /// Host and port as clients use them: the name in the server's certificate, if there is one.
    fn address(&self, port: u16) -> String {
        let host = if self.tls.is_some() { "localhost" } else { "127.0.0.1" };
        format!("{host}:{port}")
    }

    fn url(&self, port: u16) -> String {
        let credentials = self.user.as_ref().map_or_else(String::new, |(name, password)| format!("{name}:{password}@"));
        let tls = if self.tls.is_some() { "&tls=true" } else { "" };
        let set = if self.standalone { "" } else { "replicaSet=rs0" };
        format!("mongodb://{credentials}{}/?{set}{tls}", self.address(port))
    }
}

/// Path of mongod: `$TRUNKLINE_MONGOD`, the one in the user's cache folder, or one in `$PATH`.
fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TRUNKLINE_MONGOD") {
        return Ok(path.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cached = cache.or(home).unwrap_or_default().join("trunkline");
    find("mongod", &[&cached.to_string_lossy()], INSTALL)
}

/// Writes the key file that members of a set share; mongod refuses it if other users can read it.
fn write_key(path: &Path) -> Result<()> {
    std::fs::write(path, "dHJ1bmtsaW5lLXRlc3Qta2V5\n").map_err(Error::io(format!("write {}", path.display())))?;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).map_err(Error::io(format!("protect {}", path.display())))
}
