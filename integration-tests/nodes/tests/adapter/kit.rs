//! Servers and clients of a test.

#[path = "../../../../crates/socketioxide/tests/bridge/kit/client.rs"]
#[allow(dead_code)]
mod client;
#[path = "../../../../crates/socketioxide/tests/bridge/kit/packet.rs"]
#[allow(dead_code)]
mod packet;

use std::{net::SocketAddr, time::Duration};

use futures_util::future::join_all;
use socketioxide::{ParserConfig, SocketIo, adapter::Emitter};
use tokio::{net::TcpListener, task::JoinHandle};
use trunkline::Backend;
use trunkline_socketioxide::{Cluster, ClusterBuilder, Trunkline};

pub(crate) use self::client::Client;
use crate::handlers;

pub(crate) type A = Trunkline<Emitter>;

const SERVERS: usize = 3;
const CLIENTS: usize = 10;

/// How long anything may take on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);

/// Waits for what must happen; a generous limit around it.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIMEOUT, what).await.expect("it should have happened by now")
}

/// A server that is a node of a cluster.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) msgpack: bool,
    pub(crate) cluster: Cluster,
    http: JoinHandle<()>,
}

impl Server {
    async fn start(backend: Backend, msgpack: bool) -> Self {
        Self::of(Cluster::builder(backend), msgpack).await
    }

    pub(crate) async fn of(cluster: ClusterBuilder, msgpack: bool) -> Self {
        let cluster = cluster.build();
        let builder = SocketIo::builder().with_adapter::<A>(cluster.clone());
        let builder = if msgpack { builder.with_parser(ParserConfig::msgpack()) } else { builder };
        let (layer, io) = builder.build_layer();
        io.ns("/", handlers::connected).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().layer(layer);
        let http = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, msgpack, cluster, http }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.http.abort();
    }
}

/// Runs a test with clients that have just connected to the servers of a cluster.
pub(crate) async fn with_clients<B, T>(test: &str, connect: impl Fn(String) -> B, run: impl FnOnce(Vec<Client>) -> T)
where
    B: Future<Output = Backend>,
    T: Future<Output = ()>,
{
    let name = format!("e{:x}", fastrand::u64(..1 << 40));
    let msgpack = test.len().is_multiple_of(2);
    let mut servers = Vec::new();
    for _ in 0..SERVERS {
        servers.push(Server::start(connect(name.clone()).await, msgpack).await);
    }
    for server in &servers {
        server.cluster.of("/").unwrap().await_peers(SERVERS - 1, TIMEOUT).await.unwrap();
    }
    let mut clients = Vec::new();
    for index in 0..CLIENTS {
        // It waits for the event `ready`: a client is connected a moment before it is in its rooms and heard.
        clients.push(Client::with(&servers[index % SERVERS], "/", &serde_json::json!({})).await);
    }
    run(clients).await;
    join_all(servers.iter().map(|server| async {
        let root = server.cluster.of("/").unwrap();
        root.close();
        root.closed().await;
    }))
    .await;
}
