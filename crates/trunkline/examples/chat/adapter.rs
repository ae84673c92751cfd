//! Where the servers meet the cluster: the only file that knows which adapter they use.

use std::sync::Arc;

use socketioxide::{
    SocketIo, adapter::LocalAdapter, extract::SocketRef, handler::ConnectHandler, layer::SocketIoLayer,
};

use crate::{chat, node::Chat};

pub(crate) type Adapter = LocalAdapter;
pub(crate) type Io = SocketIo<Adapter>;
pub(crate) type Socket = SocketRef<Adapter>;

/// A server for one node; on return it hears the rest of the cluster.
pub(crate) async fn server(chat: Arc<Chat>, _broker: &str) -> Result<(SocketIoLayer<Adapter>, Io), String> {
    let (layer, io) = chat::configured(SocketIo::builder(), chat).build_layer();
    io.ns("/", chat::connected.with(chat::refuse_unusable));
    Ok((layer, io))
}
