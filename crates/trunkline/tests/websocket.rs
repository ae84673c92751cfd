//! The example's plain WebSocket server and a Socket.IO server in one cluster, with real clients of both.

// In helpers of tests, too, a panic is the failure message.
#![allow(clippy::unwrap_used)]

#[path = "../examples/websocket/server.rs"]
mod server;

use std::{net::SocketAddr, time::Duration};

use axum::Router;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use socketioxide::{SocketIo, extract::Data};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};
use trunkline_socketioxide::{Cluster, ClusterIo as Io, ClusterSocket as Socket, Trunkline, remote_id};

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

/// A WebSocket server and a Socket.IO server that know each other, and a client of each: the second one is in the room
/// `lobby`.
async fn cluster(hub: &str) -> (Io, Client, Client) {
    let backend = trunkline::connect(&format!("memory://{hub}")).await.unwrap();
    let (app, node) = server::app(backend.clone()).await.unwrap();
    let cluster = Cluster::from(backend);
    let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
    io.ns("/", connected).await.unwrap();
    node.await_peers(1, PATIENCE).await.unwrap();
    cluster.of("/").unwrap().await_peers(1, PATIENCE).await.unwrap();
    let websocket = Client::of_websocket(serve(app).await).await;
    let socket_io = Client::of_socket_io(serve(Router::new().layer(layer)).await).await;
    (io, websocket, socket_io)
}

async fn connected(socket: Socket) {
    socket.on("say", async |socket: Socket, Data::<String>(text)| {
        socket.to("lobby").emit("said", &text).await.unwrap();
    });
    socket.join("lobby");
    socket.emit("ready", socket.id.as_str()).unwrap();
}

/// A client over WebSocket that speaks plain JSON, or Socket.IO if it has a prefix before it.
struct Client {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    prefix: &'static str,
    id: String,
}

impl Client {
    async fn of_websocket(address: SocketAddr) -> Self {
        let mut client = Self::open(format!("ws://{address}/ws"), "").await;
        client.id = client.event("connected").await.as_str().unwrap().to_owned();
        client
    }

    async fn of_socket_io(address: SocketAddr) -> Self {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let mut client = Self::open(url, EVENT).await;
        client.stream.send(Message::text("40")).await.unwrap();
        client.id = client.event("ready").await.as_str().unwrap().to_owned();
        client
    }

    async fn open(url: String, prefix: &'static str) -> Self {
        let (stream, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(url)).await.unwrap().unwrap();
        Self { stream, prefix, id: String::new() }
    }

    async fn send(&mut self, message: Value) {
        self.stream.send(Message::text(format!("{}{message}", self.prefix))).await.unwrap();
    }

    /// Sends a command of the WebSocket server and waits until it is performed.
    async fn perform(&mut self, command: Value) {
        self.send(command).await;
        self.event("done").await;
    }

    /// The first argument of the next event, which must be of this name.
    async fn event(&mut self, name: &str) -> Value {
        loop {
            let message = timeout(PATIENCE, self.stream.next()).await.unwrap().unwrap().unwrap();
            let text = message.to_text().unwrap();
            // Socket.IO's opening of the connection is no event.
            let Some(event) = text.strip_prefix(self.prefix).filter(|event| event.starts_with('[')) else { continue };
            let event: Vec<Value> = serde_json::from_str(event).unwrap();
            assert_eq!(event[0], name, "{text}");
            return event.get(1).cloned().unwrap_or_default();
        }
    }

    async fn disconnected(mut self) {
        while let Some(Ok(message)) = timeout(PATIENCE, self.stream.next()).await.unwrap() {
            if message.is_close() {
                return;
            }
        }
    }
}

fn sorted(mut ids: Vec<String>) -> Vec<String> {
    ids.sort();
    ids
}

#[tokio::test]
async fn a_broadcast_to_a_room_reaches_its_members_on_the_other_server() {
    let (_io, mut websocket, mut socket_io) = cluster("websocket-broadcast").await;
    websocket.perform(json!({ "do": "emit", "room": "lobby", "event": "news", "data": { "deep": [1] } })).await;
    assert_eq!(socket_io.event("news").await, json!({ "deep": [1] }));

    websocket.perform(json!({ "do": "join", "room": "lobby" })).await;
    socket_io.send(json!(["say", "hello"])).await;
    assert_eq!(websocket.event("said").await, "hello");
}

#[tokio::test]
async fn a_client_gets_nothing_of_rooms_that_it_has_left_or_never_joined() {
    let (io, mut websocket, mut socket_io) = cluster("websocket-rooms").await;
    websocket.perform(json!({ "do": "join", "room": "x" })).await;
    websocket.perform(json!({ "do": "join", "room": "lobby" })).await;
    websocket.perform(json!({ "do": "leave", "room": "x" })).await;
    io.to("x").emit("not for it", &()).await.unwrap();
    io.to("lobby").except("lobby").emit("for none", &()).await.unwrap();
    io.to("lobby").emit("end", &()).await.unwrap();
    websocket.event("end").await;
    websocket.perform(json!({ "do": "emit", "room": "x", "event": "not for it", "data": null })).await;
    websocket.perform(json!({ "do": "emit", "room": "lobby", "event": "last", "data": null })).await;
    socket_io.event("end").await;
    socket_io.event("last").await;
}

#[tokio::test]
async fn each_server_fetches_the_sockets_of_both() {
    let (io, mut websocket, socket_io) = cluster("websocket-fetch").await;
    websocket.perform(json!({ "do": "join", "room": "lobby" })).await;
    let both = sorted(vec![websocket.id.clone(), socket_io.id.clone()]);

    websocket.send(json!({ "do": "fetch", "room": "lobby" })).await;
    let fetched: Vec<String> = serde_json::from_value(websocket.event("sockets").await).unwrap();
    assert_eq!(sorted(fetched), both);

    let fetched = io.within("lobby").fetch_sockets().await.unwrap();
    assert_eq!(sorted(fetched.iter().map(|socket| remote_id(socket.data())).collect()), both);
}

#[tokio::test]
async fn a_socket_io_server_moves_and_disconnects_a_websocket_client() {
    let (io, mut websocket, _socket_io) = cluster("websocket-remote").await;
    io.to(websocket.id.clone()).join("x").await.unwrap();
    io.to("x").emit("moved", &1).await.unwrap();
    assert_eq!(websocket.event("moved").await, 1);
    io.to("x").disconnect().await.unwrap();
    websocket.disconnected().await;
}

/// What stands before an event of Socket.IO.
const EVENT: &str = "42";

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
