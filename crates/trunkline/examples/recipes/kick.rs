//! Throws a user out everywhere: `POST /kick/USER` to any node.
//!
//! All sockets of a user are in a room of theirs, so one call reaches those of all nodes. And the nodes tell each other
//! whom to refuse, because a page that is loaded again connects again.

use std::{
    collections::HashSet,
    future::ready,
    sync::{Arc, Mutex, PoisonError},
};

use axum::{
    Router,
    extract::{Path, State as AxumState},
    http::StatusCode,
    routing::post,
};
use serde::Deserialize;
use socketioxide::{
    SocketIo,
    extract::{State, TryData},
    handler::ConnectHandler,
};
use trunkline_socketioxide::{AwaitedRooms, Cluster, ClusterIo, ClusterSocket, ServerSideEvent, Trunkline};

use crate::{Result, listen};

/// In an application, the user follows from a checked token.
#[derive(Deserialize)]
struct Hello {
    user: String,
}

/// Known to the running nodes. What shall outlive them, and reach nodes that start later, belongs into a database.
#[derive(Clone, Default)]
struct Banned(Arc<Mutex<HashSet<String>>>);

impl Banned {
    fn add(&self, user: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(user);
    }

    fn contains(&self, user: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(user)
    }
}

pub(crate) async fn run(broker: &str, port: u16) -> Result<()> {
    let cluster = Cluster::from(trunkline::connect(broker).await?);
    let banned = Banned::default();
    let theirs = banned.clone();
    cluster.on_server_side_event("/", "ban", move |event: ServerSideEvent| {
        if let Ok((user,)) = event.arguments::<(String,)>() {
            theirs.add(user);
        }
        ready(())
    });
    let builder = SocketIo::builder().with_state(banned.clone()).with_adapter::<Trunkline>(cluster.clone());
    let (layer, io) = builder.build_layer();
    io.ns("/", connected.with(admit)).await?;
    let app = Router::new().route("/kick/{user}", post(kick)).with_state((cluster, io, banned)).layer(layer);
    axum::serve(listen(port).await?, app).await?;
    Ok(())
}

/// The error reaches the client as `connect_error`.
async fn admit(TryData(hello): TryData<Hello>, State(banned): State<Banned>) -> Result<(), String> {
    let Hello { user } = hello.map_err(|error| error.to_string())?;
    if banned.contains(&user) { Err("you are banned".to_owned()) } else { Ok(()) }
}

async fn connected(socket: ClusterSocket, TryData(hello): TryData<Hello>) {
    if let Ok(Hello { user }) = hello {
        // Awaited, so that from the greeting on the room reaches the socket from every node.
        socket.join_awaited(room(&user)).await.ok();
    }
    socket.emit("ready", &()).ok();
}

async fn kick(
    Path(user): Path<String>,
    AxumState((cluster, io, banned)): AxumState<(Cluster, ClusterIo, Banned)>,
) -> Result<StatusCode, (StatusCode, String)> {
    let failed = |error: &dyn std::fmt::Display| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let root = cluster.of("/").map_err(|error| failed(&error))?;
    // First whom to refuse: a client that is thrown out may be back at once.
    root.server_side_emit("ban", &(&user,)).await.map_err(|error| failed(&error))?;
    banned.add(user.clone());
    io.to(room(&user)).emit("kicked", &()).await.map_err(|error| failed(&error))?;
    io.to(room(&user)).disconnect().await.map_err(|error| failed(&error))?;
    Ok(StatusCode::NO_CONTENT)
}

fn room(user: &str) -> String {
    format!("user:{user}")
}
