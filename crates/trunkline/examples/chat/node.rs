//! One node: a web server with the page and a Socket.IO server, and the task that keeps its pages up to date.

use std::{sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    adapter::{self, Io, Socket},
    fleet::{Command, Running},
    page,
    people::People,
    wire::{NodeView, Person},
};

/// What the handlers of one node share.
#[derive(Debug)]
pub(crate) struct Chat {
    pub(crate) port: u16,
    pub(crate) people: People,
    pub(crate) commands: mpsc::Sender<Command>,
    running: watch::Receiver<Running>,
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
        broker: &str,
        commands: mpsc::Sender<Command>,
        running: watch::Receiver<Running>,
    ) -> Result<Self, String> {
        let port = listener.local_addr().map_err(|error| error.to_string())?.port();
        let chat = Arc::new(Chat { port, people: People::new(), commands, running });
        let (layer, io) = adapter::server(chat.clone(), broker).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let app = page::routes(port).layer(layer);
        let serving = axum::serve(listener, app).with_graceful_shutdown(async { drop(stopped.await) });
        let server = tokio::spawn(async {
            if let Err(error) = serving.await {
                eprintln!("a node's web server ended: {error}");
            }
        });
        let updates = tokio::spawn(keep_pages_up_to_date(chat, io.clone()));
        Ok(Self { io, stop, server, updates })
    }

    /// Takes no new connection, then closes those it has: their pages move to other nodes.
    pub(crate) async fn stop(mut self) {
        // Fails only if the server has ended by itself.
        self.stop.send(()).ok();
        self.updates.abort();
        self.io.close().await;
        if timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}

/// Sends the nodes and who is on them to the pages of this node whenever that has changed.
async fn keep_pages_up_to_date(chat: Arc<Chat>, io: Io) {
    let mut people = chat.people.changes();
    let mut running = chat.running.clone();
    loop {
        tokio::select! {
            Ok(()) = people.changed() => {}
            Ok(()) = running.changed() => {}
            else => return,
        }
        // A page whose buffer is full misses this update and gets the next.
        io.local().emit("nodes", &chat.nodes()).await.ok();
    }
}

/// How long a browser may hold on to an open request.
const GRACE: Duration = Duration::from_secs(2);
