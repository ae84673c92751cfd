//! A node in the place of the captured server B, with clients that behave as those did.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{sync::Notify, time::timeout};
use trunkline_core::{
    AckSink, Backend, ClusterNode, DeliveryReport, EventReply, Local, MetricsSnapshot, Namespace, NodeConfig, NodeId,
    Offset, Payload, Room, RoomIndex, SocketId, SocketInfo, Target,
};

use super::capture::{Capture, meaning};
use crate::support::TIMEOUT;

/// A client, and the rooms in which it is.
type Member = (&'static str, fn() -> Vec<Room>);

/// The clients of server B in the captures.
const ROOT: [Member; 2] =
    [("b1", || vec!["room1".into(), "room2".into()]), ("b2", || vec!["room2".into(), Room::number(42.0).unwrap()])];
const CUSTOM: [Member; 1] = [("cb", || vec!["room1".into()])];
/// While the emitter sends.
const EMITTER: Member = ("e2", || vec!["room1".into(), "room2".into()]);

pub(super) struct Stage {
    cluster: ClusterNode,
    house: Arc<House>,
}

impl Stage {
    pub(super) async fn join(capture: &Capture, namespace: &str, backend: Backend) -> Self {
        let house = House { namespace: namespace.to_owned(), appends_offsets: capture.recovery, ..House::default() };
        let house = Arc::new(house);
        for (name, rooms) in if namespace == "/" { &ROOT[..] } else { &CUSTOM } {
            let id = &capture.clients[*name];
            let details = capture.details.get(id).map(|(handshake, data)| (value(handshake), value(data)));
            house.connect(name, id, &rooms(), details);
        }
        let local = Arc::downgrade(&house) as std::sync::Weak<dyn Local>;
        let cluster =
            ClusterNode::join(backend, Namespace::new(namespace), local, NodeConfig::default()).await.unwrap();
        let stage = Self { cluster, house };
        stage.rooms_are_entered().await;
        stage
    }

    pub(super) fn clients_of_the_emitter_connect(&self) {
        let (name, rooms) = EMITTER;
        if !self.house.lock().was_here(name) {
            self.house.connect(name, "e2e2e2e2e2e2e2e2e2e2", &rooms(), None);
        }
    }

    pub(super) fn adapter(&self) -> &ClusterNode {
        &self.cluster
    }

    pub(super) fn metrics(&self) -> MetricsSnapshot {
        self.cluster.metrics()
    }

    /// Waits until both markers have come.
    pub(super) async fn markers(&self) {
        let come = async {
            loop {
                let changed = self.house.changed.notified();
                if self.house.lock().take_markers() {
                    return;
                }
                changed.await;
            }
        };
        timeout(TIMEOUT, come).await.expect("the markers come");
    }

    /// Makes sure that what is sent to the rooms of the clients comes here.
    pub(super) async fn rooms_are_entered(&self) {
        self.cluster.rooms_created(&self.house.rooms()).await.unwrap();
    }

    pub(super) fn take_events(&self) -> Vec<(&'static str, Value)> {
        std::mem::take(&mut self.house.lock().events)
    }

    pub(super) fn take_server_side_events(&self) -> Vec<Value> {
        std::mem::take(&mut self.house.lock().server_side_events)
    }
}

fn value(value: &Value) -> Payload {
    Payload::value(value).unwrap()
}

/// The server of a stage.
#[derive(Debug, Default)]
struct House {
    namespace: String,
    /// Clients learn where what they got lies.
    appends_offsets: bool,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    index: RoomIndex<SocketId>,
    clients: HashMap<SocketId, Client>,
    events: Vec<(&'static str, Value)>,
    server_side_events: Vec<Value>,
    markers: usize,
    names: Vec<&'static str>,
}

#[derive(Clone, Debug)]
struct Client {
    name: &'static str,
    details: Option<(Payload, Payload)>,
}

impl State {
    fn was_here(&self, name: &str) -> bool {
        self.names.contains(&name)
    }

    /// Whether both are here; then they are not any more.
    fn take_markers(&mut self) -> bool {
        let are_here = self.markers >= 2;
        if are_here {
            self.markers = 0;
        }
        are_here
    }

    fn note(&mut self, target: &Target, arguments: &Value, wants_ack: bool) -> Vec<&'static str> {
        let event = json!([arguments, wants_ack]);
        let names: Vec<_> = self.index.matching(target).iter().map(|id| self.clients[id].name).collect();
        self.events.extend(names.iter().map(|name| (*name, event.clone())));
        names
    }
}

impl House {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self, name: &'static str, id: &str, rooms: &[Room], details: Option<(Payload, Payload)>) {
        let id = SocketId::new(id).unwrap();
        let mut state = self.lock();
        state.index.insert(id.clone());
        state.index.join(&id, &Room::new(id.as_str()));
        for room in rooms {
            state.index.join(&id, room);
        }
        state.clients.insert(id, Client { name, details });
        state.names.push(name);
    }

    /// True for a marker.
    fn is_marker(&self, payload: &Payload) -> bool {
        let is_marker = payload.event_name().is_some_and(|name| name == "marker");
        if is_marker {
            self.lock().markers += 1;
            self.changed.notify_waiters();
        }
        is_marker
    }
}

/// What a client acknowledged; `None` if it kept silent.
fn acknowledgement(client: &str, event: &str) -> Option<Option<Payload>> {
    Some(match (client, event) {
        ("b2", "ask-some") => return None,
        ("b1", "ask") => Some(value(&json!({"from": "b1", "list": [1, null, true]}))),
        ("b2", "ask") => Some(binary()),
        (_, "ask-noarg") => None,
        (_, "ask-multi") => Some(value(&json!("first"))),
        ("b1", "ask-falsy") => Some(value(&json!(null))),
        ("b2", "ask-falsy") => Some(value(&json!(0))),
        (name, _) => Some(value(&json!(name))),
    })
}

fn binary() -> Payload {
    // bin 8 of four bytes
    Payload::from_msgpack(vec![0xc4, 4, 0xde, 0xad, 0xbe, 0xef]).unwrap()
}

impl Local for House {
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        if self.is_marker(payload) {
            return DeliveryReport::default();
        }
        let mut arguments = meaning(payload);
        if let Some(offset) = offset.filter(|_| self.appends_offsets) {
            arguments.as_array_mut().unwrap().push(json!(offset.as_str()));
        }
        let sent = self.lock().note(target, &arguments, false).len() as u64;
        DeliveryReport::default().with_sent(sent)
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, _: Duration, acks: AckSink) -> u32 {
        let names = self.lock().note(target, &meaning(payload), true);
        let event = payload.event_name().unwrap();
        names.iter().filter_map(|name| acknowledgement(name, &event)).for_each(|value| acks.ack(value));
        u32::try_from(names.len()).unwrap()
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let state = self.lock();
        let describe = |id: &SocketId| {
            let (handshake, data) = state.clients[id].details.clone().unzip();
            let rooms = state.index.rooms_of(id).into_iter().flatten().cloned().collect();
            SocketInfo::new(id.clone(), rooms).with_handshake(handshake).with_data(data)
        };
        state.index.matching(target).iter().map(describe).collect()
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

    fn disconnect(&self, target: &Target, _: bool) {
        let mut state = self.lock();
        for id in state.index.matching(target) {
            state.index.remove(&id);
            let client = state.clients.remove(&id).unwrap();
            state.events.push((client.name, json!("disconnected")));
        }
    }

    fn server_side_event(&self, _: &NodeId, payload: &Payload, reply: Option<EventReply>) {
        if self.is_marker(payload) {
            return;
        }
        let event = payload.event_name().unwrap();
        if !["sse-ack-void", "sse-ack-twice"].contains(&&*event) {
            self.lock().server_side_events.push(json!([self.namespace, meaning(payload)]));
        }
        let answer = match &*event {
            "sse-ack" => Some(value(&json!({"pong": "B", "n": 2.5}))),
            "sse-ack-bin" => Some(binary()),
            "sse-ack-twice" => Some(value(&json!(1))),
            _ => None,
        };
        if let Some(reply) = reply {
            reply.answer(answer);
        }
    }
}
