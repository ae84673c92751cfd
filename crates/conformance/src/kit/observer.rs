//! The [`Local`] that records what its node delivers.

use std::{
    collections::HashSet,
    fmt,
    panic::Location,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use trunkline_core::{AckSink, DeliveryReport, EventReply, Local, NodeId, Offset, Payload, Room, SocketInfo, Target};

use super::{
    failure::{Checked, brief},
    marker::Marker,
    watched::Watched,
};

/// A server-side event as a node received it.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSideEvent {
    /// Id of the node that emitted it.
    pub from: NodeId,
    /// Event name and arguments.
    pub payload: Payload,
    /// Whether the sender waits for an answer.
    pub wants_answer: bool,
}

/// A [`Local`] that forwards all calls to the server's, and records markers and server-side events.
pub(super) struct Observer {
    server: Arc<dyn Local>,
    record: Watched<Record>,
    handler: Mutex<Handler>,
}

#[derive(Debug, Default)]
struct Record {
    markers: HashSet<Marker>,
    events: Vec<ServerSideEvent>,
}

/// How server-side events that ask for an answer are handled.
#[derive(Debug, Default)]
pub(super) enum Handler {
    /// Forwarded to the server.
    #[default]
    Server,
    /// Answered with this value.
    Answer(Option<Payload>),
    /// Never answered: the replies are kept here.
    Ignore(Vec<EventReply>),
}

impl Observer {
    pub(super) fn new(server: Arc<dyn Local>) -> Self {
        Self { server, record: Watched::default(), handler: Mutex::default() }
    }

    pub(super) fn set_handler(&self, handler: Handler) {
        *self.handler.lock().unwrap_or_else(PoisonError::into_inner) = handler;
    }

    pub(super) fn events(&self) -> Vec<ServerSideEvent> {
        self.record.read(|record| record.events.clone())
    }

    pub(super) async fn wait_for_events(
        &self,
        at: &'static Location<'static>,
        timeout: Duration,
        count: usize,
    ) -> Checked<Vec<ServerSideEvent>> {
        let enough = |record: &Record| (record.events.len() >= count).then(|| record.events.clone());
        let describe = |record: &Record| {
            format!("{} of {count} server-side events arrived: {}", record.events.len(), brief(&record.events))
        };
        self.record.until(at, timeout, enough, describe).await
    }

    pub(super) async fn wait_for_marker(
        &self,
        at: &'static Location<'static>,
        timeout: Duration,
        marker: Marker,
    ) -> Checked {
        let arrived = |record: &Record| record.markers.contains(&marker).then_some(());
        self.record.until(at, timeout, arrived, |_| "a marker did not reach a node".to_owned()).await
    }

    /// Sends a marker to all clients, whatever its target was, behind the packets they were sent before; then records
    /// it.
    fn mark(&self, marker: Marker, payload: &Payload) {
        self.server.deliver(&Target::all(), payload, None);
        self.record.update(|record| record.markers.insert(marker));
    }
}

impl Local for Observer {
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        let Some(marker) = Marker::of(payload) else { return self.server.deliver(target, payload, offset) };
        self.mark(marker, payload);
        DeliveryReport::default()
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, timeout: Duration, acks: AckSink) -> u32 {
        self.server.deliver_with_ack(target, payload, timeout, acks)
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        self.server.sockets(target)
    }

    fn rooms(&self) -> Vec<Room> {
        self.server.rooms()
    }

    fn has_room(&self, room: &Room) -> bool {
        self.server.has_room(room)
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        self.server.join(target, rooms);
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        self.server.leave(target, rooms);
    }

    fn disconnect(&self, target: &Target, close: bool) {
        self.server.disconnect(target, close);
    }

    fn server_side_event(&self, from: &NodeId, payload: &Payload, reply: Option<EventReply>) {
        if let Some(marker) = Marker::of(payload) {
            return self.mark(marker, payload);
        }
        let event = ServerSideEvent { from: from.clone(), payload: payload.clone(), wants_answer: reply.is_some() };
        self.record.update(|record| record.events.push(event));
        let mut handler = self.handler.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *handler, reply) {
            (Handler::Server, reply) => self.server.server_side_event(from, payload, reply),
            (Handler::Answer(value), Some(reply)) => reply.answer(value.clone()),
            (Handler::Ignore(unanswered), Some(reply)) => unanswered.push(reply),
            (_, None) => {}
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observer").field("server", &self.server).finish_non_exhaustive()
    }
}
