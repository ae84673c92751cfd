//! One node: a web server with the page and a Socket.IO server, and the task that keeps its pages up to date.

use std::{sync::Arc, time::Duration};

use axum::serve::ListenerExt;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    adapter::{self, Io, ServerConfig, Socket},
    fleet::{Command, Running},
    monitoring, page,
    people::People,
    presence,
    wire::{NodeView, Person},
};

/// What the handlers of one node share.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) port: u16,
    pub(crate) people: People,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) running: watch::Receiver<Running>,
}

impl Chat {
    pub(crate) fn nodes(&self) -> Vec<NodeView> {
        self.people.nodes(self.port, &self.running.borrow())
    }

    pub(crate) fn person(&self, socket: &Socket) -> Result<Person, String> {
        self.people.find(socket.id).ok_or_else(|| "this page is not connected any more".to_owned())
    }
}

/// A running node. It owns its tasks: they have ended when `stop` returns.
pub(crate) struct Node {
    io: Io,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
    updates: JoinHandle<()>,
}

impl Node {
    pub(crate) async fn start(
        listener: TcpListener,
        servers: &ServerConfig,
        commands: mpsc::Sender<Command>,
        running: watch::Receiver<Running>,
    ) -> Result<Self, String> {
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let chat = Arc::new(Chat { port, people: People::new(), commands, running });
        let (layer, io, handle, cluster) = adapter::server(&chat, servers).await?;
        // Small packets leave at once instead of waiting for the page's confirmation of the one before.
        let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
        let (stop, stopped) = oneshot::channel::<()>();
        let app = page::routes(port).merge(monitoring::routes(&cluster)).layer(layer);
        let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
        let server = tokio::spawn(async {
            if let Err(error) = serving.await {
                eprintln!("a node's web server ended: {error}");
            }
        });
        let updates = tokio::spawn(presence::keep_up_to_date(chat, io.clone(), handle));
        Ok(Self { io, stop, server, updates })
    }

    /// Takes no new connection, then closes those it has: their pages move to other nodes.
    pub(crate) async fn stop(mut self) {
        // Fails only if the server has ended by itself.
        self.stop.send(()).ok();
        self.updates.abort();
        // It ends with "cancelled".
        (&mut self.updates).await.ok();
        self.io.close().await;
        if timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// How long a browser may hold on to an open request.
const GRACE: Duration = Duration::from_secs(2);
