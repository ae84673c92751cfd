//! Ways to connect, and what is said when they fail.

use std::{fs, net::TcpListener, process::Stdio, time::Duration};

use tokio::process::{Child, Command};
use trunkline_brokers::{Certificates, Postgres as Server};
use trunkline_conformance::kit::Failure;
use trunkline_core::{Backend, Emitter, Error, ErrorKind, Payload, Result, Target};
use trunkline_postgres::{Config, SCHEMA, connect};

use crate::support::{TIMEOUT, cluster, config, demote, expect_numbers, numbered, server, with};

async fn try_connect(url: &str) -> Result<Backend> {
    connect(config(url, "")).await
}

async fn error(url: &str) -> Error {
    let error = try_connect(url).await.expect_err("it connects");
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("s3cret"), "a password is shown: {shown}");
    error
}

async fn expect(url: &str, kind: ErrorKind, text: &str) {
    let error = error(url).await;
    assert!(error.kind() == kind && error.to_string().contains(text), "{error:?}");
}

// --- TLS and passwords ---

struct Secure {
    server: Server,
    other: Certificates,
}

async fn secure() -> Secure {
    let server = Server::options().user("app", "s3cret").tls().start().await.unwrap();
    let other = Certificates::generate(&server.folder().join("other")).await.unwrap();
    Secure { server, other }
}

#[tokio::test]
async fn every_sslmode_checks_as_much_as_in_libpq() {
    let Secure { server, other } = secure().await;
    let (right, wrong) = (server.certificates().unwrap().authority(), other.authority());
    let (right, wrong) = (right.display(), wrong.display());
    let url = |parameters: String| with(server.url(), &parameters);
    for parameters in [
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require&sslrootcert={right}"),
        format!("sslmode=verify-ca&sslrootcert={right}"),
        format!("sslmode=verify-full&sslrootcert={right}"),
        format!("sslmode=verify-full&sslrootcert={right}&channel_binding=require"),
    ] {
        try_connect(&url(parameters.clone())).await.unwrap_or_else(|error| panic!("{parameters}: {error}"));
    }
    for parameters in [
        format!("sslmode=require&sslrootcert={wrong}"),
        format!("sslmode=verify-ca&sslrootcert={wrong}"),
        format!("sslmode=verify-full&sslrootcert={wrong}"),
        // The authorities of the operating system do not know this one.
        "sslmode=verify-full&sslrootcert=system".to_owned(),
    ] {
        expect(&url(parameters), ErrorKind::Config, "certificate").await;
    }
    expect(&url("sslmode=disable".into()), ErrorKind::Config, "no encryption").await;
}

#[tokio::test]
async fn only_verify_full_cares_about_the_name() {
    let Secure { server, .. } = secure().await;
    let authority = server.certificates().unwrap().authority();
    let url = server.url().replace("localhost", "wrong.example");
    let url =
        |mode: &str| with(&url, &format!("hostaddr=127.0.0.1&sslmode={mode}&sslrootcert={}", authority.display()));
    try_connect(&url("verify-ca")).await.unwrap();
    expect(&url("verify-full"), ErrorKind::Config, "not valid for name").await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_not_shown() {
    let Secure { server, .. } = secure().await;
    let url = server.url().replace("s3cret", "s3cret2");
    expect(&url, ErrorKind::Config, "password authentication failed").await;
}

#[tokio::test]
async fn a_client_can_show_a_certificate() {
    let Secure { server, .. } = secure().await;
    let certificates = server.certificates().unwrap();
    let hba = server.folder().join("data/pg_hba.conf");
    fs::write(&hba, "hostssl all app 127.0.0.1/32 cert\n").unwrap();
    server.stop().await.unwrap();
    crate::support::restart(&server).await;
    let (certificate, key) = (certificates.client(), certificates.client_key());
    let shown = format!("sslmode=require&sslcert={}&sslkey={}", certificate.display(), key.display());
    try_connect(&with(server.url(), &shown)).await.unwrap();
    expect(&with(server.url(), "sslmode=require"), ErrorKind::Config, "certificate").await;
    let missing = format!("sslmode=require&sslcert={}&sslkey=/nowhere", certificate.display());
    expect(&with(server.url(), &missing), ErrorKind::Config, "sslkey /nowhere").await;
}

// --- hosts ---

#[tokio::test]
async fn a_unix_socket_will_do() {
    let server = server().await;
    let folder = server.folder().display().to_string();
    try_connect(&format!("postgres://postgres@/postgres?host={folder}&port={}", server.port())).await.unwrap();
    let encoded = folder.replace('/', "%2F");
    try_connect(&format!("postgres://postgres@{encoded}:{}/postgres?sslmode=require", server.port())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_unix_socket_messages_of_all_kinds_arrive() -> Result<(), Failure> {
    let server = server().await;
    let url = format!("postgres://postgres@/postgres?host={}&port={}", server.folder().display(), server.port());
    let [a, b] = cluster(&url, "history=on").nodes().await?;
    let socket = b.socket(["r"]).await?;
    for number in 0..300 {
        a.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 50 })).await?;
    }
    expect_numbers(&socket, 300).await?;
    assert_eq!(a.fetch_sockets(Target::room("r")).await?.len(), 1);
    b.answer_server_side(Some(Payload::value(&1).unwrap()));
    assert_eq!(a.server_side_emit_with_ack(Payload::event("ask", &()).unwrap(), None).await?.len(), 1);
    Ok(())
}

#[tokio::test]
async fn hosts_that_are_down_or_frozen_are_passed_over() {
    let (frozen, standing) = (server().await, server().await);
    frozen.freeze().unwrap();
    let hosts = format!("127.0.0.1:1,127.0.0.1:{},127.0.0.1:{}", frozen.port(), standing.port());
    let backend = try_connect(&format!("postgres://postgres@{hosts}/postgres")).await.unwrap();
    assert!(backend.transport.health().connected);
    frozen.thaw().unwrap();
}

#[tokio::test]
async fn all_hosts_that_failed_are_named() {
    let text = error("postgres://postgres:s3cret@127.0.0.1:1,127.0.0.1:2/postgres").await.to_string();
    assert!(text.contains("127.0.0.1:1 ") && text.contains("127.0.0.1:2 "), "{text}");
}

#[tokio::test]
async fn a_standby_is_passed_over() {
    let (standby, primary) = (server().await, server().await);
    demote(&standby).await;
    expect(standby.url(), ErrorKind::Disconnected, "standby").await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.port(), primary.port());
    try_connect(&format!("postgres://postgres@{hosts}/postgres?target_session_attrs=primary")).await.unwrap();
}

#[tokio::test]
async fn a_server_that_must_allow_writes_is_looked_for() {
    let (readable, writable) = (server().await, server().await);
    readable.sql("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    readable.sql("SELECT pg_reload_conf()").await.unwrap();
    let read_write = "target_session_attrs=read-write";
    crate::support::until("the server is read-only", async || {
        readable.sql("SHOW transaction_read_only").await.unwrap().trim() == "on"
    })
    .await;
    expect(&with(readable.url(), read_write), ErrorKind::Disconnected, "read-only").await;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", readable.port(), writable.port());
    try_connect(&format!("postgres://postgres@{hosts}/postgres?{read_write}")).await.unwrap();
}

// --- tables ---

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_start_together_create_the_tables_once() {
    let server = server().await;
    let url = with(server.url(), "history=on");
    let starting: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { try_connect(&url).await })
        })
        .collect();
    for start in starting {
        start.await.unwrap().unwrap();
    }
    let tables = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'socket_io_%'";
    assert_eq!(server.sql(tables).await.unwrap().trim(), "3");
    assert_eq!(server.sql("SELECT count(*) FROM socket_io_events").await.unwrap().trim(), "1");
}

#[tokio::test]
async fn tables_that_may_not_be_created_are_named() {
    let server = server().await;
    let url = with(server.url(), "create_tables=off&history=on");
    expect(&url, ErrorKind::Config, "socket_io_attachments does not exist").await;
    server.sql(SCHEMA).await.unwrap();
    try_connect(&url).await.unwrap();
}

#[tokio::test]
async fn a_user_without_the_right_to_create_uses_existing_tables() {
    let server = server().await;
    server.sql("CREATE ROLE app LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await.unwrap();
    let url = with(&server.url().replace("postgres@", "app@"), "history=on");
    expect(&url, ErrorKind::Config, "create table socket_io_attachments").await;
    server.sql(SCHEMA).await.unwrap();
    expect(&url, ErrorKind::Config, "permission denied").await;
    server
        .sql("GRANT ALL ON ALL TABLES IN SCHEMA public TO app; GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app")
        .await
        .unwrap();
    try_connect(&url).await.unwrap();
}

#[tokio::test]
async fn a_table_in_a_schema_is_created_there() {
    let server = server().await;
    server.sql("CREATE SCHEMA app").await.unwrap();
    try_connect(&with(server.url(), "table=App.Rows&history=on&history_table=app.events&session_table=app.sessions"))
        .await
        .unwrap();
    let tables = server
        .sql("SELECT string_agg(tablename, ',' ORDER BY tablename) FROM pg_tables WHERE schemaname = 'app'")
        .await;
    assert_eq!(tables.unwrap().trim(), "events,rows,sessions");
}

// --- PgBouncer ---

/// A private PgBouncer in front of a server. It ends with the test.
struct Bouncer {
    _process: Child,
    url: String,
}

async fn bouncer(server: &Server, mode: &str) -> Bouncer {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let file = server.folder().join(format!("pgbouncer-{mode}.ini"));
    let settings = format!(
        "[databases]\npostgres = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = {mode}\n",
        server.port()
    );
    fs::write(&file, settings).unwrap();
    let mut command = Command::new("pgbouncer");
    // Like the server it refuses to be root. What does not concern others is ignored.
    command.args(["-q", "-u", "postgres"]).arg(&file);
    let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true).spawn();
    let process = process.expect("pgbouncer is not installed: apt-get install pgbouncer");
    crate::support::until("PgBouncer listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
    })
    .await;
    Bouncer { _process: process, url: format!("postgres://postgres@127.0.0.1:{port}/postgres") }
}

#[tokio::test]
async fn pgbouncer_in_transaction_mode_is_detected_and_named() {
    let server = server().await;
    let bouncer = bouncer(&server, "transaction").await;
    expect(&bouncer.url, ErrorKind::Unsupported, "PgBouncer in transaction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pgbouncer_in_session_mode_will_do() -> Result<(), Failure> {
    let server = server().await;
    let bouncer = bouncer(&server, "session").await;
    let [a, b] = cluster(&bouncer.url, "").nodes().await?;
    let socket = b.socket(["r"]).await?;
    a.broadcast(Target::all(), numbered(0, 1)).await?;
    expect_numbers(&socket, 1).await
}

// --- ending ---

#[tokio::test]
async fn a_closed_transport_leaves_no_connection_and_has_sent_everything() {
    let server = server().await;
    server.sql("CREATE TABLE seen (id bigserial)").await.unwrap();
    let backend = try_connect(&with(server.url(), "application_name=closing&history=on")).await.unwrap();
    let emitter = Emitter::new(&backend);
    for number in 0..500 {
        emitter.emit(Target::all(), numbered(number, 100)).await.unwrap();
    }
    backend.transport.close().await;
    assert_eq!(
        server.sql("SELECT count(*) FROM socket_io_events WHERE origin IS NOT NULL").await.unwrap().trim(),
        "500"
    );
    let left = async || {
        let count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closing'";
        server.sql(count).await.unwrap().trim().to_owned()
    };
    crate::support::until("all connections end", async || left().await == "0").await;
    let error = emitter.emit(Target::all(), numbered(0, 1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test]
async fn closing_ends_soon_when_the_server_does_not_answer() {
    let server = server().await;
    let backend = try_connect(server.url()).await.unwrap();
    server.freeze().unwrap();
    Emitter::new(&backend).emit(Target::all(), numbered(0, 1)).await.unwrap();
    tokio::time::timeout(Duration::from_secs(8), backend.transport.close()).await.expect("it closes");
    server.thaw().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_touches_no_other_namespace() -> Result<(), Failure> {
    let server = server().await;
    let cluster = cluster(server.url(), "");
    let one = cluster.node().await?;
    let other = cluster.build().namespace("/other").sharing(&one).join().await?;
    let peer = cluster.build().namespace("/other").join().await?;
    peer.await_peers(1, TIMEOUT).await?;
    one.leave().await?;
    let socket = other.socket(["r"]).await?;
    peer.broadcast(Target::all(), numbered(0, 1)).await?;
    expect_numbers(&socket, 1).await?;
    // It may come back.
    let again = cluster.build().sharing(&other).join().await?;
    let elsewhere = cluster.node().await?;
    let socket = again.socket(["r"]).await?;
    elsewhere.await_peers(1, TIMEOUT).await?;
    elsewhere.broadcast(Target::all(), numbered(0, 1)).await?;
    expect_numbers(&socket, 1).await
}

#[test]
fn what_a_url_says_wrongly_is_named() {
    for (url, text) in [
        ("postgres://h?sslmode=allow", "verify-full"),
        ("postgres://h?sslcert=/a", "sslkey"),
        ("postgres://h?payload_threshold=8000", "7999"),
        ("postgres://h?prefix=", "prefix"),
        ("postgres://h?table=a;b", "table"),
        ("postgres://h?histroy=on", "histroy"),
        ("postgres://a,b?hostaddr=127.0.0.1", "do not fit"),
        ("postgres://a?host=b", "twice"),
        ("postgres://a:b/c", "port"),
        ("postgres://h?target_session_attrs=standby", "read-write"),
        ("postgres://h?ping_timeout=0s", "ping_timeout"),
        ("postgres://u:pass?word@h/d", "percent-encoded"),
    ] {
        let error = Config::from_url(url).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(text), "{url}: {error}");
        assert!(!error.to_string().contains("word@"), "{error}");
    }
}

#[test]
fn former_names_of_parameters_are_accepted() {
    let former = "channel_prefix=p&query_timeout=1s&probe_interval=2s&probe_timeout=3s";
    let config = Config::from_url(&format!("postgres://h?{former}")).unwrap();
    let times = (config.response_timeout, config.ping_interval, config.ping_timeout);
    assert_eq!(times, (Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3)));
    assert_eq!(config.prefix, "p");
    let error = Config::from_url("postgres://h?query_timeout=1s&response_timeout=1s").unwrap_err();
    assert!(error.to_string().contains("response_timeout"), "{error}");
}

#[test]
fn a_password_is_not_shown() {
    for url in ["postgres://u:s3cret@h/d", "postgres://u@h/d?password=s3cret"] {
        let shown = format!("{:?}", Config::from_url(url).unwrap());
        assert!(shown.contains("\"h\"") && !shown.contains("s3cret"), "{shown}");
    }
}
