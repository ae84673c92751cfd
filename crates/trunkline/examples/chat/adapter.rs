//! Where the servers meet the cluster: these lines are all that a server needs to become one of its nodes.

use std::sync::Arc;

use socketioxide::{SocketIo, handler::ConnectHandler, layer::SocketIoLayer};
use trunkline_socketioxide::{Cluster, NamespaceHandle, Trunkline};
pub(crate) use trunkline_socketioxide::{ClusterIo as Io, ClusterSocket as Socket};

use crate::{chat, history::History, node::Chat, presence};

/// The server of one node, and what it knows of the others; on return it hears them.
pub(crate) async fn server(
    chat: &Arc<Chat>,
    broker: &str,
) -> Result<(SocketIoLayer<Trunkline>, Io, NamespaceHandle, Cluster), String> {
    let backend = trunkline::connect(broker).await.map_err(|error| error.to_string())?;
    let cluster = Cluster::builder(backend.clone()).append_offsets(true).build();
    let history = History::new(cluster.clone(), &backend);
    presence::listen(&cluster, chat.clone());
    let builder = chat::configured(SocketIo::builder(), chat.clone(), history).with_state(cluster.clone());
    let (layer, io) = builder.with_adapter::<Trunkline>(cluster.clone()).build_layer();
    cluster.attach(&io);
    io.ns("/", chat::connected.with(chat::admit)).await.map_err(|error| error.to_string())?;
    let handle = cluster.of("/").map_err(|error| error.to_string())?;
    Ok((layer, io, handle, cluster))
}
