//! Offsets at the end of events: one setting of the bridge, which means the same on every backend with a history.

use serde_json::Value;
use trunkline_brokers::{MongoDb, Nats, Postgres, RabbitMq, Redis};
use trunkline_socketioxide::Cluster;

use crate::kit::{Client, Server, TIMEOUT};

/// URLs of the cluster of this name on every backend that keeps a history, and on one that does not.
async fn urls(name: &str) -> [(String, bool); 7] {
    let redis = Redis::shared().await.unwrap();
    [
        (format!("memory://{name}?history=on"), true),
        (format!("{redis}?mode=streams&prefix={name}&stream={name}"), true),
        (format!("{}&collection={name}", MongoDb::shared().await.unwrap()), true),
        (format!("{}?prefix={name}&history=on", Postgres::shared().await.unwrap()), true),
        (format!("{}?prefix={name}&history=on", RabbitMq::shared().await.unwrap()), true),
        (format!("{}?prefix={name}&history=on", Nats::shared().await.unwrap()), true),
        (format!("{redis}?mode=pubsub&prefix={name}"), false),
    ]
}

/// What clients of two servers get of an event with one argument.
async fn arguments(url: &str, appends: bool) -> [Vec<Value>; 2] {
    let mut servers = Vec::new();
    for msgpack in [false, true] {
        let builder = Cluster::builder(trunkline::connect(url).await.expect(url));
        // The setting is left out where it is off.
        let builder = if appends { builder.append_offsets(true) } else { builder };
        servers.push(Server::of(builder, msgpack).await);
    }
    let root = servers[0].cluster.of("/").unwrap();
    root.await_peers(1, TIMEOUT).await.unwrap();
    let mut clients = [Client::with(&servers[0], "/", &()).await, Client::with(&servers[1], "/", &()).await];
    clients[0].emit("broadcast", &()).await;
    let mut got = Vec::new();
    for client in &mut clients {
        let mut values: Vec<Value> = client.event("broadcast").await.deserialize().unwrap();
        assert_eq!(values.remove(0), "broadcast", "{url}");
        assert!(values.remove(0).as_str().unwrap().starts_with("hello"), "{url}");
        got.push(values);
    }
    got.try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_the_same_on_every_backend_until_offsets_are_asked_for() {
    for appends in [false, true] {
        let name = format!("o{:x}", fastrand::u64(..1 << 40));
        for (url, has_history) in urls(&name).await {
            let [here, there] = arguments(&url, appends).await;
            assert_eq!(here, there, "{url}");
            assert_eq!(here.len(), usize::from(appends && has_history), "{url}: {here:?}");
            assert!(here.iter().all(Value::is_string), "{url}: {here:?}");
        }
    }
}
