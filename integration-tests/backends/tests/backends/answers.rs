//! Answers larger than what a broker takes at once: a notification of PostgreSQL has 8,000 bytes, a document of MongoDB 16 MB.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use trunkline::{Payload, Target};
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_conformance::{
    Setup,
    kit::{ClientSpec, TestCluster},
};

/// Fetches so many sockets with handshakes of `bytes` each from one node at another one.
async fn fetch(url: &str, count: usize, bytes: usize) {
    let text = "h".repeat(bytes);
    let setup = Setup::new({
        let url = url.to_owned();
        move |_| {
            let url = url.clone();
            async move { trunkline::connect(&url).await }
        }
    });
    let cluster = TestCluster::new(&setup);
    let [asking, answering] = cluster.nodes().await.unwrap();
    let headers = BTreeMap::from([("cookie", text.as_str())]);
    let handshake = Payload::value(&BTreeMap::from([("headers", headers)])).unwrap();
    let spec = ClientSpec::new().rooms(["all"]).handshake(handshake);
    for _ in 0..count {
        answering.connect(spec.clone()).await.unwrap();
    }
    let begun = Instant::now();
    let sockets = asking.fetch_sockets(Target::room("all")).await.unwrap();
    println!("{url}: {count} sockets after {:?}", begun.elapsed());
    assert_eq!(sockets.len(), count, "{url}");
    let is_whole = sockets.iter().all(|socket| {
        let handshake = socket.handshake.as_ref().map(|handshake| handshake.to_json().text.to_string());
        handshake.is_some_and(|handshake| handshake.contains(&format!("\"{text}\"")))
    });
    assert!(is_whole, "{url}: a handshake is not as it was");
    assert_eq!(asking.metrics().malformed, 0, "{url}");
    assert!(begun.elapsed() < Duration::from_secs(60), "{url}");
}

/// Each answer is larger than the broker's limit for one message, as it is unless set.
#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_sockets_with_headers_are_fetched_whole() {
    let name = format!("answers{}", std::process::id());
    let redis = Redis::shared().await.unwrap();
    for (url, bytes) in [
        (format!("{redis}?mode=pubsub&prefix={name}"), 10_000),
        (format!("{redis}?mode=sharded&prefix={name}_sharded"), 10_000),
        (format!("{redis}?mode=streams&prefix={name}_streams&stream={name}"), 10_000),
        (format!("{}&collection={name}", MongoDb::shared().await.unwrap()), 10_000),
        (format!("{}?prefix={name}", Postgres::shared().await.unwrap()), 1_000),
        (format!("{}?prefix={name}_history&history=on", Postgres::shared().await.unwrap()), 1_000),
        (format!("{}?prefix={name}", RabbitMq::shared().await.unwrap()), 4_000),
        (format!("{}?prefix={name}", Nats::shared().await.unwrap()), 1_000),
    ] {
        fetch(&url, 2_000, bytes).await;
    }
}
