//! What the hosting server lends to the cluster: its sockets.

use std::{fmt, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use crate::{
    model::{Answer, NodeId, Offset, RequestId, Room, SocketInfo, Target},
    payload::Payload,
};

/// The sockets of this node, as the cluster uses them.
///
/// Calls are synchronous and short: they only put packets into the sockets' buffers. They come from the tasks of callers and from the
/// cluster's driver, possibly at the same time. `target.flags.local` does not matter here.
pub trait Local: fmt::Debug + Send + Sync + 'static {
    /// What this server can do.
    fn abilities(&self) -> LocalAbilities;

    /// Sends a packet to the matching sockets, encoding it once. `offset` is appended as last argument for clients that want to
    /// recover.
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport;

    /// Sends a packet to the matching sockets and passes each acknowledgement that arrives within `timeout` to `acks`. Returns how many
    /// sockets it was sent to.
    fn deliver_with_ack(&self, target: &Target, payload: &Payload, timeout: Duration, acks: AckSink) -> u32;

    /// Describes the matching sockets.
    fn sockets(&self, target: &Target) -> Vec<SocketInfo>;

    /// All rooms with a member here, socket ids included.
    fn rooms(&self) -> Vec<Room>;

    /// Whether the room may have a member here. When in doubt, `true`. Called for every message to one room.
    fn has_room(&self, room: &Room) -> bool;

    /// Makes the matching sockets join the rooms.
    fn join(&self, target: &Target, rooms: &[Room]);

    /// Makes the matching sockets leave the rooms.
    fn leave(&self, target: &Target, rooms: &[Room]);

    /// Disconnects the matching sockets from the namespace, and closes their connections if `close` and the server can.
    fn disconnect(&self, target: &Target, close: bool);

    /// Hands over a server-side event. Whoever handles it answers through `reply` if there is one; dropped without an answer it
    /// answers `undefined`, so that a node without a handler costs no timeout.
    fn server_side_event(&self, from: &NodeId, payload: &Payload, reply: Option<EventReply>);
}

/// What a server can do with its sockets. What it cannot is known, not silently ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalAbilities {
    /// Close a client's connection, not only its membership of the namespace.
    pub close_connections: bool,
    /// Keep number rooms apart from text rooms.
    pub number_rooms: bool,
}

/// What became of a packet at the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeliveryReport {
    /// Sockets it was sent to.
    pub sent: u64,
    /// Sockets whose buffer was full.
    pub dropped: u64,
    /// How long to hold back what comes next, because a socket is behind and catching up fast; zero most of the time. Whoever delivers
    /// waits, though never longer than 10 ms at a time. The server sees to it that a slow client does not hold up the others.
    pub pause: Duration,
}

impl DeliveryReport {
    /// Waits as long as the server asked for.
    pub(crate) async fn hold_back(self) {
        if !self.pause.is_zero() {
            sleep(self.pause.min(MAX_PAUSE)).await;
        }
    }
}

/// The node has other things to do as well.
const MAX_PAUSE: Duration = Duration::from_millis(10);

/// Where the acknowledgements of several clients go.
#[derive(Clone, Debug)]
pub struct AckSink {
    to: Option<NodeId>,
    request: RequestId,
    answers: mpsc::UnboundedSender<LocalAnswer>,
}

impl AckSink {
    pub(crate) fn new(to: Option<NodeId>, request: RequestId, answers: mpsc::UnboundedSender<LocalAnswer>) -> Self {
        Self { to, request, answers }
    }

    /// Passes on the first argument of one client's acknowledgement; `None` if it had none. Call once per client.
    pub fn ack(&self, value: Option<Payload>) {
        self.pass(Answer::Ack(value));
    }

    fn pass(&self, answer: Answer) {
        // Fails only when the cluster is closed; then nobody waits for it.
        let _ = self.answers.send(LocalAnswer { to: self.to.clone(), request: self.request.clone(), answer });
    }
}

/// Where the one answer to a server-side event goes.
#[derive(Debug)]
pub struct EventReply(Option<AckSink>);

impl EventReply {
    pub(crate) fn new(replies: AckSink) -> Self {
        Self(Some(replies))
    }

    /// Answers with a value; `None` for `undefined`.
    pub fn answer(mut self, value: Option<Payload>) {
        if let Some(replies) = self.0.take() {
            replies.pass(Answer::ServerSideEmit(value));
        }
    }
}

impl Drop for EventReply {
    fn drop(&mut self) {
        if let Some(replies) = self.0.take() {
            replies.pass(Answer::ServerSideEmit(None));
        }
    }
}

/// An answer of this node on its way to the engine; `to` is `None` for own requests.
///
/// The channel that carries these is unbounded in type only: a client answers each acknowledged broadcast once.
#[derive(Debug)]
pub(crate) struct LocalAnswer {
    pub(crate) to: Option<NodeId>,
    pub(crate) request: RequestId,
    pub(crate) answer: Answer,
}
