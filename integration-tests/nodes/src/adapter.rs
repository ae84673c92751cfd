//! Where the servers meet the cluster: the only file that knows which adapter they use.

use std::sync::Arc;

use socketioxide::{
    SocketIo, SocketIoBuilder, adapter::LocalAdapter, extract::SocketRef, layer::SocketIoLayer, operators::BroadcastOperators,
};

use crate::node::{Shared, connected};

pub(crate) type Adapter = LocalAdapter;
pub(crate) type Io = SocketIo<Adapter>;
pub(crate) type Socket = SocketRef<Adapter>;
pub(crate) type Operators = BroadcastOperators<Adapter>;

/// The server of one node with its namespaces; on return it hears the rest of the cluster.
pub(crate) async fn server(
    builder: SocketIoBuilder<LocalAdapter>,
    shared: Arc<Shared>,
    _broker: &str,
) -> Result<(SocketIoLayer<Adapter>, Io), String> {
    let (layer, io) = builder.with_state(shared).build_layer();
    io.ns("/", connected);
    io.ns("/other", connected);
    io.dyn_ns("/dynamic/{name}", connected).map_err(|error| error.to_string())?;
    Ok((layer, io))
}
