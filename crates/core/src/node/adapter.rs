//! What a server calls.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use futures_core::Stream;
use tokio::sync::{broadcast, mpsc};

use super::guards::Cancel;
use crate::{
    error::{Answers, Error, ErrorKind, Partial, Result},
    model::{
        Capabilities, Event, MetricsSnapshot, NodeId, NodeKey, Offset, Room, Session, SessionId, SocketInfo, Target,
    },
    payload::Payload,
    transport::{Health, MissedBroadcast, RestoredSession},
};

/// The cluster, as one node's server sees it.
///
/// Operations reach matching sockets of *all* nodes, this one included, unless `target.flags.local` is set. They return when the message
/// has its place in the queue to the broker; what one caller does in sequence arrives elsewhere in that sequence.
///
/// While the broker is away, messages are held up to a limit and sent on return; local sockets are served meanwhile (with history on,
/// they are served in the common order, once the broker is back). Errors say whether trying again helps.
///
/// *Cancel safety*: a dropped call has either been published or not; its pending answers are given up. What it has changed here stays, and
/// rooms that own sockets have joined become active all the same.
#[async_trait]
pub trait Adapter: fmt::Debug + Send + Sync {
    /// This node.
    fn node(&self) -> &NodeKey;

    /// What the backend promises.
    fn capabilities(&self) -> Capabilities;

    /// Sends a packet to the matching sockets.
    ///
    /// # Errors
    /// `TooLarge`, `QueueFull`, `Disconnected`, `Closed`: other nodes did not get it. Local sockets did, unless it is too large or closed.
    async fn broadcast(&self, target: Target, payload: Payload) -> Result<()>;

    /// Sends a packet to the matching sockets and gathers their acknowledgements, for as long as `target.flags.timeout` or the
    /// configured time says. Errors as [`Adapter::broadcast`], and `QueueFull` if too many requests wait.
    async fn broadcast_with_ack(&self, target: Target, payload: Payload) -> Result<AckStream>;

    /// Makes the matching sockets join rooms. With room interest, the rooms are active on this node on return.
    async fn sockets_join(&self, target: Target, rooms: Vec<Room>) -> Result<()>;

    /// Makes the matching sockets leave rooms.
    async fn sockets_leave(&self, target: Target, rooms: Vec<Room>) -> Result<()>;

    /// Disconnects the matching sockets from the namespace; with `close`, closes their connections where the server can.
    async fn disconnect_sockets(&self, target: Target, close: bool) -> Result<()>;

    /// Describes the matching sockets.
    ///
    /// # Errors
    /// `Timeout` if not every node answered; [`Error::partial`] has the sockets that arrived and the nodes that are missing.
    async fn fetch_sockets(&self, target: Target) -> Result<Vec<SocketInfo>>;

    /// All rooms of the cluster, socket ids included, each once. Errors as [`Adapter::fetch_sockets`].
    async fn all_rooms(&self) -> Result<Vec<Room>>;

    /// Hands an event to the servers of all *other* nodes.
    async fn server_side_emit(&self, payload: Payload) -> Result<()>;

    /// As [`Adapter::server_side_emit`], and gathers one value per node; `None` where it answered `undefined` or has no handler.
    ///
    /// # Errors
    /// `Timeout` with the values that arrived and the nodes that are missing.
    async fn server_side_emit_with_ack(
        &self,
        payload: Payload,
        timeout: Option<Duration>,
    ) -> Result<Vec<Option<Payload>>>;

    /// The number of nodes, this one included.
    async fn server_count(&self) -> Result<usize>;

    /// The other nodes known by name, sorted.
    fn peers(&self) -> Vec<NodeId>;

    /// Waits until at least `count` other nodes are known: readiness for tests and start-up.
    ///
    /// # Errors
    /// `Timeout`, saying how many there are.
    async fn await_peers(&self, count: usize, timeout: Duration) -> Result<()>;

    /// Tells that rooms got their first local socket. On return they are active: what is broadcast to them afterwards arrives. Needed
    /// only by servers that let sockets join without [`Adapter::sockets_join`], on backends with room interest.
    async fn rooms_created(&self, rooms: &[Room]) -> Result<()>;

    /// Tells that the last local socket has left rooms.
    async fn rooms_deleted(&self, rooms: &[Room]) -> Result<()>;

    /// Keeps the session of a client that may come back.
    ///
    /// # Errors
    /// `Unsupported` without history.
    async fn persist_session(&self, session: Session) -> Result<()>;

    /// Takes a session, once, with what it missed since `since`; `None` if it is unknown or expired.
    ///
    /// # Errors
    /// `Unsupported` without history, `HistoryLost` if the history no longer reaches back that far.
    async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>>;

    /// What was broadcast after `since` to all or to any of `rooms`, in order. Errors as [`Adapter::restore_session`].
    async fn replay(&self, since: Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>>;

    /// Events from now on. A listener that lags by more than 256 loses the oldest and is told so.
    fn events(&self) -> broadcast::Receiver<Event>;

    /// What happened so far, in numbers.
    fn metrics(&self) -> MetricsSnapshot;

    /// How the broker connection is doing.
    fn health(&self) -> Health;

    /// Begins to leave, at once and from any thread. Idempotent.
    fn close(&self);

    /// Waits until the node has left and all its tasks have ended.
    async fn closed(&self);
}

/// The acknowledgements of a broadcast, as they arrive: the first argument of each client's answer, `None` if it had none.
///
/// Ends when every client has answered, or with an error that says who has not. Dropped early, it frees what waits for it.
#[derive(Debug)]
pub struct AckStream {
    items: mpsc::UnboundedReceiver<AckItem>,
    ended: bool,
    _cancel: Cancel,
}

/// At most one per client, and the end.
#[derive(Debug)]
pub(crate) enum AckItem {
    Ack(Option<Payload>),
    End(Result<Answers>),
}

impl AckStream {
    pub(crate) fn new(items: mpsc::UnboundedReceiver<AckItem>, cancel: Cancel) -> Self {
        Self { items, ended: false, _cancel: cancel }
    }

    /// The next acknowledgement; `None` after the last one. *Cancel safe.*
    pub async fn next(&mut self) -> Option<Result<Option<Payload>>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Waits for all of them.
    ///
    /// # Errors
    /// `Timeout` if not all clients answered; [`Error::partial`] then has the values that arrived, as [`Answers::Values`].
    pub async fn collect(mut self) -> Result<Vec<Option<Payload>>> {
        let mut values = Vec::new();
        while let Some(item) = self.next().await {
            match item {
                Ok(value) => values.push(value),
                Err(error) => return Err(with_values(error, values)),
            }
        }
        Ok(values)
    }
}

/// Puts the values that arrived in place of their number.
fn with_values(error: Error, values: Vec<Option<Payload>>) -> Error {
    let answers = Answers::Values(values);
    match error.partial().cloned() {
        Some(partial) => error.with_partial(Partial { answers, ..partial }),
        None => error.with_partial(Partial { answers, missing: Vec::new(), missing_unnamed: 0 }),
    }
}

impl Stream for AckStream {
    type Item = Result<Option<Payload>>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.items.poll_recv(cx)) {
            Some(AckItem::Ack(value)) => Poll::Ready(Some(Ok(value))),
            Some(AckItem::End(result)) => {
                self.ended = true;
                Poll::Ready(result.err().map(Err))
            }
            None => {
                self.ended = true;
                let error = Error::new(ErrorKind::Closed, "the node left while acknowledgements were outstanding");
                Poll::Ready(Some(Err(error)))
            }
        }
    }
}
