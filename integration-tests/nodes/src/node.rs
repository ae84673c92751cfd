//! One node: a web server with a Socket.IO server, and what it does for every client.

use std::{sync::Arc, time::Duration};

use axum::Router;
use socketioxide::{
    ParserConfig, SocketIo, TransportType,
    extract::{AckSender, State, TryData},
};
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle, time::timeout};

use crate::{
    PacketParser,
    adapter::{self, Adapter, Io, Socket},
    operation::{self, Operation, Outcome},
    values::Arguments,
};

/// What the handlers of one node share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Its place in the list that was printed.
    pub(crate) node: u16,
}

/// A running node. It owns its task.
pub(crate) struct Node {
    pub(crate) address: String,
    io: Io,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(
        node: u16,
        listener: TcpListener,
        parser: PacketParser,
        max_buffer_size: usize,
        broker: &str,
    ) -> Result<Self, String> {
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let builder = SocketIo::builder().max_buffer_size(max_buffer_size).max_payload(MAX_PAYLOAD);
        let builder = match parser {
            PacketParser::Common => builder.with_parser(ParserConfig::common()),
            PacketParser::Msgpack => builder.with_parser(ParserConfig::msgpack()),
        };
        let (layer, io) = adapter::server(builder, Arc::new(Shared { node }), broker).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let serving =
            axum::serve(listener, Router::new().layer(layer)).with_graceful_shutdown(async { drop(stopped.await) });
        let server = tokio::spawn(async {
            if let Err(error) = serving.await {
                eprintln!("test-node: a web server ended: {error}");
            }
        });
        Ok(Self { address: format!("http://{address}"), io, stop, server })
    }

    pub(crate) async fn stop(mut self) {
        // Fails only if the server has ended by itself.
        self.stop.send(()).ok();
        self.io.close().await;
        if timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Registers the handlers first and greets last: a client that has been greeted is heard.
pub(crate) async fn connected(socket: Socket, transport: TransportType, State(shared): State<Arc<Shared>>) {
    socket.on("op", perform);
    socket.on("echo", echo);
    socket.on_disconnect(farewell);
    // Fails only when the client is gone already.
    socket.emit("ready", &(shared.node, socket.id, format!("{transport:?}").to_lowercase())).ok();
}

async fn perform(socket: Socket, io: Io, TryData(operation): TryData<Operation>, ack: AckSender<Adapter>) {
    let outcome = match operation {
        Ok(operation) => operation::perform(&socket, &io, operation).await,
        Err(error) => Err(format!("not an operation: {error}")),
    };
    ack.send(&outcome.unwrap_or_else(Outcome::failed)).ok();
}

/// Whatever comes goes back.
async fn echo(TryData(arguments): TryData<Arguments>, ack: AckSender<Adapter>) {
    ack.send(&arguments.unwrap_or_default()).ok();
}

/// Tells everybody in the namespace that a client has gone, so that a test can wait for it.
async fn farewell(socket: Socket, io: Io) {
    if let Some(namespace) = io.of(socket.ns()) {
        namespace.emit("left", &socket.id).await.ok();
    }
}

const MAX_PAYLOAD: u64 = 8 << 20;
const GRACE: Duration = Duration::from_secs(2);
