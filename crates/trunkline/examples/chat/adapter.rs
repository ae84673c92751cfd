//! Where the servers meet the cluster: these lines are all that a server needs to become one of its nodes.

use std::sync::Arc;

use socketioxide::{SocketIo, handler::ConnectHandler, layer::SocketIoLayer};
use trunkline_admin::{AdminConfig, Auth, admin};
use trunkline_socketioxide::{Cluster, NamespaceHandle, Trunkline};
pub(crate) use trunkline_socketioxide::{ClusterIo as Io, ClusterSocket as Socket};

use crate::{chat, history::History, node::Chat, presence};

/// What the servers of all nodes have in common.
#[derive(Clone, Debug)]
pub(crate) struct ServerConfig {
    /// URL of the broker.
    pub(crate) broker: String,
    /// The bcrypt hash of the password of the admin page, if that is to show the server.
    pub(crate) admin: Option<String>,
}

/// The server of one node, and what it knows of the others; on return it hears them.
pub(crate) async fn server(
    chat: &Arc<Chat>,
    config: &ServerConfig,
) -> Result<(SocketIoLayer<Trunkline>, Io, NamespaceHandle, Cluster), String> {
    let backend = trunkline::connect(&config.broker).await.map_err(|error| error.to_string())?;
    let cluster = Cluster::builder(backend.clone()).append_offsets(true).build();
    let history = History::new(cluster.clone(), &backend);
    presence::listen(&cluster, chat.clone());
    let builder = chat::configured(SocketIo::builder(), chat.clone(), history).with_state(cluster.clone());
    let (layer, io) = builder.with_adapter::<Trunkline>(cluster.clone()).build_layer();
    cluster.attach(&io);
    if let Some(hash) = &config.admin {
        let auth = Auth::basic("admin", hash).map_err(|error| error.to_string())?;
        let page = AdminConfig::new(auth).development().server_id(format!("chat-{}", chat.port));
        admin(&io, &cluster, page).await.map_err(|error| error.to_string())?;
    }
    io.ns("/", chat::connected.with(chat::admit)).await.map_err(|error| error.to_string())?;
    let handle = cluster.of("/").map_err(|error| error.to_string())?;
    Ok((layer, io, handle, cluster))
}
