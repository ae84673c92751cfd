//! What a page missed while it moved from one node to another, where the broker keeps a history.
//!
//! A page notes the offset of each event and says the last one when it comes back. What was written meanwhile is sent
//! before anything newer, in order and once. Every page also gets a mark when it enters, so that it has an offset
//! before the first message.

use socketioxide::socket::Sid;
use trunkline::{Backend, ErrorKind, Offset};
use trunkline_socketioxide::Cluster;

use crate::adapter::{Io, Socket};

#[derive(Clone, Debug)]
pub(crate) struct History {
    cluster: Cluster,
    is_kept: bool,
}

impl History {
    pub(crate) fn new(cluster: Cluster, backend: &Backend) -> Self {
        Self { cluster, is_kept: backend.history.is_some() }
    }

    /// The events that carry their offset as last argument: those that are broadcast, neither volatile nor
    /// acknowledged.
    pub(crate) fn events(&self) -> &'static [&'static str] {
        if self.is_kept { &["message", MARK] } else { &[] }
    }

    /// Queues broadcasts for the page until it knows which events carry offsets and has what it missed.
    pub(crate) fn pause(&self, socket: &Socket) {
        if self.is_kept {
            self.cluster.pause(socket);
        }
    }

    /// Sends what was written in the page's rooms since `offset`, and lets it go on. Says whether that was everything.
    pub(crate) async fn catch_up(&self, socket: &Socket, offset: Option<String>) -> bool {
        let Ok(handle) = self.cluster.of(socket.ns()) else { return false };
        let Some(offset) = offset else {
            handle.resume(socket);
            return true;
        };
        let replayed = async { handle.replay(socket, Offset::new(offset)?).await };
        let Err(error) = replayed.await else { return true };
        handle.resume(socket);
        // Nothing unusual after a long absence.
        if error.kind() != ErrorKind::HistoryLost {
            eprintln!("what a page missed cannot be sent: {error}");
        }
        false
    }

    /// Tells the page where in the history it is: whatever it misses, it misses after this.
    pub(crate) async fn mark(&self, io: &Io, page: Sid) {
        if !self.is_kept {
            return;
        }
        if let Err(error) = io.to(page).emit(MARK, &()).await {
            eprintln!("a page cannot be told where in the history it is: {error}");
        }
    }
}

const MARK: &str = "mark";
