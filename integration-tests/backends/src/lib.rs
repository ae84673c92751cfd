//! The five brokers side by side, for tests of what must be the same on every backend.

use std::{path::PathBuf, time::Duration};

use tokio::try_join;
use trunkline::{
    Backend, Health,
    core::memory::{self, MemoryConfig},
};
use trunkline_brokers::{Broker, ClientCertificate, MongoDb, Nats, Postgres, RabbitMq, Redis, Result};
use trunkline_conformance::{
    Setup,
    kit::{TestCluster, TestNode, eventually},
};

/// One backend: how its URLs look, and which of its parameters mean what.
#[derive(Clone, Copy, Debug)]
pub struct Dialect {
    /// Name of the backend.
    pub name: &'static str,
    scheme: &'static str,
    tls_scheme: &'static str,
    plain_query: &'static str,
    tls_query: &'static str,
    /// Parameter for the file with the authorities to trust.
    pub authorities: &'static str,
    /// Parameters with which an attempt to connect ends after a second.
    pub short: &'static str,
    /// A parameter that is nearly right, and the right one.
    pub near_miss: (&'static str, &'static str),
    /// A parameter that takes a time.
    pub time: &'static str,
    /// Path of a virtual host or database that does not exist; `None` where there is no such thing.
    pub nowhere: Option<&'static str>,
}

/// The backends over a broker.
pub const DIALECTS: [Dialect; 5] = [
    Dialect {
        name: "redis",
        scheme: "redis",
        tls_scheme: "rediss",
        plain_query: "",
        tls_query: "",
        authorities: "tls_ca",
        short: "connect_timeout=1s",
        near_miss: ("perfix", "prefix"),
        time: "connect_timeout",
        nowhere: Some("/9999"),
    },
    Dialect {
        name: "nats",
        scheme: "nats",
        tls_scheme: "tls",
        plain_query: "",
        tls_query: "",
        authorities: "tls_ca",
        short: "connect_timeout=1s",
        near_miss: ("histroy", "history"),
        time: "connect_timeout",
        nowhere: None,
    },
    Dialect {
        name: "rabbitmq",
        scheme: "amqp",
        tls_scheme: "amqps",
        plain_query: "",
        tls_query: "",
        authorities: "tls_ca",
        short: "connect_timeout=1s",
        near_miss: ("prefetsh", "prefetch"),
        time: "connect_timeout",
        nowhere: Some("/nowhere"),
    },
    Dialect {
        name: "postgres",
        scheme: "postgres",
        tls_scheme: "postgres",
        plain_query: "sslmode=disable",
        tls_query: "sslmode=verify-full",
        authorities: "sslrootcert",
        short: "connect_timeout=1",
        near_miss: ("ssl_mode", "sslmode"),
        time: "response_timeout",
        nowhere: Some("/nowhere"),
    },
    Dialect {
        name: "mongodb",
        scheme: "mongodb",
        tls_scheme: "mongodb",
        plain_query: "",
        tls_query: "tls=true",
        authorities: "tlsCAFile",
        short: "serverSelectionTimeoutMS=1000&connectTimeoutMS=1000",
        near_miss: ("colection", "collection"),
        time: "response_timeout",
        nowhere: None,
    },
];

impl Dialect {
    /// A URL. `credentials` is `user:password`, or nothing; `path` begins with a slash, or is empty.
    #[must_use]
    pub fn url(&self, is_tls: bool, credentials: &str, server: &str, path: &str, query: &str) -> String {
        let (scheme, own) = match is_tls {
            true => (self.tls_scheme, self.tls_query),
            false => (self.scheme, self.plain_query),
        };
        let at = if credentials.is_empty() { "" } else { "@" };
        let path = if path.is_empty() && self.name == "postgres" { "/postgres" } else { path };
        let parameters: Vec<_> = [own, query].into_iter().filter(|part| !part.is_empty()).collect();
        format!("{scheme}://{credentials}{at}{server}{path}?{}", parameters.join("&"))
    }
}

/// A broker that runs.
#[derive(Debug)]
pub enum Server {
    /// Redis.
    Redis(Redis),
    /// NATS.
    Nats(Nats),
    /// RabbitMQ.
    RabbitMq(Box<RabbitMq>),
    /// PostgreSQL.
    Postgres(Postgres),
    /// MongoDB.
    MongoDb(MongoDb),
}

/// Name and password of the user with all rights.
pub const USER: (&str, &str) = ("app", "s3cret");

impl Server {
    /// Starts the broker of a dialect for one user, or with TLS for everybody.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn start(dialect: &Dialect, is_tls: bool) -> Result<Self> {
        let (user, password) = USER;
        let open = ClientCertificate::Ignored;
        Ok(match (dialect.name, is_tls) {
            ("redis", false) => Self::Redis(Redis::options().password("default").user(user, password).start().await?),
            ("redis", true) => Self::Redis(Redis::options().tls(open).start().await?),
            ("nats", false) => {
                let users = format!(
                    "authorization {{ timeout: 60, users = [{{user: {user}, password: {password}}}, {{user: weak, password: weak, \
                     permissions: {{publish: \"other.>\", subscribe: \"other.>\"}}}}] }}"
                );
                Self::Nats(Nats::options().configuration(&users).start().await?)
            }
            ("nats", true) => Self::Nats(Nats::options().tls(open).start().await?),
            ("rabbitmq", false) => Self::RabbitMq(Box::new(RabbitMq::options().user(user, password).start().await?)),
            ("rabbitmq", true) => Self::RabbitMq(Box::new(RabbitMq::options().tls().start().await?)),
            ("postgres", false) => Self::Postgres(Postgres::options().user(user, password).start().await?),
            ("postgres", true) => Self::Postgres(Postgres::options().tls().start().await?),
            (_, false) => Self::MongoDb(MongoDb::options().user(user, password).start().await?),
            (_, true) => Self::MongoDb(MongoDb::options().tls(open).start().await?),
        })
    }

    /// Starts both kinds.
    ///
    /// # Errors
    /// If one does not start.
    pub async fn start_both(dialect: &Dialect) -> Result<(Self, Self)> {
        try_join!(Self::start(dialect, false), Self::start(dialect, true))
    }

    /// Its process.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        match self {
            Self::Redis(server) => server,
            Self::Nats(server) => server,
            Self::RabbitMq(server) => server,
            Self::Postgres(server) => server,
            Self::MongoDb(server) => server,
        }
    }

    /// Its address, as in its URL.
    #[must_use]
    pub fn address(&self) -> String {
        let url = self.broker().url();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or_default().to_owned()
    }

    /// Credentials, as in its URL: `user:password`, a user, or nothing.
    #[must_use]
    pub fn credentials(&self) -> String {
        let url = self.broker().url();
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.rsplit_once('@').map_or("", |(credentials, _)| credentials).to_owned()
    }

    /// File with its authority, if it serves TLS.
    #[must_use]
    pub fn authority(&self) -> Option<PathBuf> {
        let certificates = match self {
            Self::Redis(server) => server.certificates(),
            Self::Nats(server) => server.certificates(),
            Self::RabbitMq(server) => server.certificates(),
            Self::Postgres(server) => server.certificates(),
            Self::MongoDb(server) => server.certificates(),
        };
        certificates.map(trunkline_brokers::Certificates::authority)
    }
}

/// A node of a server without sockets.
///
/// # Panics
/// If it cannot join.
pub async fn join(backend: Backend) -> TestNode {
    let setup = Setup::new(|name| async move { memory::backend(&name, MemoryConfig::default()) });
    TestCluster::new(&setup).build().over(backend).join().await.expect("a node joins")
}

/// Waits for the health of a node.
///
/// # Panics
/// If it takes two minutes.
pub async fn until(node: &TestNode, what: impl Fn(&Health) -> bool) {
    let now = || format!("{:?}", node.health());
    let holds = eventually(Duration::from_secs(120), now, async || what(&node.health())).await;
    holds.unwrap_or_else(|late| panic!("{late}"));
}

/// Waits until a node has lost its connection and got another one.
///
/// # Panics
/// If it takes two minutes.
pub async fn until_reconnected(node: &TestNode) {
    until(node, |health| health.reconnects > 0 && health.connected).await;
}

/// The port of the server in a URL with exactly one.
///
/// # Panics
/// If the URL has none.
#[must_use]
pub fn port_of(url: &str) -> u16 {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let server = rest.rsplit_once('@').map_or(rest, |(_, server)| server);
    let server = server.split(['/', '?']).next().unwrap_or_default();
    let port = server.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
    port.unwrap_or_else(|| panic!("{url} has no port"))
}
