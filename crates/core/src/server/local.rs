//! [`Local`]: the sockets of a server, as its node uses them.

use std::{fmt, time::Duration};

use tokio::{sync::mpsc, time::sleep};

use crate::{
    model::{Ack, Answer, IdScheme, NodeId, Offset, RequestId, Room, SocketId, SocketInfo, Target, setters},
    payload::Payload,
};

/// The sockets of this node, as the cluster uses them.
///
/// Calls are synchronous and short: they only put packets into the sockets' buffers. They come from the tasks of
/// callers and from the cluster's driver, possibly at the same time. `target.flags.local` does not matter here.
pub trait Local: fmt::Debug + Send + Sync + 'static {
    /// Sends a packet to the matching sockets, encoding it once. `offset` is appended as last argument for clients that
    /// want to recover.
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport;

    /// Sends a packet to the matching sockets and passes each acknowledgement that arrives within `timeout` to `acks`.
    /// Returns how many sockets it was sent to.
    fn deliver_with_ack(&self, target: &Target, payload: &Payload, timeout: Duration, acks: AckSink) -> u32;

    /// Describes the matching sockets.
    fn sockets(&self, target: &Target) -> Vec<SocketInfo>;

    /// All rooms with a local member, socket ids included.
    fn rooms(&self) -> Vec<Room>;

    /// Whether the room may have a member here. When in doubt, `true`. Called for every message to one room.
    fn has_room(&self, room: &Room) -> bool;

    /// Makes the matching sockets join the rooms.
    fn join(&self, target: &Target, rooms: &[Room]);

    /// Makes the matching sockets leave the rooms.
    fn leave(&self, target: &Target, rooms: &[Room]);

    /// Disconnects the matching sockets from the namespace, and closes their connections if `close` and the server can.
    fn disconnect(&self, target: &Target, close: bool);

    /// Hands a server-side event to the application, which answers through `reply` if there is one. Dropped without an
    /// answer, the reply answers `undefined`, so that a node without a handler costs no timeout.
    fn server_side_event(&self, from: &NodeId, payload: &Payload, reply: Option<EventReply>);
}

/// Outcome of a delivery to local sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeliveryReport {
    /// Sockets it was sent to.
    pub sent: u64,
    /// Sockets whose buffer was full.
    pub dropped: u64,
    /// How long to hold back the next delivery, because a socket is behind and catching up fast; zero most of the time.
    /// The node waits, though never longer than 10 ms at a time. The server sees to it that a slow client does not hold
    /// up the others.
    pub backpressure: Duration,
}

setters!(DeliveryReport {
    with_sent(sent: u64),
    with_dropped(dropped: u64),
    with_backpressure(backpressure: Duration),
});

impl DeliveryReport {
    /// Waits as long as the server asked for.
    pub(crate) async fn wait_for_sockets(self) {
        if !self.backpressure.is_zero() {
            sleep(self.backpressure.min(MAX_BACKPRESSURE)).await;
        }
    }
}

/// Longest pause after a delivery: the node has other things to do as well.
const MAX_BACKPRESSURE: Duration = Duration::from_millis(10);

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

    /// Sink without a node, and what arrives in it: for unit tests of a [`Local`].
    #[must_use]
    pub fn detached() -> (Self, DetachedAnswers) {
        let (answers, received) = mpsc::unbounded_channel();
        (Self { to: None, request: IdScheme::Hex16.request_id(), answers }, DetachedAnswers(received))
    }

    /// Passes on the first argument of one client's acknowledgement; `None` if it had none. Call once per client.
    pub fn ack(&self, value: Option<Payload>) {
        self.pass(Answer::Ack(Ack::new(value)));
    }

    /// As [`AckSink::ack`], and tells the caller of the broadcast which socket it is, if that is a node of ours.
    pub fn ack_of(&self, socket: SocketId, value: Option<Payload>) {
        self.pass(Answer::Ack(Ack::new(value).with_socket(Some(socket))));
    }

    fn pass(&self, answer: Answer) {
        // Fails only when the node is closed; then no caller waits for it.
        let _ = self.answers.send(LocalAnswer { to: self.to.clone(), request: self.request.clone(), answer });
    }
}

/// Where the one answer to a server-side event goes. Dropped without an answer, it answers `undefined`.
#[derive(Debug)]
pub struct EventReply(Option<AckSink>);

impl EventReply {
    pub(crate) fn new(sink: AckSink) -> Self {
        Self(Some(sink))
    }

    /// Reply without a node, and what arrives in it: for unit tests of a [`Local`].
    #[must_use]
    pub fn detached() -> (Self, DetachedAnswers) {
        let (sink, answers) = AckSink::detached();
        (Self::new(sink), answers)
    }

    /// Answers with a value; `None` for `undefined`.
    pub fn answer(mut self, value: Option<Payload>) {
        if let Some(sink) = self.0.take() {
            sink.pass(Answer::ServerSideEmit(value));
        }
    }
}

impl Drop for EventReply {
    fn drop(&mut self) {
        if let Some(sink) = self.0.take() {
            sink.pass(Answer::ServerSideEmit(None));
        }
    }
}

/// Answers that arrived in a detached [`AckSink`] or [`EventReply`].
#[derive(Debug)]
pub struct DetachedAnswers(mpsc::UnboundedReceiver<LocalAnswer>);

impl DetachedAnswers {
    /// Value of the next answer, `None` for an answer without a value; the outer `None` once the sink and its clones
    /// are dropped and all answers were taken. *Cancel safe.*
    pub async fn next(&mut self) -> Option<Option<Payload>> {
        match self.0.recv().await?.answer {
            Answer::Ack(Ack { value, .. }) | Answer::ServerSideEmit(value) => Some(value),
            _ => None,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_can_be_tested_without_a_node() {
        let (sink, mut answers) = AckSink::detached();
        sink.ack(Some(Payload::value(&7).unwrap()));
        sink.clone().ack(None);
        drop(sink);
        assert_eq!(answers.next().await, Some(Some(Payload::value(&7).unwrap())));
        assert_eq!(answers.next().await, Some(None));
        assert_eq!(answers.next().await, None);
        let (reply, mut answers) = EventReply::detached();
        drop(reply);
        assert_eq!(answers.next().await, Some(None));
    }
}
