//! Who is online in the whole cluster, with their data: `GET /online` of any node.
//!
//! Nothing is stored and nothing has to be cleaned up: the nodes are asked. On Node.js nodes the data is `socket.data`.

use std::collections::BTreeMap;

use axum::{Json, Router, extract::State as AxumState, http::StatusCode, routing::get};
use serde::{Deserialize, Serialize};
use socketioxide::{
    SocketIo,
    extract::{State, TryData},
};
use trunkline::Target;
use trunkline_socketioxide::{Cluster, ClusterSocket, Trunkline};

use crate::{Result, listen};

/// What the others see of a person. In an application it follows from a checked token.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Person {
    user: String,
    name: String,
}

pub(crate) async fn run(broker: &str, port: u16) -> Result<()> {
    let cluster = Cluster::from(trunkline::connect(broker).await?);
    let builder = SocketIo::builder().with_state(cluster.clone()).with_adapter::<Trunkline>(cluster.clone());
    let (layer, io) = builder.build_layer();
    io.ns("/", connected).await?;
    let app = Router::new().route("/online", get(online)).with_state(cluster).layer(layer);
    axum::serve(listen(port).await?, app).await?;
    Ok(())
}

async fn connected(socket: ClusterSocket, TryData(person): TryData<Person>, State(cluster): State<Cluster>) {
    if let (Ok(person), Ok(root)) = (person, cluster.of("/")) {
        root.set_data(&socket, &person).ok();
    }
    socket.emit("ready", &()).ok();
}

/// Each person once, however many sockets they have; sorted by user.
async fn online(AxumState(cluster): AxumState<Cluster>) -> Result<Json<Vec<Person>>, StatusCode> {
    let root = cluster.of("/").map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    let sockets = match root.fetch_sockets(Target::all()).await {
        Ok(sockets) => sockets,
        // A node has not answered in time: most of the people are better than none.
        Err(error) => error.into_incomplete().ok_or(StatusCode::SERVICE_UNAVAILABLE)?.received,
    };
    let people = sockets.iter().filter_map(|socket| socket.data.as_ref()?.deserialize::<Person>().ok());
    let people: BTreeMap<_, _> = people.map(|person| (person.user.clone(), person)).collect();
    Ok(Json(people.into_values().collect()))
}
