//! The suite over another server than its own: a plain table of sockets, without number rooms and without closing
//! connections.
//!
//! This is what an author of a [`Local`] writes: the server behind it as a [`Server`], and the macro line.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use trunkline_conformance::{
    Setup,
    kit::{Client, Packet, Server, ServerAbilities},
};
use trunkline_core::{
    AckSink, Capabilities, DeliveryReport, EventReply, Local, Membership, NodeId, Offset, Payload, Room, SocketId,
    SocketInfo, Target,
    memory::{self, HistoryLimits, MemoryConfig},
};

trunkline_conformance::suite! {
    table,
    Setup::new(|cluster| async move { with_history(&cluster, HistoryLimits::default()) })
        .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) })
        .server(TableServer::default)
        .scaled_down_by(10),
    capabilities = Capabilities::new(Membership::Heartbeats)
        .with_total_order(true)
        .with_acknowledged_in_order(true)
        .with_numbered(true)
        .with_announced_leave(true)
        .with_named_answers(true)
        .with_all_rooms_request(true)
        .with_room_interest(true)
        .with_history(true),
    skipped = 12,
}

const LIMITED_HISTORY: HistoryLimits =
    HistoryLimits { messages: 1000, bytes: 1 << 20, session_ttl: Duration::from_millis(500), sessions: 1000 };

fn with_history(cluster: &str, limits: HistoryLimits) -> trunkline_core::Result<trunkline_core::Backend> {
    memory::backend(cluster, MemoryConfig { history: Some(limits) })
}

/// A server that is a table of its sockets and their rooms.
#[derive(Debug, Default)]
struct TableServer(Arc<Table>);

#[derive(Debug, Default)]
struct Table(Mutex<BTreeMap<SocketId, Entry>>);

#[derive(Debug)]
struct Entry {
    client: Arc<Client>,
    /// Rooms by their texts.
    rooms: BTreeSet<String>,
}

impl Server for TableServer {
    fn local(&self) -> Arc<dyn Local> {
        Arc::clone(&self.0) as Arc<dyn Local>
    }

    fn connect(&self, client: Arc<Client>, rooms: &[Room]) {
        let own = client.id().to_string();
        let rooms = rooms.iter().map(|room| room.to_text().to_string()).chain([own]).collect();
        self.0.lock().insert(client.id().clone(), Entry { client, rooms });
    }

    fn abilities(&self) -> ServerAbilities {
        ServerAbilities::default()
    }
}

impl Entry {
    fn is_in_any(&self, rooms: &[Room]) -> bool {
        rooms.iter().any(|room| self.rooms.contains(&*room.to_text()))
    }

    fn matches(&self, target: &Target) -> bool {
        (target.rooms.is_empty() || self.is_in_any(&target.rooms)) && !self.is_in_any(&target.except)
    }
}

impl Table {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clients(&self, target: &Target) -> Vec<Arc<Client>> {
        self.lock().values().filter(|entry| entry.matches(target)).map(|entry| Arc::clone(&entry.client)).collect()
    }

    fn change(&self, target: &Target, change: impl Fn(&mut Entry)) {
        self.lock().values_mut().filter(|entry| entry.matches(target)).for_each(change);
    }
}

fn packet(target: &Target, payload: &Payload, offset: Option<&Offset>, wants_ack: bool) -> Packet {
    Packet { payload: payload.clone(), offset: offset.cloned(), flags: target.flags, wants_ack }
}

impl Local for Table {
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        let clients = self.clients(target);
        clients.iter().for_each(|client| client.packet(packet(target, payload, offset, false)));
        DeliveryReport::default().with_sent(clients.len() as u64)
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, _: Duration, acks: AckSink) -> u32 {
        let clients = self.clients(target);
        for client in &clients {
            let acks = acks.clone();
            let id = client.id().clone();
            client.request(packet(target, payload, None, true), Box::new(move |value| acks.ack_of(id, value)));
        }
        u32::try_from(clients.len()).unwrap_or(u32::MAX)
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let describe = |(id, entry): (&SocketId, &Entry)| {
            let (handshake, data) = entry.client.details();
            let rooms = entry.rooms.iter().map(|room| Room::from(room.as_str())).collect();
            let handshake = handshake.unwrap_or_else(SocketInfo::unknown_handshake);
            SocketInfo::new(id.clone(), rooms).with_handshake(Some(handshake)).with_data(data)
        };
        self.lock().iter().filter(|(_, entry)| entry.matches(target)).map(describe).collect()
    }

    fn rooms(&self) -> Vec<Room> {
        let table = self.lock();
        let texts: BTreeSet<_> = table.values().flat_map(|entry| &entry.rooms).collect();
        texts.into_iter().map(|room| Room::from(room.as_str())).collect()
    }

    fn has_room(&self, room: &Room) -> bool {
        self.lock().values().any(|entry| entry.rooms.contains(&*room.to_text()))
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        self.change(target, |entry| entry.rooms.extend(rooms.iter().map(|room| room.to_text().to_string())));
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        self.change(target, |entry| entry.rooms.retain(|own| !rooms.iter().any(|room| *room.to_text() == **own)));
    }

    fn disconnect(&self, target: &Target, _: bool) {
        for client in self.clients(target) {
            self.lock().remove(client.id());
            client.disconnect(false);
        }
    }

    /// Without a handler, the dropped reply answers `undefined`.
    fn server_side_event(&self, _: &NodeId, _: &Payload, _: Option<EventReply>) {}
}
