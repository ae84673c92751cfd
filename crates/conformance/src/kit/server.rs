//! The server under a test node.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use trunkline_core::{
    AckSink, DeliveryReport, EventReply, Local, NodeId, Offset, Payload, Room, RoomIndex, SocketId, SocketInfo, Target,
};

use super::{client::Client, recorder::Packet};

/// A server whose [`Local`] is under test. Implement it to run the suite over another `Local` than that of
/// [`RoomServer`].
pub trait Server: fmt::Debug + Send + Sync + 'static {
    /// The server's `Local`, which lives as long as the server.
    fn local(&self) -> Arc<dyn Local>;

    /// Connects a client and adds it to `rooms` and to the room named by its id. From then on the server hands `client`
    /// every packet that the client would be sent.
    fn connect(&self, client: Arc<Client>, rooms: &[Room]);

    /// Abilities of the server, which decide which cases apply.
    fn abilities(&self) -> ServerAbilities;
}

/// Abilities that not every server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServerAbilities {
    /// Closes a client's connection, not only its membership of the namespace.
    pub close_connections: bool,
    /// Keeps number rooms apart from text rooms.
    pub number_rooms: bool,
}

/// A minimal [`Server`] of rooms and clients, over [`RoomIndex`].
#[derive(Clone, Debug, Default)]
pub struct RoomServer {
    rooms: Arc<Rooms>,
}

impl Server for RoomServer {
    fn local(&self) -> Arc<dyn Local> {
        Arc::clone(&self.rooms) as Arc<dyn Local>
    }

    fn connect(&self, client: Arc<Client>, rooms: &[Room]) {
        let id = client.id().clone();
        let mut state = self.rooms.lock();
        state.index.insert(id.clone());
        state.index.join(&id, &Room::new(id.as_str()));
        for room in rooms {
            state.index.join(&id, room);
        }
        state.clients.insert(id, client);
    }

    fn abilities(&self) -> ServerAbilities {
        ServerAbilities { close_connections: true, number_rooms: true }
    }
}

#[derive(Debug, Default)]
struct Rooms {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    index: RoomIndex<SocketId>,
    clients: HashMap<SocketId, Arc<Client>>,
}

impl Rooms {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn matching(&self, target: &Target) -> Vec<Arc<Client>> {
        let state = self.lock();
        let mut clients = Vec::new();
        state.index.for_each_match(target, |id| clients.extend(state.clients.get(id).cloned()));
        clients
    }

    fn describe(&self, client: &Client) -> SocketInfo {
        let rooms = self.lock().index.rooms_of(client.id()).into_iter().flatten().cloned().collect();
        let (handshake, data) = client.details();
        let handshake = handshake.unwrap_or_else(SocketInfo::unknown_handshake);
        SocketInfo::new(client.id().clone(), rooms).with_handshake(Some(handshake)).with_data(data)
    }
}

impl Local for Rooms {
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        let clients = self.matching(target);
        for client in &clients {
            let packet =
                Packet { payload: payload.clone(), offset: offset.cloned(), flags: target.flags, wants_ack: false };
            client.packet(packet);
        }
        DeliveryReport::default().with_sent(clients.len() as u64)
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, _: Duration, acks: AckSink) -> u32 {
        let clients = self.matching(target);
        for client in &clients {
            let packet = Packet { payload: payload.clone(), offset: None, flags: target.flags, wants_ack: true };
            let acks = acks.clone();
            let id = client.id().clone();
            client.request(packet, Box::new(move |value| acks.ack_of(id, value)));
        }
        u32::try_from(clients.len()).unwrap_or(u32::MAX)
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        self.matching(target).iter().map(|client| self.describe(client)).collect()
    }

    fn rooms(&self) -> Vec<Room> {
        self.lock().index.rooms().cloned().collect()
    }

    fn has_room(&self, room: &Room) -> bool {
        self.lock().index.has_room(room)
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        let mut state = self.lock();
        for id in state.index.matching(target) {
            for room in rooms {
                state.index.join(&id, room);
            }
        }
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        let mut state = self.lock();
        for id in state.index.matching(target) {
            for room in rooms {
                state.index.leave(&id, room);
            }
        }
    }

    fn disconnect(&self, target: &Target, close: bool) {
        for client in self.matching(target) {
            let mut state = self.lock();
            state.index.remove(client.id());
            state.clients.remove(client.id());
            drop(state);
            client.disconnect(close);
        }
    }

    /// Without a handler, the dropped reply answers `undefined`.
    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}
