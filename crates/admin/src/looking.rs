//! Development mode: what has changed among the sockets of this server, found by looking at them.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::{Value, json};
use socketioxide_core::Sid;
use trunkline_socketioxide::{Cluster, ClusterIo, Payload, Room, SocketInfo};

use crate::{
    shown::{data_and_connection, shown},
    time::timestamp,
};

/// The sockets of this server that pages know.
pub(crate) struct Known {
    sockets: HashMap<Key, Socket>,
    /// Pages have got what was there when they connected.
    has_looked: bool,
    max: usize,
}

/// The socket of a client in a namespace.
type Key = (String, Sid);

struct Socket {
    rooms: BTreeSet<Room>,
    data: Option<Payload>,
}

impl Socket {
    fn of(info: &SocketInfo) -> Self {
        Self { rooms: info.rooms.iter().cloned().collect(), data: info.data.clone() }
    }
}

/// An event for the pages: its name and arguments.
pub(crate) type Shown = (&'static str, Value);

impl Known {
    pub(crate) fn new(max: usize) -> Self {
        Self { sockets: HashMap::new(), has_looked: false, max }
    }

    /// Forgets all sockets, as no page is connected.
    pub(crate) fn clear(&mut self) {
        self.sockets = HashMap::new();
        self.has_looked = false;
    }

    /// Takes note of what is there, for the first page: others would miss the changes since the last look.
    pub(crate) fn begin(&mut self, io: &ClusterIo, cluster: &Cluster) {
        if !self.has_looked {
            self.look(io, cluster);
        }
    }

    /// What has changed since the last look; nothing at the first one. Where there are too many sockets, those that are
    /// known stay, and others are shown when they make room.
    pub(crate) fn look(&mut self, io: &ClusterIo, cluster: &Cluster) -> Vec<Shown> {
        let mut events = Vec::new();
        let mut connected = Vec::new();
        let mut here = HashSet::new();
        for namespace in io.nsps() {
            let name = namespace.ns_path().to_owned();
            let Ok(handle) = cluster.of(&name) else { continue };
            // A socket is listed until its disconnect handler has ended.
            for socket in namespace.sockets().into_iter().filter(|socket| socket.connected()) {
                let key = (name.clone(), socket.id);
                match self.sockets.get_mut(&key) {
                    Some(known) => {
                        if let Some(info) = handle.describe(socket.id) {
                            changes(&key, known, &info, &mut events);
                        }
                    }
                    None => connected.push((key.clone(), handle.clone())),
                }
                here.insert(key);
            }
        }
        self.sockets.retain(|key, _| {
            let stays = here.contains(key);
            if !stays {
                // Why is known only of watched sockets, which are told of at once.
                events.push(disconnected(key, UNKNOWN_REASON));
            }
            stays
        });
        connected.truncate(self.max.saturating_sub(self.sockets.len()));
        for (key, handle) in connected {
            if let Some(info) = handle.describe(key.1) {
                events.extend(self.connected(key, &info));
            }
        }
        if !std::mem::replace(&mut self.has_looked, true) {
            events.clear();
        }
        events
    }

    /// Tells of a socket before the next look, unless it is known or there are too many.
    pub(crate) fn connected(&mut self, key: Key, info: &SocketInfo) -> Option<Shown> {
        if self.sockets.contains_key(&key) || self.sockets.len() >= self.max {
            return None;
        }
        let event = ("socket_connected", json!([shown(&key.0, info), timestamp()]));
        self.sockets.insert(key, Socket::of(info));
        Some(event)
    }

    /// Tells of a socket's end before the next look.
    pub(crate) fn disconnected(&mut self, key: &Key, reason: &str) -> Option<Shown> {
        self.sockets.remove(key).map(|_| disconnected(key, reason))
    }

    /// Whether pages have heard of the socket.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.sockets.contains_key(key)
    }
}

fn disconnected((namespace, socket): &Key, reason: &str) -> Shown {
    ("socket_disconnected", json!([namespace, socket, reason, timestamp()]))
}

fn changes((namespace, socket): &Key, known: &mut Socket, info: &SocketInfo, events: &mut Vec<Shown>) {
    let now = Socket::of(info);
    if now.data != known.data {
        let (data, connection) = data_and_connection(info.data.as_ref());
        let transport = &connection.get("transport");
        events.push((
            "socket_updated",
            json!([{ "id": socket, "nsp": namespace, "data": data, "transport": transport }]),
        ));
    }
    let mut moved = |name: &'static str, rooms: Vec<&Room>| {
        let event = |room: &Room| (name, json!([namespace, room.to_text(), socket, timestamp()]));
        events.extend(rooms.into_iter().map(event));
    };
    moved("room_joined", now.rooms.difference(&known.rooms).collect());
    moved("room_left", known.rooms.difference(&now.rooms).collect());
    *known = now;
}

const UNKNOWN_REASON: &str = "not watched";
