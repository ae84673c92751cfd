//! Servers with an admin page, and pages that speak the protocol over WebSocket.

use std::{collections::VecDeque, net::SocketAddr, sync::atomic::AtomicU32, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use socketioxide::SocketIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use trunkline_admin::{Admin, AdminConfig, Auth, admin};
use trunkline_socketioxide::{
    Backend, Cluster, ClusterIo, ClusterSocket, NodeConfig, Trunkline,
    core::memory::{self, MemoryConfig},
};

/// "changeit".
pub(crate) const HASH: &str = "$2b$06$L2d74A5YhEJAZ2D1w1w24ew7TCGvuexpk62hLH1r/3QeN3/l2EbIS";

pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    timeout(TIMEOUT, future).await.expect("in time")
}

/// A cluster of its own.
pub(crate) fn backend() -> Backend {
    static HUBS: AtomicU32 = AtomicU32::new(0);
    let number = HUBS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    memory::backend(&format!("admin-{number}"), MemoryConfig::default()).unwrap()
}

pub(crate) fn password() -> AdminConfig {
    AdminConfig::new(Auth::basic("admin", HASH).unwrap())
}

pub(crate) struct Server {
    pub(crate) io: ClusterIo,
    pub(crate) cluster: Cluster,
    pub(crate) admin: Admin,
    address: SocketAddr,
    http: JoinHandle<()>,
}

impl Server {
    /// Its sockets in `/` are watched, and enter the rooms that they name.
    pub(crate) async fn start(backend: &Backend, config: AdminConfig) -> Self {
        // Only what is to be seen is published.
        let mut node = NodeConfig::default();
        node.engine.heartbeat_interval = Duration::from_secs(3600);
        node.engine.heartbeat_timeout = Duration::from_secs(7200);
        let cluster = Cluster::builder(backend.clone()).config(node).build();
        let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
        let admin = admin(&io, &cluster, config).await.unwrap();
        let watching = admin.clone();
        let connected = async move |socket: ClusterSocket| {
            let socket = watching.watch(socket);
            socket.on("join", async |socket: ClusterSocket, socketioxide::extract::Data::<String>(room)| {
                socket.join(room);
                socket.emit("joined", &()).ok();
            });
            socket.emit("ready", &1).ok();
        };
        io.ns("/", connected).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = axum::Router::new().layer(layer);
        let http = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { io, cluster, admin, address, http }
    }

    /// Waits until it knows so many other servers.
    pub(crate) async fn knows(&self, others: usize) {
        self.cluster.of("/admin").unwrap().await_peers(others, TIMEOUT).await.unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.http.abort();
    }
}

/// A client of the common parser.
pub(crate) struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    namespace: &'static str,
    unread: VecDeque<Value>,
    pub(crate) id: String,
}

impl Client {
    /// A client in `/`, once the server has greeted it.
    pub(crate) async fn of(server: &Server) -> Self {
        let mut client = Self::connect(server, "/", &json!({})).await.unwrap();
        client.event("ready").await;
        client
    }

    /// A page, or what it was told when it was refused.
    pub(crate) async fn page(server: &Server, auth: Value) -> Result<Self, Value> {
        Self::connect(server, "/admin", &auth).await
    }

    async fn connect(server: &Server, namespace: &'static str, auth: &Value) -> Result<Self, Value> {
        let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", server.address);
        let (stream, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
        let mut client = Self { stream, namespace, unread: VecDeque::new(), id: String::new() };
        client.send(&format!("40{namespace},{auth}")).await;
        loop {
            let text = client.text().await.unwrap();
            if let Some(connected) = client.packet(&text, "40") {
                client.id = connected["sid"].as_str().unwrap().to_owned();
                return Ok(client);
            }
            if let Some(refused) = client.packet(&text, "44") {
                return Err(refused);
            }
        }
    }

    /// The data of a packet of this kind.
    fn packet(&self, text: &str, kind: &str) -> Option<Value> {
        let rest = text.strip_prefix(kind)?;
        let data = rest.strip_prefix(self.namespace).and_then(|rest| rest.strip_prefix(',')).unwrap_or(rest);
        serde_json::from_str(data).ok()
    }

    async fn text(&mut self) -> Option<String> {
        loop {
            match within(self.stream.next()).await?.ok()? {
                Message::Text(text) if text.as_str() == "2" => self.send("3").await,
                Message::Text(text) => return Some(text.as_str().to_owned()),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    pub(crate) async fn emit(&mut self, event: Value) {
        self.send(&format!("42{},{event}", self.namespace)).await;
    }

    /// The arguments of the next event of this name; others stay unread.
    pub(crate) async fn event(&mut self, name: &str) -> Vec<Value> {
        self.event_that(name, |_| true).await
    }

    /// The same, of the next one whose arguments are as wanted.
    pub(crate) async fn event_that(&mut self, name: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let is_wanted = |event: &Value| event[0] == name && event.as_array().is_some_and(|event| wanted(&event[1..]));
        let found = self.unread.iter().position(&is_wanted);
        let event = match found.and_then(|at| self.unread.remove(at)) {
            Some(event) => event,
            None => loop {
                let text = self.text().await.expect("connected");
                match self.packet(&text, "42") {
                    Some(event) if is_wanted(&event) => break event,
                    Some(event) => self.unread.push_back(event),
                    None => {}
                }
            },
        };
        event.as_array().unwrap()[1..].to_vec()
    }

    /// The next event that was read while another was waited for.
    pub(crate) fn unread_event(&mut self) -> Option<Value> {
        self.unread.pop_front()
    }

    /// Waits until the server has ended the namespace.
    pub(crate) async fn disconnected(&mut self) {
        let disconnect = if self.namespace == "/" { "41".to_owned() } else { format!("41{},", self.namespace) };
        while let Some(text) = self.text().await {
            if text == disconnect {
                return;
            }
        }
    }
}
