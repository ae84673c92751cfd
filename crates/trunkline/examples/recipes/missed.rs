//! Sends a client that comes back, to any node, what it has missed. `POST /news` emits some.
//!
//! The other half is the client: `examples/chat/page/trunkline-client.js`, on top of the official one, keeps the offset
//! of the last event, sends it when it reconnects, and drops repeats. The broker must keep a history.

use axum::{Router, extract::State as AxumState, http::StatusCode, routing::post};
use serde::Deserialize;
use serde_json::json;
use socketioxide::{
    SocketIo,
    extract::{State, TryData},
    handler::ConnectHandler,
};
use trunkline::{Error, Offset};
use trunkline_socketioxide::{AwaitedRooms, Cluster, ClusterIo, ClusterSocket, Trunkline};

use crate::{Result, listen};

#[derive(Deserialize)]
struct Hello {
    /// Up to where the client has received everything.
    offset: Option<Offset>,
}

pub(crate) async fn run(broker: &str, port: u16) -> Result<()> {
    let backend = trunkline::connect(broker).await?;
    if backend.history.is_none() {
        return Err("this needs a broker with a history, such as redis://…?mode=streams".into());
    }
    // Every broadcast event carries its offset as last argument.
    let cluster = Cluster::builder(backend).append_offsets(true).build();
    let builder = SocketIo::builder().with_state(cluster.clone()).with_adapter::<Trunkline>(cluster);
    let (layer, io) = builder.build_layer();
    io.ns("/", connected.with(admit)).await?;
    let app = Router::new().route("/news", post(publish)).with_state(io).layer(layer);
    axum::serve(listen(port).await?, app).await?;
    Ok(())
}

/// Before the connection is confirmed: what is broadcast from here on waits behind what was missed.
async fn admit(socket: ClusterSocket, State(cluster): State<Cluster>) -> Result<(), Error> {
    cluster.pause(&socket);
    Ok(())
}

async fn connected(
    socket: ClusterSocket,
    io: ClusterIo,
    TryData(hello): TryData<Hello>,
    State(cluster): State<Cluster>,
) {
    let Ok(root) = cluster.of("/") else { return };
    socket.join_awaited("news").await.ok();
    // The events that carry an offset.
    socket.emit("ready", &json!({ "offsets": ["news", "mark"] })).ok();
    let replayed = match hello.ok().and_then(|hello| hello.offset) {
        Some(offset) => root.replay(&socket, offset).await.map(drop),
        None => {
            root.resume(&socket);
            Ok(())
        }
    };
    if replayed.is_err() {
        // The history does not reach back that far: the client loads its state anew.
        root.resume(&socket);
        socket.emit("missed", &()).ok();
    }
    // So that a client that receives nothing before it goes has an offset too.
    io.to(socket.id).emit("mark", &()).await.ok();
}

async fn publish(AxumState(io): AxumState<ClusterIo>, text: String) -> StatusCode {
    match io.to("news").emit("news", &text).await {
        Ok(()) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}
