//! Running the program, and clusters for it.

use std::{path::Path, process::Stdio};

use mongodb::bson::doc;
use serde_json::Value;
use tokio::process::Command;
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::{Setup, kit::TestCluster};

/// What the program printed, and its exit code.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the exit code.
    #[track_caller]
    pub(crate) fn ends(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs the program with the broker's URL in the environment.
pub(crate) async fn run(url: &str, arguments: &[&str]) -> Ran {
    run_in(Path::new("."), url, arguments).await
}

/// Runs the program in a folder.
pub(crate) async fn run_in(folder: &Path, url: &str, arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(arguments).env_remove("TRUNKLINE_BROKER").current_dir(folder).stdin(Stdio::null()).kill_on_drop(true);
    if !url.is_empty() {
        command.env("TRUNKLINE_BROKER", url);
    }
    let output = command.output().await.unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Every backend, with a cluster of its own on a server that the tests share.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wire {
    RedisPubSub,
    RedisSharded,
    RedisStreams,
    MongoDb,
    Postgres,
    RabbitMq,
    Nats,
}

impl Wire {
    /// URL of a cluster of its own, named by the test. Wires of one broker use the same channels where their prefix is the
    /// same, so the wire is part of it.
    pub(crate) async fn url(self, test: &str) -> String {
        let name = format!("{test}_{}", format!("{self:?}").to_lowercase());
        let url = match self {
            Self::RedisPubSub | Self::RedisSharded | Self::RedisStreams => Redis::shared().await,
            Self::MongoDb => MongoDb::shared().await,
            Self::Postgres => Postgres::shared().await,
            Self::RabbitMq => RabbitMq::shared().await,
            Self::Nats => Nats::shared().await,
        };
        let parameters = match self {
            Self::RedisPubSub => format!("prefix={name}"),
            Self::RedisSharded => format!("mode=sharded&prefix={name}"),
            Self::RedisStreams => format!("mode=streams&stream={name}&prefix={name}"),
            Self::MongoDb => format!("collection={name}"),
            Self::Postgres => format!("prefix={name}&table={name}"),
            Self::RabbitMq | Self::Nats => format!("prefix={name}"),
        };
        with(&url.unwrap(), &parameters)
    }
}

/// Makes a test of each function, per backend. Each takes a [`Wire`].
macro_rules! over_all {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            use trunkline_conformance::kit::Failure;

            use crate::support::Wire;

            #[tokio::test(flavor = "multi_thread")]
            async fn redis_pubsub() -> Result<(), Failure> {
                super::$name(Wire::RedisPubSub).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn redis_sharded() -> Result<(), Failure> {
                super::$name(Wire::RedisSharded).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn redis_streams() -> Result<(), Failure> {
                super::$name(Wire::RedisStreams).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn mongodb() -> Result<(), Failure> {
                super::$name(Wire::MongoDb).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() -> Result<(), Failure> {
                super::$name(Wire::Postgres).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn rabbitmq() -> Result<(), Failure> {
                super::$name(Wire::RabbitMq).await
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn nats() -> Result<(), Failure> {
                super::$name(Wire::Nats).await
            }
        })*
    };
}
pub(crate) use over_all;

/// `url` with more parameters.
pub(crate) fn with(url: &str, parameters: &str) -> String {
    let mark = if url.contains('?') { '&' } else { '?' };
    format!("{url}{mark}{parameters}")
}

/// A cluster of nodes over this URL.
pub(crate) fn cluster(url: &str) -> TestCluster {
    let url = url.to_owned();
    TestCluster::new(&Setup::new(move |_| {
        let url = url.clone();
        async move { trunkline::connect(&url).await }
    }))
}

/// Servers with a user each that may not do what a node does.
pub(crate) struct Readers {
    _redis: Redis,
    _postgres: Postgres,
    _nats: Nats,
    _rabbitmq: RabbitMq,
    _mongodb: MongoDb,
    urls: [String; 5],
}

impl Readers {
    pub(crate) async fn start() -> Self {
        let redis = Redis::start().await.unwrap();
        redis
            .cli(&["ACL", "SETUSER", "reader", "on", ">pw", "+@all", "-publish", "-subscribe", "~*", "&*"])
            .await
            .unwrap();
        let postgres = Postgres::start().await.unwrap();
        postgres.sql("CREATE ROLE reader LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
        let permissions = "authorization: { users: [{ user: reader, password: pw, permissions: \
            { publish: \"other.>\", subscribe: \"other.>\" } }] }";
        let nats = Nats::options().configuration(permissions).start().await.unwrap();
        let rabbitmq = RabbitMq::start().await.unwrap();
        rabbitmq.ctl(&["add_user", "reader", "pw"]).await.unwrap();
        rabbitmq.ctl(&["set_permissions", "-p", "/", "reader", "^other", "^other", "^other"]).await.unwrap();
        let at = rabbitmq.url().split_once("://").unwrap().1;
        let host = at.rsplit_once('@').map_or(at, |(_, host)| host);
        let mongodb = MongoDb::options().user("app", "pw").start().await.unwrap();
        let admin = mongodb::Client::with_uri_str(mongodb.url()).await.unwrap().database("admin");
        let reader = doc! { "createUser": "reader", "pwd": "pw", "roles": [{ "role": "read", "db": "socket_io" }] };
        admin.run_command(reader).await.unwrap();
        let urls = [
            redis.url().replacen("redis://", "redis://reader:pw@", 1),
            postgres.url().replacen("postgres@", "reader@", 1),
            nats.url().replacen("nats://", "nats://reader:pw@", 1),
            format!("amqp://reader:pw@{host}"),
            mongodb.url().replacen("app:", "reader:", 1),
        ];
        Self { _redis: redis, _postgres: postgres, _nats: nats, _rabbitmq: rabbitmq, _mongodb: mongodb, urls }
    }

    /// URLs by which these users connect.
    pub(crate) fn urls(&self) -> &[String] {
        &self.urls
    }
}

/// A private PgBouncer in front of a server. It ends with the test.
pub(crate) struct Pooler {
    _process: tokio::process::Child,
    pub(crate) url: String,
}

/// Starts a PgBouncer with this `pool_mode`, and returns when it serves.
pub(crate) async fn pgbouncer(server: &Postgres, mode: &str) -> Pooler {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = server.folder().join(format!("pgbouncer-{mode}.ini"));
    let settings = format!(
        "[databases]\npostgres = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = {mode}\n",
        server.port()
    );
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new("pgbouncer");
    // Like the server it refuses to be root. What does not concern others is ignored.
    command.args(["-q", "-u", "postgres"]).arg(&file);
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    let process = process.expect("pgbouncer is not installed: apt-get install pgbouncer");
    while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::task::yield_now().await;
    }
    Pooler { _process: process, url: format!("postgres://postgres@127.0.0.1:{port}/postgres") }
}
