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

use super::recorder::{Packet, Recorder};

/// Specification of a test client: its rooms, handshake and data, and how it acknowledges.
///
/// ```
/// use trunkline_conformance::kit::ClientSpec;
///
/// let spec = ClientSpec::new().room("lobby").room(7).silent();
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClientSpec {
    rooms: Vec<Room>,
    handshake: Option<Payload>,
    data: Option<Payload>,
    acknowledges: Acknowledgement,
}

/// How a client acknowledges.
#[derive(Clone, Debug, Default)]
enum Acknowledgement {
    /// With its socket id.
    #[default]
    Id,
    /// With this value.
    Value(Payload),
    /// Without a value.
    Empty,
    /// When the test calls [`TestSocket::acknowledge`].
    Manual,
}

impl ClientSpec {
    /// A client in no room, which acknowledges with its socket id.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a room.
    #[must_use]
    pub fn room(mut self, room: impl Into<Room>) -> Self {
        self.rooms.push(room.into());
        self
    }

    /// Adds several rooms.
    #[must_use]
    pub fn rooms<R: Into<Room>>(mut self, rooms: impl IntoIterator<Item = R>) -> Self {
        self.rooms.extend(rooms.into_iter().map(Into::into));
        self
    }

    /// Sets the socket's data (`socket.data`), as fetched sockets show it.
    #[must_use]
    pub fn data(mut self, data: Payload) -> Self {
        self.data = Some(data);
        self
    }

    /// Sets the handshake details, as fetched sockets show them.
    #[must_use]
    pub fn handshake(mut self, handshake: Payload) -> Self {
        self.handshake = Some(handshake);
        self
    }

    /// Acknowledges with this value.
    #[must_use]
    pub fn answering(mut self, value: Payload) -> Self {
        self.acknowledges = Acknowledgement::Value(value);
        self
    }

    /// Acknowledges without a value.
    #[must_use]
    pub fn answering_nothing(mut self) -> Self {
        self.acknowledges = Acknowledgement::Empty;
        self
    }

    /// Acknowledges only when the test calls [`TestSocket::acknowledge`].
    #[must_use]
    pub fn silent(mut self) -> Self {
        self.acknowledges = Acknowledgement::Manual;
        self
    }

    pub(super) fn initial_rooms(&self) -> &[Room] {
        &self.rooms
    }
}

/// Callback that passes a client's acknowledgement to its server, `None` for one without a value.
pub type Acknowledge = Box<dyn FnOnce(Option<Payload>) + Send>;

/// The client side of a socket: a [`Server`](super::Server) hands over the packets that the client would be sent.
pub struct Client {
    id: SocketId,
    spec: ClientSpec,
    recorder: Recorder,
    unacknowledged: Mutex<Vec<Acknowledge>>,
}

impl Client {
    pub(super) fn new(spec: ClientSpec, recorder: Recorder) -> Self {
        Self { id: unique_id(), spec, recorder, unacknowledged: Mutex::default() }
    }

    /// Socket id, 20 characters as on Node.js servers.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        &self.id
    }

    /// Handshake details and data of the socket.
    #[must_use]
    pub fn details(&self) -> (Option<Payload>, Option<Payload>) {
        (self.spec.handshake.clone(), self.spec.data.clone())
    }

    /// Receives a packet.
    pub fn packet(&self, packet: Packet) {
        self.recorder.packet(packet);
    }

    /// Receives a packet that asks for an acknowledgement.
    pub fn request(&self, packet: Packet, acknowledge: Acknowledge) {
        match &self.spec.acknowledges {
            Acknowledgement::Id => acknowledge(Payload::value(self.id.as_str()).ok()),
            Acknowledgement::Value(value) => acknowledge(Some(value.clone())),
            Acknowledgement::Empty => acknowledge(None),
            Acknowledgement::Manual => {
                self.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(acknowledge);
            }
        }
        // Last, so that a test that waits for the packet can acknowledge it.
        self.recorder.packet(packet);
    }

    /// Disconnects the socket from the namespace, and closes its connection if `close`.
    pub fn disconnect(&self, close: bool) {
        self.recorder.disconnect(close);
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("rooms", &self.spec.rooms).finish_non_exhaustive()
    }
}

/// A test's handle on a client. Derefs to the [`Recorder`] of the packets that the client received.
#[derive(Clone, Debug)]
pub struct TestSocket {
    client: Arc<Client>,
}

impl TestSocket {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    /// Socket id.
    #[must_use]
    pub fn id(&self) -> &SocketId {
        &self.client.id
    }

    /// The room named by the socket id.
    #[must_use]
    pub fn room(&self) -> Room {
        Room::new(self.client.id.as_str())
    }

    /// Acknowledges all packets that a [`silent`](ClientSpec::silent) client has not acknowledged yet.
    pub fn acknowledge(&self, value: Option<&Payload>) {
        let unacknowledged =
            std::mem::take(&mut *self.client.unacknowledged.lock().unwrap_or_else(PoisonError::into_inner));
        for acknowledge in unacknowledged {
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

/// Returns an id that differs from those of other clients, also of other processes.
fn unique_id() -> SocketId {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketId::new(format!("{:012x}{number:08x}", fastrand::u64(..1 << 48))).expect("20 characters are allowed")
}
