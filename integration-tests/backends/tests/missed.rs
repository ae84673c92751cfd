//! What is logged of an outage when it is over, on every backend: once how many messages were missed, and how many were not
//! sent.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

mod log;

use std::time::Duration;

use tokio::task::JoinSet;
use tracing::Level;
use trunkline::{Payload, Target};
use trunkline_backends::{join, port_of, until};
use trunkline_brokers::{MongoDb, Nats, Postgres, Proxy, RabbitMq, Redis};
use trunkline_conformance::kit::eventually;

use self::log::Log;

const LATE: Duration = Duration::from_secs(60);

/// Number of messages that are published while a node is away.
const MISSED: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_and_not_sent_is_logged_once_after_the_return() {
    let log = Log::install();
    let redis = Redis::shared().await.unwrap();
    let nats = Nats::shared().await.unwrap();
    let rabbitmq = RabbitMq::shared().await.unwrap();
    let postgres = Postgres::shared().await.unwrap();
    let mongodb = MongoDb::shared().await.unwrap();
    let nothing = "no message was missed";
    let exactly = "messages missed: 5;";
    // How many more is not known: on sharded Redis no node hears all rooms, and on classic Redis a subscriber that has just gone may still be
    // counted.
    let five = "messages missed: ";
    let mut outages = JoinSet::new();
    for (url, parameters, expected) in [
        (&redis, "mode=pubsub&prefix=missed", five),
        (&redis, "mode=sharded&prefix=missed_sharded", five),
        (&redis, "mode=streams&prefix=missed_streams&stream=missed_streams", nothing),
        (&nats, "prefix=missed", exactly),
        (&nats, "prefix=missed_history&history=on", nothing),
        (&rabbitmq, "prefix=missed", exactly),
        (&postgres, "prefix=missed&table=missed", exactly),
        (&mongodb, "collection=missed&directConnection=true", nothing),
    ] {
        let mark = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{mark}{parameters}&outbox_bytes=64KiB");
        outages.spawn(outage(url, expected, log.clone()));
    }
    let faults: Vec<_> = outages.join_all().await.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Cuts a node off, while another one publishes and it holds more than it may. Returns what is wrong with the log.
async fn outage(url: String, expected: &str, log: Log) -> Option<String> {
    let proxy = Proxy::start(port_of(&url)).await.unwrap();
    let node = join(trunkline::connect(&proxy.url(&url)).await.expect(&url)).await;
    let peer = join(trunkline::connect(&url).await.expect(&url)).await;
    node.wait_for_peers(1).await.unwrap();
    let socket = node.socket(["r"]).await.unwrap();
    peer.emit(Target::all(), "before").await.unwrap();
    socket.wait_for(1).await.unwrap();
    proxy.refuse();
    proxy.cut();
    until(&node, |health| !health.connected).await;
    for _ in 0..MISSED {
        peer.emit(Target::all(), "missed").await.unwrap();
    }
    peer.backend().transport.flush().await.unwrap();
    let large = Payload::event("large", &("x".repeat(40 << 10),)).unwrap();
    let mut not_sent = 0;
    for _ in 0..3 {
        not_sent += usize::from(node.broadcast(Target::all(), large.clone()).await.is_err());
    }
    proxy.resume();
    until(&node, |health| health.connected).await;
    let id = node.id().as_str();
    let told =
        || log.containing("since the way to the broker was lost").into_iter().filter(|line| line.text.contains(id));
    let late = || format!("{url}: {:?}", log.containing(id));
    eventually(LATE, late, async || told().count() > 0).await.unwrap();
    let lines: Vec<_> = told().collect();
    let (sent, line) = (format!("messages not sent: {not_sent}"), &lines[0]);
    let is_right = lines.len() == 1
        && not_sent > 0
        && line.level == Level::INFO
        && line.text.contains(expected)
        && (expected == "no message was missed" || line.text.contains(&format!(" missed={MISSED} ")))
        && line.text.contains(&sent);
    (!is_right).then(|| format!("{url}: expected {expected:?} and {sent:?}: {lines:?}"))
}
