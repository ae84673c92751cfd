//! What handles of a node ask of its driver, and where the answers go.

use std::{fmt, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::acks::AckItem;
use crate::{
    engine::{Gathered, Request},
    error::Result,
    model::{RequestError, RequestId, RequestKind, Room, Target},
    payload::Payload,
};

/// A command to the driver of a node.
#[derive(Debug)]
pub(super) enum Command {
    /// Starts a request; `published` is told when its message is queued.
    Request { request: Box<Request>, sink: ResponseSink, published: oneshot::Sender<Result<()>> },
    /// Ends a request whose caller is gone.
    Cancel(RequestId),
    /// Tells the broker about rooms into which own sockets were moved or, if it knows them as having members, out of
    /// which; the caller is gone.
    RoomsChanged { rooms: Vec<Room>, had_members: bool },
    /// Has the broker count the nodes, because a caller waits for some.
    CountNodes,
}

/// Where the answers to a request go.
#[derive(Debug)]
pub(super) enum ResponseSink {
    Gathered(oneshot::Sender<Result<Gathered, RequestError<Gathered>>>),
    Acks {
        items: mpsc::UnboundedSender<AckItem>,
        /// What to send to the own clients.
        local: Option<LocalAckBroadcast>,
    },
}

/// An acknowledged broadcast for the own clients: which of them, the packet, how long to wait.
pub(super) type LocalAckBroadcast = (Target, Payload, Duration);

/// A request that the driver has started.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) sink: ResponseSink,
    pub(super) published: Option<oneshot::Sender<Result<()>>>,
    /// What was asked of the other nodes, and when.
    pub(super) started: Option<(RequestKind, Instant)>,
}

impl ResponseSink {
    pub(super) fn take_local(&mut self) -> Option<LocalAckBroadcast> {
        match self {
            Self::Gathered(_) => None,
            Self::Acks { local, .. } => local.take(),
        }
    }

    /// Ends the request. Fails only when the caller is gone.
    pub(super) fn finish(self, result: Result<Gathered, RequestError<Gathered>>) {
        match self {
            Self::Gathered(sender) => drop(sender.send(result)),
            Self::Acks { items, .. } => {
                let result = result.map(drop).map_err(|error| error.map(|gathered| gathered.acks));
                drop(items.send(AckItem::End(result)));
            }
        }
    }
}

impl InFlight {
    pub(super) fn published(&mut self, result: Result<()>) {
        if let Some(published) = self.published.take() {
            // Fails only when the caller is gone.
            let _ = published.send(result);
        }
    }
}

/// Ends a request when its caller is dropped.
pub(super) struct CancelOnDrop {
    pub(super) request: RequestId,
    pub(super) commands: mpsc::Sender<Command>,
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // If the queue is full the request ends by its own deadline.
        let _ = self.commands.try_send(Command::Cancel(self.request.clone()));
    }
}

impl fmt::Debug for CancelOnDrop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelOnDrop({})", self.request)
    }
}
