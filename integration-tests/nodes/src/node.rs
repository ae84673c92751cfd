//! One node: a web server with a Socket.IO server, and its handlers.

use std::{sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use rmpv::Value;
use socketioxide::{
    ParserConfig, SocketIo, TransportType,
    extract::{AckSender, State, TryData},
    socket::DisconnectReason,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use trunkline::{Backend, Emitter, NodeConfig};
use trunkline_socketioxide::{AwaitedRooms, Cluster, Handshake};

use crate::{
    PacketParser,
    adapter::{self, Adapter, Io, Socket},
    monitoring,
    operation::{self, Operation, Outcome},
    server_side,
    values::Arguments,
};

/// State shared by the handlers of one node.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Number of the node, which it sends to its clients.
    pub(crate) node: u16,
    pub(crate) cluster: Cluster,
    /// Performs the operations that an emitter has, instead of the node.
    pub(crate) emitter: Option<Emitter>,
}

/// Options of a node.
pub(crate) struct Options {
    /// Number of the node, which it sends to its clients.
    pub(crate) node: u16,
    pub(crate) parser: PacketParser,
    pub(crate) max_buffer_size: usize,
    pub(crate) append_offsets: bool,
    pub(crate) heartbeat_interval: Duration,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) emitter: Option<Emitter>,
}

/// A running node. It owns its tasks.
pub(crate) struct Node {
    pub(crate) address: String,
    io: Io,
    cluster: Cluster,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    notices: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(listener: TcpListener, options: Options, backend: Backend) -> Result<Self, String> {
        let Options { node, parser, max_buffer_size, append_offsets, heartbeat_interval, heartbeat_timeout, emitter } =
            options;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let builder = SocketIo::builder().max_buffer_size(max_buffer_size).max_payload(MAX_PAYLOAD);
        let builder = match parser {
            PacketParser::Common => builder.with_parser(ParserConfig::common()),
            PacketParser::Msgpack => builder.with_parser(ParserConfig::msgpack()),
        };
        let mut config = NodeConfig::default();
        config.engine.heartbeat_interval = heartbeat_interval;
        config.engine.heartbeat_timeout = heartbeat_timeout;
        let cluster = Cluster::builder(backend)
            .config(config)
            .append_offsets(append_offsets)
            .namespace_pattern("/dynamic/{name}")
            .build();
        let (sender, notices) = mpsc::unbounded_channel();
        for namespace in ["/", "/other"] {
            server_side::listen(&cluster, namespace, node, sender.clone());
        }
        let shared = Arc::new(Shared { node, cluster: cluster.clone(), emitter });
        let (layer, io) = adapter::server(builder, shared).await?;
        cluster.attach(&io);
        let notices = tokio::spawn(server_side::pass_on(notices, io.clone()));
        // Small packets leave at once instead of waiting for the client's confirmation of the one before.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = axum::serve(listener, monitoring::routes(&cluster).layer(layer))
            .with_graceful_shutdown(async { drop(stopped.await) });
        let server = tokio::spawn(async {
            if let Err(error) = serving.await {
                eprintln!("test-node: a web server ended: {error}");
            }
        });
        Ok(Self { address: format!("http://{address}"), io, cluster, stop, server, notices })
    }

    /// Waits until this node knows the others.
    pub(crate) async fn await_peers(&self, count: usize) -> Result<(), String> {
        for namespace in ["/", "/other"] {
            let handle = self.cluster.of(namespace).map_err(|error| error.to_string())?;
            handle.await_peers(count, READINESS).await.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    pub(crate) async fn stop(mut self) {
        // Fails only if the server has ended by itself.
        self.stop.send(()).ok();
        self.notices.abort();
        self.io.close().await;
        if timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Registers the handlers first and emits `ready` last: afterwards the client receives everything, also by its id on
/// wires where that has a channel.
pub(crate) async fn connected(
    socket: Socket,
    transport: TransportType,
    TryData(auth): TryData<Value>,
    State(shared): State<Arc<Shared>>,
) {
    show_handshake(&socket, &shared, auth.ok());
    socket.on("op", perform);
    socket.on("echo", echo);
    socket.on_disconnect(farewell);
    if let Ok(handle) = shared.cluster.of(socket.ns()) {
        handle.count_connect();
    }
    if let Err(error) = socket.join_awaited(socket.id).await {
        eprintln!("test-node: {} cannot be addressed yet: {error}", socket.id);
    }
    // Fails only when the client is gone already.
    socket.emit("ready", &(shared.node, socket.id, format!("{transport:?}").to_lowercase())).ok();
}

/// Shows the handshake with address and auth, unless the client wishes that the application says nothing about it.
fn show_handshake(socket: &Socket, shared: &Shared, auth: Option<Value>) {
    if socket.req_parts().uri.query().is_some_and(|query| query.contains("handshake=none")) {
        return;
    }
    let handshake = Handshake::of(socket).address("127.0.0.1");
    let handshake = match auth.filter(Value::is_map) {
        Some(auth) => handshake.auth(&auth),
        None => Ok(handshake),
    };
    let shown = shared.cluster.of(socket.ns()).and_then(|handle| handle.set_handshake(socket, &handshake?));
    if let Err(error) = shown {
        eprintln!("test-node: the handshake of {} is not shown: {error}", socket.id);
    }
}

async fn perform(
    socket: Socket,
    io: Io,
    TryData(operation): TryData<Operation>,
    ack: AckSender<Adapter>,
    State(shared): State<Arc<Shared>>,
) {
    let outcome = match operation {
        Ok(operation) => operation::perform(&socket, &io, &shared, operation).await,
        Err(error) => Err(format!("not an operation: {error}")),
    };
    ack.send(&outcome.unwrap_or_else(Outcome::failed)).ok();
}

/// Acknowledges with the arguments of the event.
async fn echo(TryData(arguments): TryData<Arguments>, ack: AckSender<Adapter>) {
    ack.send(&arguments.unwrap_or_default()).ok();
}

/// Emits to the namespace that a client has disconnected, so that a test can wait for it.
async fn farewell(socket: Socket, io: Io, reason: DisconnectReason, State(shared): State<Arc<Shared>>) {
    if let Ok(handle) = shared.cluster.of(socket.ns()) {
        handle.count_disconnect(reason);
    }
    if let Some(namespace) = io.of(socket.ns()) {
        namespace.emit("left", &socket.id).await.ok();
    }
}

const MAX_PAYLOAD: u64 = 8 << 20;
const READINESS: Duration = Duration::from_secs(20);
const GRACE: Duration = Duration::from_secs(2);
