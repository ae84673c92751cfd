//! A plain WebSocket server and a Socket.IO server in one cluster: rooms, broadcasts and fetched sockets reach from one
//! to the other.
//!
//! ```sh
//! cargo run --example websocket
//! ```
//!
//! The README of the crate says what to try.

mod server;

use socketioxide::{SocketIo, extract::Data};
use tokio::net::TcpListener;
use trunkline_socketioxide::{AwaitedRooms, Cluster, ClusterSocket as Socket, Trunkline};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let broker = std::env::args().nth(1).unwrap_or_else(|| "memory://websocket".to_owned());
    let backend = trunkline::connect(&broker).await?;

    let (app, _node) = server::app(backend.clone()).await?;
    let listener = TcpListener::bind("127.0.0.1:3101").await?;
    let websocket = axum::serve(listener, app);

    let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(Cluster::from(backend)).build_layer();
    io.ns("/", connected).await?;
    let listener = TcpListener::bind("127.0.0.1:3102").await?;
    let socket_io = axum::serve(listener, axum::Router::new().layer(layer));

    println!(
        "WebSocket on ws://127.0.0.1:3101/ws, Socket.IO on http://127.0.0.1:3102, one cluster over {}",
        broker.split(':').next().unwrap_or_default()
    );
    tokio::try_join!(websocket, socket_io)?;
    Ok(())
}

/// Socket.IO clients are in the room `lobby`; the event `say` is broadcast to its other members on both servers.
async fn connected(socket: Socket) {
    socket.on("say", async |socket: Socket, Data::<String>(text)| {
        socket.to("lobby").emit("said", &text).await.ok();
    });
    socket.join_awaited("lobby").await.ok();
    socket.emit("ready", &()).ok();
}
