//! Graceful shutdown behind a balancer, when SIGTERM comes.
//!
//! The order matters. The server stops listening first: the balancer sends new clients, and those that lose their
//! connection here, to other nodes. Only then does it disconnect its clients; the other way round they would come back
//! to it.

use std::time::Duration;

use axum::{Router, routing::get};
use socketioxide::{SocketIo, extract::Data};
use tokio::time::{sleep, timeout};
use trunkline_socketioxide::{AwaitedRooms, Cluster, ClusterSocket, Trunkline};

use crate::{Result, listen};

pub(crate) async fn run(broker: &str, port: u16) -> Result<()> {
    let cluster = Cluster::from(trunkline::connect(broker).await?);
    let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
    io.ns("/", connected).await?;
    // What the balancer asks: 200 means "send me clients".
    let app = Router::new().route("/ready", get(async || "ready")).layer(layer);

    // 1. Ends when SIGTERM comes, closes the listening socket, and answers the requests that are under way.
    //    WebSocket connections are no requests any more: they stay.
    axum::serve(listen(port).await?, app).with_graceful_shutdown(terminated()).await?;
    println!("stopped listening");
    // 2. What clients have sent is still handled while the balancer takes note.
    sleep(GRACE).await;
    // 3. Closes the connections; clients of Socket.IO reconnect by themselves, to another node.
    io.close().await;
    // 4. The other nodes hear that this one leaves, instead of missing it.
    timeout(LEAVE, cluster.closed()).await?;
    println!("left the cluster");
    Ok(())
}

async fn connected(socket: ClusterSocket) {
    socket.on("say", async |socket: ClusterSocket, Data::<String>(text)| {
        socket.within("lobby").emit("said", &text).await.ok();
    });
    socket.join_awaited("lobby").await.ok();
    socket.emit("ready", &()).ok();
}

/// SIGTERM, which service managers and Kubernetes send, or Ctrl+C.
async fn terminated() {
    #[cfg(unix)]
    {
        let terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate());
        let mut terminate = terminate.expect("signals can be received");
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await.ok();
}

/// At least the interval at which the balancer asks for `/ready`.
const GRACE: Duration = Duration::from_secs(2);

/// A broker that is away must not keep the process.
const LEAVE: Duration = Duration::from_secs(5);
