//! The adapter of the servers. No other file knows which one they use.

use std::sync::Arc;

use socketioxide::{
    SocketIo, SocketIoBuilder,
    adapter::{Emitter, LocalAdapter},
    extract::SocketRef,
    layer::SocketIoLayer,
    operators::BroadcastOperators,
};
use trunkline_socketioxide::Trunkline;

use crate::node::{Shared, connected};

pub(crate) type Adapter = Trunkline<Emitter>;
pub(crate) type Io = SocketIo<Adapter>;
pub(crate) type Socket = SocketRef<Adapter>;
pub(crate) type Operators = BroadcastOperators<Adapter>;

/// Creates the server of one node with its namespaces; on return it is connected to the cluster.
pub(crate) async fn server(
    builder: SocketIoBuilder<LocalAdapter>,
    shared: Arc<Shared>,
) -> Result<(SocketIoLayer<Adapter>, Io), String> {
    let cluster = shared.cluster.clone();
    let (layer, io) = builder.with_state(shared).with_adapter::<Adapter>(cluster).build_layer();
    io.ns("/", connected).await.map_err(|error| error.to_string())?;
    io.ns("/other", connected).await.map_err(|error| error.to_string())?;
    io.dyn_ns("/dynamic/{name}", connected).map_err(|error| error.to_string())?;
    Ok((layer, io))
}
