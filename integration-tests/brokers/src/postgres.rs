//! PostgreSQL: one server.

use std::{
    ffi::OsStr,
    fs,
    ops::Deref,
    os::unix::fs::chown,
    path::{Path, PathBuf},
};

use rustix::process::Signal;
use tokio::{process::Command, sync::OnceCell};

use crate::{
    broker::{Broker, probe},
    certificates::Certificates,
    error::{Error, Result},
    guard::Guard,
    port::Port,
    process::{self, Process, Recipe, folder},
    program::{find, run},
};

const INSTALL: &str = "apt-get install postgresql";

/// Folders of the programs on Debian and Ubuntu, newest version first.
const FOLDERS: [&str; 5] = [
    "/usr/lib/postgresql/18/bin",
    "/usr/lib/postgresql/17/bin",
    "/usr/lib/postgresql/16/bin",
    "/usr/lib/postgresql/15/bin",
    "/usr/lib/postgresql/14/bin",
];

/// A private PostgreSQL server. Committed rows survive [`Broker::kill`].
#[derive(Debug)]
pub struct Postgres {
    broker: Broker,
    psql: PathBuf,
    certificates: Option<Certificates>,
}

impl Postgres {
    /// Starts a server without authentication.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn start() -> Result<Self> {
        Self::options().start().await
    }

    /// Returns options, to start a server with authentication, TLS or more.
    #[must_use]
    pub fn options() -> PostgresOptions {
        PostgresOptions::default()
    }

    /// URL of a server that the tests of this process share: `TRUNKLINE_POSTGRES_URL`, or a private one that is started
    /// once. For tests that use tables and channels of their own and need no control over the server.
    ///
    /// # Errors
    /// If it cannot be started.
    pub async fn shared() -> Result<String> {
        static SHARED: OnceCell<Postgres> = OnceCell::const_new();
        if let Ok(url) = std::env::var("TRUNKLINE_POSTGRES_URL") {
            return Ok(url);
        }
        Ok(SHARED.get_or_try_init(Self::start).await?.url().to_owned())
    }

    /// Runs statements with `psql` as the user of the URL and returns the rows, columns separated by `|`.
    ///
    /// # Errors
    /// If the server answers with an error.
    pub async fn sql(&self, statements: &str) -> Result<String> {
        let mut command = Command::new(&self.psql);
        command.args(["-X", "-q", "-At", "-v", "ON_ERROR_STOP=1", "-c", statements, "-d", self.url()]);
        if let Some(tls) = &self.certificates {
            command.env("PGSSLMODE", "verify-full").env("PGSSLROOTCERT", tls.authority());
        }
        run(&mut command).await
    }

    /// Certificates, if it serves TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }
}

impl Deref for Postgres {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// Options of a private PostgreSQL server.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    user: Option<(String, String)>,
    tls: bool,
    arguments: Vec<String>,
}

impl PostgresOptions {
    /// Sets the superuser's name and password (SCRAM-SHA-256).
    #[must_use]
    pub fn user(mut self, name: &str, password: &str) -> Self {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Serves only TLS over TCP, with certificates of a private authority.
    #[must_use]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Adds arguments of `postgres`, for example `["-c", "max_connections=20"]`.
    #[must_use]
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Creates the database, starts the server, and returns when it serves.
    ///
    /// # Errors
    /// If a program is missing or the server does not get ready.
    pub async fn start(self) -> Result<Postgres> {
        let server = find("postgres", &FOLDERS, INSTALL)?;
        let psql = find("psql", &FOLDERS, INSTALL)?;
        let is_ready = find("pg_isready", &FOLDERS, INSTALL)?;
        let owner = owner().await?;
        let port = Port::reserve()?;
        let folder = folder("postgres", port.number())?;
        let process_name = format!("postgres on port {}", port.number());
        let recipe = self.recipe(server, port.number(), &folder, owner);
        // From here on the folder is removed in the end, whatever happens.
        let process = Process::new(process_name, recipe, folder.clone())?;
        give(&folder, owner)?;
        let certificates = self.prepare(&folder, owner).await?;
        let ready = probe((is_ready, port.number(), self.name().to_owned()), |(program, port, user)| async move {
            let mut command = Command::new(program);
            run(command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string(), "-U", &user])).await.map(drop)
        });
        let broker = Broker::start(process, ready, self.url(port.number()), port).await?;
        Ok(Postgres { broker, psql, certificates })
    }

    fn name(&self) -> &str {
        self.user.as_ref().map_or("postgres", |(name, _)| name)
    }

    fn recipe(&self, server: PathBuf, port: u16, folder: &Path, owner: Option<(u32, u32)>) -> Recipe {
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            // Enough to keep what is committed when the process crashes, as long as the machine does not.
            "fsync=off".into(),
            "full_page_writes=off".into(),
            "shared_buffers=16MB".into(),
            "max_connections=200".into(),
        ];
        let mut recipe = Recipe::new(server)
            .args(["-D".as_ref(), folder.join("data").as_os_str()])
            .args(["-p", &port.to_string()])
            .args(settings.iter().flat_map(|setting| ["-c", setting]));
        if self.tls {
            for (name, file) in
                [("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key"), ("ssl_ca_file", "ca.crt")]
            {
                recipe = recipe.args(["-c".to_owned(), format!("{name}={}", folder.join(file).display())]);
            }
            recipe = recipe.args(["-c", "ssl=on"]);
        }
        recipe.user = owner;
        // SIGTERM would wait for the clients to leave.
        recipe.stop_signal = Some(Signal::INT);
        recipe.args(&self.arguments)
    }

    async fn prepare(&self, folder: &Path, owner: Option<(u32, u32)>) -> Result<Option<Certificates>> {
        match &self.user {
            None => copy_template(folder, owner).await?,
            Some((name, password)) => {
                let file = folder.join("password");
                write(&file, password)?;
                give(&file, owner)?;
                let secret = ["-A".as_ref(), "scram-sha-256".as_ref(), "--pwfile".as_ref(), file.as_os_str()];
                initialize(folder, name, secret, owner).await?;
            }
        }
        if !self.tls {
            return Ok(None);
        }
        let certificates = Certificates::generate(folder).await?;
        give(&certificates.server_key(), owner)?;
        let method = if self.user.is_some() { "scram-sha-256" } else { "trust" };
        write(&folder.join("data/pg_hba.conf"), &format!("hostssl all all 127.0.0.1/32 {method}\n"))?;
        Ok(Some(certificates))
    }

    fn url(&self, port: u16) -> String {
        let host = if self.tls { "localhost" } else { "127.0.0.1" };
        match &self.user {
            None => format!("postgres://postgres@{host}:{port}/postgres"),
            Some((name, password)) => format!("postgres://{name}:{password}@{host}:{port}/postgres"),
        }
    }
}

/// Creates an empty database cluster.
async fn initialize<const N: usize>(
    folder: &Path,
    user: &str,
    arguments: [&OsStr; N],
    owner: Option<(u32, u32)>,
) -> Result<()> {
    let mut command = Command::new(find("initdb", &FOLDERS, INSTALL)?);
    command.arg("-D").arg(folder.join("data")).args(["-U", user, "-E", "UTF8", "--locale=C", "--no-sync"]);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    run(command.args(arguments).current_dir(folder)).await.map(drop)
}

/// Path of an empty database cluster without authentication. Creating one takes a second, copying it a tenth of that:
/// it is created once per process.
async fn copy_template(folder: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    // The guard removes it in the end.
    static TEMPLATE: OnceCell<(PathBuf, Guard)> = OnceCell::const_new();
    let make = || async {
        let folder = process::folder("postgres-template", std::process::id())?;
        let guard = Guard::start(&folder)?;
        give(&folder, owner)?;
        initialize(&folder, "postgres", ["-A".as_ref(), "trust".as_ref()], owner).await?;
        Ok((folder, guard))
    };
    let (template, _) = TEMPLATE.get_or_try_init(make).await?;
    let mut copy = Command::new("cp");
    run(copy.arg("-a").arg(template.join("data")).arg(folder)).await.map(drop)
}

/// User that runs the programs: `postgres` refuses to run as root, and then runs as the user of its package.
async fn owner() -> Result<Option<(u32, u32)>> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    let id = async |flag| {
        let printed = run(Command::new("id").args([flag, "postgres"])).await?;
        printed.parse().map_err(|_| Error::Failed { command: "id".into(), output: printed })
    };
    Ok(Some((id("-u").await?, id("-g").await?)))
}

fn give(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    let Some((user, group)) = owner else { return Ok(()) };
    chown(path, Some(user), Some(group)).map_err(Error::io(format!("give away {}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::io(format!("write {}", path.display())))
}
