//! Two servers in one process that are nodes of one cluster: say, one for the public and one for the staff, on a port
//! that only they can reach.
//!
//! Each server has a `Cluster` of its own, made from a clone of the backend: they share its connections. One `Cluster`
//! for both would be one node with two servers, of which the second would take the place of the first.

use axum::{Router, extract::State, http::StatusCode, routing::post};
use socketioxide::SocketIo;
use trunkline_socketioxide::{AwaitedRooms, Cluster, ClusterIo, ClusterSocket, Trunkline};

use crate::{Result, listen};

pub(crate) async fn run(broker: &str, port: u16) -> Result<()> {
    let backend = trunkline::connect(broker).await?;

    let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(Cluster::from(backend.clone())).build_layer();
    io.ns("/", connected).await?;
    let public = axum::serve(listen(port).await?, Router::new().layer(layer));

    let (layer, io) = SocketIo::builder().with_adapter::<Trunkline>(Cluster::from(backend)).build_layer();
    io.ns("/", connected).await?;
    // A route of the staff's server emits to the clients of both.
    let app = Router::new().route("/announce", post(announce)).with_state(io).layer(layer);
    let staff = axum::serve(listen(0).await?, app);

    tokio::try_join!(public, staff)?;
    Ok(())
}

async fn connected(socket: ClusterSocket) {
    socket.join_awaited("lobby").await.ok();
    socket.emit("ready", &()).ok();
}

async fn announce(State(io): State<ClusterIo>, text: String) -> StatusCode {
    match io.to("lobby").emit("said", &text).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
