//! A socketioxide server that is a node of a cluster.

use std::{net::SocketAddr, sync::atomic::AtomicU32, time::Duration};

use serde::Deserialize;
use socketioxide::{
    ParserConfig, SocketIo,
    extract::{AckSender, TryData},
};
use tokio::{net::TcpListener, task::JoinHandle};
use trunkline_core::{
    Backend,
    memory::{HistoryLimits, MemoryConfig, backend},
};
use trunkline_socketioxide::{Cluster, ClusterBuilder, Trunkline};
pub(crate) use trunkline_socketioxide::{ClusterIo as Io, ClusterSocket as Socket};

use super::PATIENCE;

pub(crate) type A = Trunkline;

/// How a server is set up.
pub(crate) struct Options {
    pub(crate) backend: Backend,
    pub(crate) msgpack: bool,
    pub(crate) buffer: usize,
    pub(crate) configure: fn(ClusterBuilder) -> ClusterBuilder,
}

impl Options {
    /// In a hub of its own.
    pub(crate) fn new() -> Self {
        Self::over(hub(MemoryConfig::default()))
    }

    /// In a hub of its own that keeps a history.
    pub(crate) fn with_history(limits: HistoryLimits) -> Self {
        Self::over(hub(MemoryConfig { history: Some(limits) }))
    }

    pub(crate) fn over(backend: Backend) -> Self {
        Self { backend, msgpack: false, buffer: 128, configure: |builder| builder }
    }

    /// For another node of the same cluster.
    pub(crate) fn again(&self) -> Self {
        Self { backend: self.backend.clone(), ..*self }
    }
}

fn hub(config: MemoryConfig) -> Backend {
    static HUBS: AtomicU32 = AtomicU32::new(0);
    let number = HUBS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    backend(&format!("bridge-{number}"), config).unwrap()
}

pub(crate) struct Server {
    pub(crate) io: Io,
    pub(crate) cluster: Cluster,
    pub(crate) address: SocketAddr,
    pub(crate) msgpack: bool,
    http: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(options: Options) -> Self {
        let cluster = (options.configure)(Cluster::builder(options.backend)).build();
        let builder = SocketIo::builder().max_buffer_size(options.buffer).with_adapter::<A>(cluster.clone());
        let builder = if options.msgpack { builder.with_parser(ParserConfig::msgpack()) } else { builder };
        let (layer, io) = builder.build_layer();
        io.ns("/", connected).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().layer(layer);
        let http = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { io, cluster, address, msgpack: options.msgpack, http }
    }

    pub(crate) fn root(&self) -> trunkline_socketioxide::NamespaceHandle {
        self.cluster.of("/").unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.http.abort();
    }
}

/// Two nodes that know each other.
pub(crate) async fn pair() -> [Server; 2] {
    let options = Options::new();
    servers([options.again(), options]).await
}

/// Nodes that know each other.
pub(crate) async fn servers<const N: usize>(options: [Options; N]) -> [Server; N] {
    let mut started = Vec::new();
    for options in options {
        started.push(Server::start(options).await);
    }
    for server in &started {
        server.root().await_peers(N - 1, PATIENCE).await.unwrap();
    }
    started.try_into().unwrap_or_else(|_| unreachable!())
}

/// What a client wishes.
#[derive(Default, Deserialize)]
pub(crate) struct Auth {
    #[serde(default)]
    rooms: Vec<String>,
}

/// What every namespace of these servers does with a client: rooms as it wishes, then a greeting.
pub(crate) async fn connected(socket: Socket, TryData(auth): TryData<Auth>) {
    socket.on("join", |socket: Socket, TryData::<String>(room), ack: AckSender<A>| async move {
        socket.join(room.unwrap());
        ack.send(&()).unwrap();
    });
    socket.on("say", |socket: Socket, TryData::<(String, String)>(said)| async move {
        let (room, text) = said.unwrap();
        socket.to(room).emit("said", &text).await.unwrap();
    });
    socket.join(auth.unwrap_or_default().rooms);
    socket.emit("ready", &()).unwrap();
}

/// Short enough for tests that wait for it.
pub(crate) const SHORT: Duration = Duration::from_millis(200);
