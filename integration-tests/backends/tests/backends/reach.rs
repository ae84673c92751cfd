//! How far back a history reaches, on every broker that keeps one: to the first message, until it is trimmed.

use std::time::Duration;

use tokio::time::Instant;
use trunkline::{Payload, Target};
use trunkline_backends::join;
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::kit::{TestNode, eventually};

/// Brokers that tell times in seconds may tell this much less, or more.
const ROUNDED: Duration = Duration::from_secs(1);

const LATE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn that_of_a_redis_stream() {
    let broker = Redis::shared().await.unwrap();
    follows_the_oldest_message(&broker, "mode=streams&prefix=reach&stream=reach&max_len=100").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_of_a_mongodb_collection_with_a_size() {
    let broker = MongoDb::shared().await.unwrap();
    follows_the_oldest_message(&broker, "collection=reach&capped_bytes=64KiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_of_a_mongodb_collection_with_a_time() {
    let broker = MongoDb::options().arguments(&["--setParameter", "ttlMonitorSleepSecs=1"]).start().await.unwrap();
    follows_the_oldest_message(broker.url(), "collection=reach&ttl=4s").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_of_postgresql_tables() {
    let broker = Postgres::shared().await.unwrap();
    let own = "history_table=reach_events&session_table=reach_sessions";
    let parameters = format!("prefix=reach&table=reach&{own}&history=on&history_messages=20&cleanup_interval=200ms");
    follows_the_oldest_message(&broker, &parameters).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_of_a_rabbitmq_stream() {
    let broker = RabbitMq::shared().await.unwrap();
    follows_the_oldest_message(&broker, "prefix=reach&history=on&history_bytes=64KiB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_of_jetstream() {
    let broker = Nats::shared().await.unwrap();
    follows_the_oldest_message(&broker, "prefix=reach&history=on&history_batches=20").await;
}

async fn reach(node: &TestNode) -> Option<Duration> {
    let history = node.backend().history.as_ref().unwrap();
    history.reach(node.node()).await.unwrap()
}

/// Joins a node over a history of its own, which keeps little. Its first message becomes old, and then is trimmed.
async fn follows_the_oldest_message(broker: &str, parameters: &str) {
    let mark = if broker.contains('?') { '&' } else { '?' };
    let before = Instant::now();
    let node = join(trunkline::connect(&format!("{broker}{mark}{parameters}")).await.unwrap()).await;
    let publish = async || {
        let message = Payload::event("message", &("x".repeat(1_000),)).unwrap();
        node.broadcast(Target::all(), message).await.unwrap();
        node.backend().transport.flush().await.unwrap();
    };
    publish().await;
    let first = Instant::now();
    let late = || format!("{parameters}: the history does not become older");
    let is_old = async || reach(&node).await.is_some_and(|reach| reach > Duration::from_secs(2));
    eventually(LATE, late, is_old).await.unwrap();
    let (told, most) = (reach(&node).await.unwrap(), before.elapsed() + ROUNDED);
    assert!(told <= most, "{parameters}: {told:?} is more than {most:?}");
    let late = || format!("{parameters}: the history reaches back to its first message all the same");
    let is_trimmed = async || {
        publish().await;
        reach(&node).await.is_some_and(|reach| reach + ROUNDED < first.elapsed())
    };
    eventually(LATE, late, is_trimmed).await.unwrap();
}
