//! What dynamic namespaces leave behind at real brokers: nothing, some time after their last client.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "../../../../crates/socketioxide/tests/bridge/kit/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../../../../crates/socketioxide/tests/bridge/kit/packet.rs"]
#[allow(dead_code)]
mod packet;

use std::{net::SocketAddr, time::Duration};

use socketioxide::SocketIo;
use tokio::net::TcpListener;
use trunkline_brokers::{Nats, RabbitMq, Redis};
use trunkline_conformance::kit::eventually;
use trunkline_socketioxide::{Cluster, ClusterIo, ClusterSocket, Trunkline};

use self::client::Client;

/// How long anything may take on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("it should have happened by now")
}

/// A server whose empty namespaces leave after a second.
struct Server {
    address: SocketAddr,
    msgpack: bool,
    cluster: Cluster,
    io: ClusterIo,
}

impl Server {
    async fn start(url: &str) -> Self {
        let backend = trunkline::connect(url).await.unwrap();
        let cluster = Cluster::builder(backend).close_empty_after(Duration::from_secs(1)).build();
        let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
        io.ns("/", greet).await.unwrap();
        io.dyn_ns("/room-{number}", greet).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().layer(layer);
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, msgpack: false, cluster, io }
    }
}

async fn greet(socket: ClusterSocket) {
    socket.emit("ready", &()).unwrap();
}

/// Visits so many namespaces. `held` asks the broker what it keeps for the nodes: subscriptions, queues.
async fn visit(url: &str, namespaces: usize, held: impl AsyncFn() -> usize) {
    let [a, b] = [Server::start(url).await, Server::start(url).await];
    a.cluster.of("/").unwrap().await_peers(1, TIMEOUT).await.unwrap();
    let before = held().await;
    let mut clients = Vec::new();
    for number in 0..namespaces {
        clients.push(Client::with(&a, &format!("/room-{number}"), &()).await);
    }
    let during = held().await;
    assert!(during >= before + namespaces, "{before} before, {during} with {namespaces} namespaces");
    drop(clients);
    let is_released = async || held().await <= before;
    eventually(TIMEOUT, || "the broker keeps something for empty namespaces".into(), is_released).await.unwrap();
    assert_eq!(a.cluster.namespaces().len(), 1);

    let mut there = Client::with(&b, "/room-7", &()).await;
    let mut back = Client::with(&a, "/room-7", &()).await;
    let known =
        [&a, &b].map(|server| async { server.cluster.join("/room-7").await.unwrap().await_peers(1, TIMEOUT).await });
    for peers in known {
        peers.await.unwrap();
    }
    for server in [&a, &b] {
        server.io.of("/room-7").unwrap().emit("news", &()).await.unwrap();
    }
    for client in [&mut there, &mut back] {
        client.event("news").await;
        client.event("news").await;
    }
}

async fn channels(redis: &Redis, which: &str) -> usize {
    redis.cli(&["PUBSUB", which]).await.unwrap().lines().filter(|line| !line.is_empty()).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_pubsub_has_no_channels_left() {
    let redis = Redis::start().await.unwrap();
    visit(&format!("{}?mode=pubsub", redis.url()), 200, async || channels(&redis, "CHANNELS").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_sharded_has_no_channels_left() {
    let redis = Redis::start().await.unwrap();
    visit(&format!("{}?mode=sharded", redis.url()), 200, async || channels(&redis, "SHARDCHANNELS").await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_has_no_subscriptions_left() {
    let nats = Nats::options().monitored().start().await.unwrap();
    let held = async || {
        let page: serde_json::Value = serde_json::from_str(&nats.page("/varz").await.unwrap()).unwrap();
        usize::try_from(page["subscriptions"].as_u64().unwrap()).unwrap()
    };
    visit(nats.url(), 100, held).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rabbitmq_has_no_bindings_left() {
    let rabbitmq = RabbitMq::start().await.unwrap();
    let held = async || {
        let bindings = rabbitmq.ctl(&["list_bindings", "--silent"]).await.unwrap();
        bindings.lines().filter(|line| !line.is_empty()).count()
    };
    visit(rabbitmq.url(), 30, held).await;
}
