//! Clients of test nodes.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use trunkline_core::{Payload, Room, SocketId};

use super::{
    recorder::{Packet, Recorder},
    server::Acknowledge,
};

/// What a client that connects looks like and how it behaves.
///
/// ```
/// use trunkline_conformance::kit::Visitor;
///
/// let visitor = Visitor::new().room("lobby").room(7).silent();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Visitor {
    rooms: Vec<Room>,
    handshake: Option<Payload>,
    data: Option<Payload>,
    answer: Answer,
}

/// How a client answers acknowledged broadcasts.
#[derive(Clone, Debug, Default)]
enum Answer {
    /// With its id.
    #[default]
    Id,
    /// With this.
    Value(Payload),
    /// By an acknowledgement without argument.
    Empty,
    /// Only when told to, by [`TestSocket::acknowledge`].
    Later,
}

impl Visitor {
    /// A client in no room, that acknowledges with its id.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the client into a room.
    #[must_use]
    pub fn room(mut self, room: impl Into<Room>) -> Self {
        self.rooms.push(room.into());
        self
    }

    /// Puts the client into several rooms.
    #[must_use]
    pub fn rooms<R: Into<Room>>(mut self, rooms: impl IntoIterator<Item = R>) -> Self {
        self.rooms.extend(rooms.into_iter().map(Into::into));
        self
    }

    /// What the application attached to the socket.
    #[must_use]
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }

    /// Details of the client's handshake.
    #[must_use]
    pub fn handshake(mut self, handshake: Payload) -> Self {
        self.handshake = Some(handshake);
        self
    }

    /// Acknowledges with this value.
    #[must_use]
    pub fn answering(mut self, value: Payload) -> Self {
        self.answer = Answer::Value(value);
        self
    }

    /// Acknowledges without a value.
    #[must_use]
    pub fn answering_nothing(mut self) -> Self {
        self.answer = Answer::Empty;
        self
    }

    /// Does not acknowledge, unless [`TestSocket::acknowledge`] is called.
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.answer = Answer::Later;
        self
    }

    pub(super) fn wanted_rooms(&self) -> &[Room] {
        &self.rooms
    }
}

/// The client's side of a socket: a [`Server`](super::Server) hands over what the client would be sent.
pub struct Client {
    id: SocketId,
    visitor: Visitor,
    recorder: Recorder,
    unanswered: Mutex<Vec<Acknowledge>>,
}

impl Client {
    pub(super) fn new(visitor: Visitor, recorder: Recorder) -> Self {
        Self { id: new_id(), visitor, recorder, unanswered: Mutex::default() }
    }

    /// The id of its socket, 20 characters as on Node.js servers.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        &self.id
    }

    /// Handshake and data that the server is to know of the socket.
    #[must_use]
    pub fn details(&self) -> (Option<Payload>, Option<Payload>) {
        (self.visitor.handshake.clone(), self.visitor.data.clone())
    }

    /// A packet arrives.
    pub fn packet(&self, packet: Packet) {
        self.recorder.packet(packet);
    }

    /// A packet arrives that is to be acknowledged.
    pub fn request(&self, packet: Packet, acknowledge: Acknowledge) {
        match &self.visitor.answer {
            Answer::Id => acknowledge(Payload::value(self.id.as_str()).ok()),
            Answer::Value(value) => acknowledge(Some(value.clone())),
            Answer::Empty => acknowledge(None),
            Answer::Later => self.unanswered.lock().unwrap_or_else(PoisonError::into_inner).push(acknowledge),
        }
        // Last, so that whoever waits for the packet finds what there is to acknowledge.
        self.recorder.packet(packet);
    }

    /// The socket is disconnected, and its connection closed too if `close`.
    pub fn disconnect(&self, close: bool) {
        self.recorder.disconnect(close);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("rooms", &self.visitor.rooms).finish_non_exhaustive()
    }
}

/// A client of a test node, as its test sees it. Derefs to the [`Recorder`] of what it got.
#[derive(Clone, Debug)]
pub struct TestSocket {
    client: Arc<Client>,
}

impl TestSocket {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        &self.client.id
    }

    /// The room named by its id.
    #[must_use]
    pub fn room(&self) -> Room {
        Room::new(self.client.id.as_str())
    }

    /// Its id as the value with which it acknowledges by default.
    #[must_use]
    pub fn id_value(&self) -> Option<Payload> {
        Payload::value(self.client.id.as_str()).ok()
    }

    /// Acknowledges everything that a silent client has not answered yet.
    pub fn acknowledge(&self, value: Option<&Payload>) {
        let unanswered = std::mem::take(&mut *self.client.unanswered.lock().unwrap_or_else(PoisonError::into_inner));
        for acknowledge in unanswered {
            acknowledge(value.cloned());
        }
    }
}

impl Deref for TestSocket {
    type Target = Recorder;

    fn deref(&self) -> &Recorder {
        &self.client.recorder
    }
}

/// Unlike any other id, also of other processes.
fn new_id() -> SocketId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketId::new(format!("{:012x}{number:08x}", fastrand::u64(..1 << 48))).expect("20 characters are allowed")
}
