//! Credentials that change: asked for before each connection, on every backend.

use std::{
    future::pending,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;
use trunkline::{Backend, ErrorKind, Result};
use trunkline_backends::{DIALECTS, Dialect, Server, join, until, until_reconnected};
use trunkline_brokers::Proxy;

/// What an application keeps: the password of this moment, how often it was asked for, and whether it answers.
#[derive(Clone, Debug, Default)]
struct Vault {
    password: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    hangs: Arc<AtomicBool>,
}

impl Vault {
    fn set(&self, password: &str) {
        password.clone_into(&mut self.password.lock().unwrap());
    }

    async fn ask(&self) -> String {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.hangs.load(Ordering::Relaxed) {
            pending::<()>().await;
        }
        self.password.lock().unwrap().clone()
    }

    fn set_hanging(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }
}

async fn connect(dialect: &Dialect, url: &str, vault: &Vault) -> Result<Backend> {
    macro_rules! with_provider {
        ($backend:ident) => {{
            let vault = vault.clone();
            let config = $backend::Config::from_url(url)?.credentials(move || {
                let vault = vault.clone();
                async move { Ok::<_, std::io::Error>($backend::Login::new("app", vault.ask().await)) }
            });
            $backend::connect(config).await
        }};
    }
    match dialect.name {
        "redis" => with_provider!(trunkline_redis),
        "nats" => with_provider!(trunkline_nats),
        "rabbitmq" => with_provider!(trunkline_rabbitmq),
        "mongodb" => with_provider!(trunkline_mongodb),
        _ => with_provider!(trunkline_postgres),
    }
}

/// Changes the password of the user `app`; returns whether that is possible while the broker runs.
async fn rotate(server: &Server, password: &str) -> bool {
    match server {
        Server::Redis(redis) => {
            redis.cli(&["ACL", "SETUSER", "app", "resetpass", &format!(">{password}")]).await.unwrap();
        }
        Server::RabbitMq(broker) => drop(broker.ctl(&["change_password", "app", password]).await.unwrap()),
        Server::Postgres(server) => {
            server.sql(&format!("ALTER ROLE app PASSWORD '{password}'")).await.unwrap();
        }
        Server::MongoDb(server) => {
            let client = mongodb::Client::with_uri_str(server.url()).await.unwrap();
            let change = mongodb::bson::doc! { "updateUser": "app", "pwd": password };
            client.database("admin").run_command(change).await.unwrap();
        }
        Server::Nats(_) => return false,
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_asked_for_before_each_connection() {
    for dialect in &DIALECTS {
        let server = Server::start(dialect, false).await.unwrap();
        let proxy = Proxy::start(server.broker().port()).await.unwrap();
        let (vault, place) = (Vault::default(), dialect.name);
        // Those in the URL do not count.
        // The members of a replica set name their own addresses.
        let query = if dialect.name == "mongodb" { "directConnection=true" } else { "" };
        let url = dialect.url(false, "nobody:nothing", &format!("127.0.0.1:{}", proxy.port()), "", query);
        vault.set("not yet");
        let refused = connect(dialect, &url, &vault).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Config, "{place}: {refused}");
        assert!(!format!("{refused:?} {refused}").contains("not yet"), "{place}: {refused}");
        vault.set("s3cret");
        let node = join(connect(dialect, &url, &vault).await.expect(place)).await;
        until(&node, |health| health.connected).await;
        if rotate(&server, "s3cond").await {
            vault.set("s3cond");
        }
        let asked = vault.asked.load(Ordering::Relaxed);
        proxy.cut();
        until_reconnected(&node).await;
        assert!(vault.asked.load(Ordering::Relaxed) > asked, "{place}");
        node.close();
        node.closed().await;
    }
}

#[tokio::test]
async fn a_provider_that_fails_is_asked_again() {
    let config = trunkline_redis::Config::from_url("redis://127.0.0.1:1").unwrap();
    let config = config.credentials(async || Err::<trunkline_redis::Login, _>("the vault is sealed"));
    let server = Server::start(&DIALECTS[0], false).await.unwrap();
    let mut config = config;
    config.server.addresses = vec![trunkline_redis::Address::Tcp("127.0.0.1".into(), server.broker().port())];
    let error = trunkline_redis::connect(config).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("the vault is sealed"), "{error}");
}

/// What connecting may take beside the second that the provider has.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_hangs_ends_each_attempt_and_holds_up_no_close() {
    let mut faults = Vec::new();
    for dialect in &DIALECTS {
        let fault = hang(dialect).await;
        faults.extend(fault.err().map(|fault| format!("{}: {fault}", dialect.name)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Connects, loses the connection and closes while the provider hangs.
async fn hang(dialect: &Dialect) -> std::result::Result<(), String> {
    let server = Server::start(dialect, false).await.unwrap();
    let proxy = Proxy::start(server.broker().port()).await.unwrap();
    let limit = if dialect.name == "mongodb" { "&directConnection=true&response_timeout=1s" } else { "" };
    let query = format!("{}{limit}", dialect.short);
    let url = dialect.url(false, "", &format!("127.0.0.1:{}", proxy.port()), "", &query);
    let vault = Vault::default();
    vault.set("s3cret");
    vault.set_hanging(true);
    let begun = Instant::now();
    let connected = timeout(SOON, connect(dialect, &url, &vault)).await.map_err(|_| "connecting hangs")?;
    let error = connected.err().ok_or("connected without credentials")?;
    println!("{}: {error}, after {:?}", dialect.name, begun.elapsed());
    if !error.is_retryable() || !error.to_string().contains("no credentials within 1s") {
        return Err(error.to_string());
    }
    vault.set_hanging(false);
    let backend = connect(dialect, &url, &vault).await.map_err(|error| error.to_string())?;
    let transport = Arc::clone(&backend.transport);
    let node = join(backend).await;
    until(&node, |health| health.connected).await;
    rotate(&server, "s3cond").await;
    vault.set_hanging(true);
    proxy.cut();
    until(&node, |health| health.reason.as_ref().is_some_and(|reason| reason.contains("no credentials within"))).await;
    node.close();
    let closing = async {
        node.closed().await;
        transport.close().await;
    };
    timeout(SOON, closing).await.map_err(|_| "closing hangs".to_owned())
}
