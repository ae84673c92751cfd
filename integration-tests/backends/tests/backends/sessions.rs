//! Sessions that no client takes: each broker drops them in time, or keeps only so many.

use std::time::Duration;

use mongodb::bson::{Document, doc};
use trunkline::{Offset, Room, Session, SessionId, SocketId};
use trunkline_backends::join;
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::kit::{TestNode, eventually};

const COUNT: usize = 10;

async fn node(url: &str) -> TestNode {
    join(trunkline::connect(url).await.unwrap()).await
}

/// Stores sessions of `bytes` each.
async fn persist(node: &TestNode, count: usize, bytes: usize) {
    for number in 0..count {
        let (id, socket) = (SessionId::new(format!("{number}")).unwrap(), SocketId::new("former").unwrap());
        let rooms = (0..bytes / 1000).map(|number| Room::new(format!("{number:1000}"))).collect();
        node.persist_session(Session::new(id, socket, rooms)).await.unwrap();
    }
}

/// Checks that sessions are stored, and gone after a while.
async fn expire(node: &TestNode, stored: impl AsyncFn() -> usize) {
    persist(node, COUNT, 0).await;
    assert_eq!(stored().await, COUNT);
    let late = || "they are still there".to_owned();
    eventually(Duration::from_secs(60), late, async || stored().await == 0).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_drops_their_keys() {
    let redis = Redis::start().await.unwrap();
    let node = node(&format!("{}?mode=streams&session_ttl=4s", redis.url())).await;
    let keys = async || redis.cli(&["KEYS", "sio:session:*"]).await.unwrap();
    expire(&node, async || keys().await.matches("sio:session:").count()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_deletes_their_rows_whatever_else_it_may_delete() {
    let postgres = Postgres::start().await.unwrap();
    postgres.sql(trunkline_postgres::SCHEMA).await.unwrap();
    let rights = "CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
        GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO app; REVOKE DELETE ON socket_io_attachments FROM app";
    postgres.sql(rights).await.unwrap();
    let url = postgres.url().replacen("postgres@", "app@", 1);
    let node = node(&format!("{url}?history=on&session_ttl=4s&cleanup_interval=200ms&create_tables=off")).await;
    let count = async || postgres.sql("SELECT count(*) FROM socket_io_sessions").await.unwrap();
    expire(&node, async || count().await.trim().parse().unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_drops_their_messages() {
    let nats = Nats::options().monitored().start().await.unwrap();
    let node = node(&format!("{}?history=on&session_ttl=4s", nats.url())).await;
    expire(&node, async || {
        let streams = nats.page("/jsz?streams=true").await.unwrap();
        let (_, sessions) = streams.split_once("-sessions\"").unwrap();
        let (_, messages) = sessions.split_once("\"messages\":").unwrap();
        messages.split(',').next().unwrap().trim().parse().unwrap()
    })
    .await;
}

/// The stored sessions of a MongoDB.
async fn documents(mongo: &MongoDb, collection: &str) -> usize {
    let client = mongodb::Client::with_uri_str(mongo.url()).await.unwrap();
    let documents = client.database("socket_io").collection::<Document>(collection);
    documents.count_documents(doc! { "type": 13 }).await.unwrap().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb_keeps_them_as_long_or_as_many_as_the_collection_says() {
    let often = ["--setParameter", "ttlMonitorSleepSecs=1"];
    let mongo = MongoDb::options().arguments(&often).start().await.unwrap();
    let expiring = node(&format!("{}&collection=expiring&ttl=4s", mongo.url())).await;
    expire(&expiring, async || documents(&mongo, "expiring").await).await;
    let capped = node(&format!("{}&collection=capped&capped_bytes=64KiB", mongo.url())).await;
    persist(&capped, 40, 8_000).await;
    let stored = documents(&mongo, "capped").await;
    assert!((1..10).contains(&stored), "{stored} are stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn rabbitmq_keeps_as_many_as_the_history_has_bytes() {
    let rabbit = RabbitMq::start().await.unwrap();
    let node = node(&format!("{}?history=on&history_bytes=64KiB", rabbit.url())).await;
    persist(&node, 100, 8_000).await;
    let stored = async || {
        let queues = rabbit.ctl(&["list_queues", "name", "messages", "--no-table-headers", "--quiet"]).await.unwrap();
        let log = queues.lines().find_map(|line| line.trim().strip_prefix("trunkline.trunkline.log")).unwrap();
        log.trim().parse::<usize>().unwrap()
    };
    let late = || "they are still there".to_owned();
    eventually(Duration::from_secs(60), late, async || (1..50).contains(&stored().await)).await.unwrap();
}

#[tokio::test]
async fn the_embedded_transport_keeps_as_many_as_the_limit_says() {
    let node = node("memory://sessions?history=on&sessions=10").await;
    let since = node.offset().await.unwrap();
    persist(&node, 30, 0).await;
    let restore = async |number: usize, since: &Offset| {
        let id = SessionId::new(number.to_string()).unwrap();
        node.restore_session(id, since.clone()).await.unwrap().is_some()
    };
    for (number, is_kept) in [(0, false), (19, false), (20, true), (29, true)] {
        assert_eq!(restore(number, &since).await, is_kept, "session {number}");
    }
}
