//! What is logged when a broker goes and comes back, on every backend: once that it is lost, once that it is back, once what
//! was missed, and nothing by the clients.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod log;

use std::{sync::Arc, time::Duration};

use tokio::net::TcpListener;
use tracing::Level;
use trunkline_backends::{DIALECTS, Dialect, Server, join, until};
use trunkline_conformance::kit::eventually;

use self::log::{Line, Log};

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_and_the_return_are_logged_once_and_a_clean_exit_is_silent() {
    let log = Log::install();
    let mut faults = Vec::new();
    for dialect in &DIALECTS {
        let server = Server::start(dialect, false).await.unwrap();
        let modes: &[&str] = match dialect.name {
            "redis" => &["mode=pubsub", "mode=sharded", "mode=streams"],
            "nats" | "postgres" => &["", "history=on"],
            _ => &[""],
        };
        for mode in modes {
            let place = format!("{} {mode}", dialect.name);
            faults.extend(
                outage(dialect, &server, mode, &log).await.into_iter().map(|fault| format!("{place}: {fault}")),
            );
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Kills the broker under a node and starts it again. Returns what is wrong with the log.
async fn outage(dialect: &Dialect, server: &Server, mode: &str, log: &Log) -> Vec<String> {
    let url = dialect.url(false, "app:s3cret", &server.address(), "", mode);
    let backend = trunkline::connect(&url).await.expect(&url);
    let transport = Arc::clone(&backend.transport);
    let node = join(backend).await;
    println!("{url}");
    let mut faults = Vec::from_iter(expect(&log.take(), "connecting", &[]));
    server.broker().kill().await.unwrap();
    until(&node, |health| !health.connected).await;
    refuse(server, 3).await;
    faults.extend(expect(&log.take(), "the outage", &[Level::WARN]));
    server.broker().restart().await.unwrap();
    until(&node, |health| health.connected).await;
    let is_told = async || !log.containing("since the way to the broker was lost").is_empty();
    eventually(Duration::from_secs(60), || "what was missed".into(), is_told).await.unwrap();
    let logged = log.take();
    faults.extend(expect(&logged, "the return, and what was missed", &[Level::INFO, Level::INFO]));
    if !logged.iter().any(|line| line.text.contains("lost_for=")) {
        faults.push("it is not said how long".into());
    }
    node.close();
    node.closed().await;
    transport.close().await;
    faults.extend(expect(&log.take(), "a clean exit", &[]));
    faults
}

/// Stands in for the broker, and ends this many connections at once.
async fn refuse(server: &Server, connections: usize) {
    let listener = TcpListener::bind(server.address()).await.expect("the port is free");
    for _ in 0..connections {
        listener.accept().await.expect("an attempt to connect");
    }
}

fn expect(logged: &[Line], when: &str, levels: &[Level]) -> Option<String> {
    let ours = logged.iter().filter(|line| line.target.starts_with("trunkline")).map(|line| line.level);
    let is_known = |line: &Line| {
        let clients = ["trunkline", "async_nats"];
        // A thread of lapin says when a connection ends, however it ends, and cannot be told not to.
        let is_lapin = line.target.starts_with("lapin") && when != "connecting";
        is_lapin || clients.iter().any(|client| line.target.starts_with(client))
    };
    let is_quiet = |line: &Line| {
        // The connector says when a connection ends before the server has said anything, as [`refuse`] makes it.
        let is_refused = line.target == "async_nats::connector" && when != "a clean exit";
        !line.target.starts_with("async_nats") || line.level == Level::INFO || is_refused
    };
    let is_right = ours.eq(levels.iter().copied()) && logged.iter().all(|line| is_known(line) && is_quiet(line));
    (!is_right).then(|| format!("{when}: {logged:?}"))
}
