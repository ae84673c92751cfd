//! Servers with a broken `Local`: the suite tests it as much as a transport.

use std::{sync::Arc, time::Duration};

use trunkline_conformance::kit::{Client, RoomServer, Server, ServerAbilities};
use trunkline_core::{AckSink, DeliveryReport, EventReply, Local, NodeId, Offset, Payload, Room, SocketInfo, Target};

use crate::{Mutation, sound};

/// Selects the rooms that are joined or left from those requested.
type Rooms = fn(&[Room]) -> Vec<Room>;

/// What a server does wrong. Calls without a defect are forwarded.
#[derive(Clone, Copy, Debug, Default)]
struct Defect {
    target: Option<fn(&mut Target)>,
    /// Of deliveries alone.
    delivers: Option<fn(&Target) -> bool>,
    times: Option<usize>,
    payload: Option<fn(&Payload) -> Payload>,
    forgets_offsets: bool,
    asks: Option<fn(&Target) -> bool>,
    counts: Option<fn(u32) -> u32>,
    describe: Option<fn(&mut SocketInfo)>,
    joins: Option<Rooms>,
    leaves: Option<Rooms>,
    close: Option<fn(bool) -> bool>,
    disconnects: Option<fn() -> bool>,
    keeps_events: bool,
}

#[derive(Debug, Default)]
struct BrokenServer {
    server: RoomServer,
    defect: Defect,
}

impl Server for BrokenServer {
    fn local(&self) -> Arc<dyn Local> {
        Arc::new(Broken { local: self.server.local(), _server: self.server.clone(), defect: self.defect })
    }

    fn connect(&self, client: Arc<Client>, rooms: &[Room]) {
        self.server.connect(client, rooms);
    }

    fn abilities(&self) -> ServerAbilities {
        self.server.abilities()
    }
}

#[derive(Debug)]
struct Broken {
    local: Arc<dyn Local>,
    _server: RoomServer,
    defect: Defect,
}

impl Broken {
    fn target(&self, target: &Target) -> Target {
        let mut target = target.clone();
        if let Some(change) = self.defect.target {
            change(&mut target);
        }
        target
    }
}

impl Local for Broken {
    fn deliver(&self, target: &Target, payload: &Payload, offset: Option<&Offset>) -> DeliveryReport {
        if trunkline_conformance::kit::Marker::of(payload).is_some() {
            return self.local.deliver(target, payload, offset);
        }
        if self.defect.delivers.is_some_and(|delivers| !delivers(target)) {
            return DeliveryReport::default();
        }
        let changed = self.defect.payload.map_or_else(|| payload.clone(), |change| change(payload));
        let offset = offset.filter(|_| !self.defect.forgets_offsets);
        (1..self.defect.times.unwrap_or(1)).for_each(|_| {
            self.local.deliver(&self.target(target), &changed, offset);
        });
        self.local.deliver(&self.target(target), &changed, offset)
    }

    fn deliver_with_ack(&self, target: &Target, payload: &Payload, timeout: Duration, acks: AckSink) -> u32 {
        if self.defect.asks.is_some_and(|asks| !asks(target)) {
            return 0;
        }
        let count = self.local.deliver_with_ack(&self.target(target), payload, timeout, acks);
        self.defect.counts.map_or(count, |change| change(count))
    }

    fn sockets(&self, target: &Target) -> Vec<SocketInfo> {
        let mut sockets = self.local.sockets(&self.target(target));
        if let Some(describe) = self.defect.describe {
            sockets.iter_mut().for_each(describe);
        }
        sockets
    }

    fn rooms(&self) -> Vec<Room> {
        self.local.rooms()
    }

    fn has_room(&self, room: &Room) -> bool {
        self.local.has_room(room)
    }

    fn join(&self, target: &Target, rooms: &[Room]) {
        let rooms = self.defect.joins.map_or_else(|| rooms.to_vec(), |change| change(rooms));
        self.local.join(&self.target(target), &rooms);
    }

    fn leave(&self, target: &Target, rooms: &[Room]) {
        let rooms = self.defect.leaves.map_or_else(|| rooms.to_vec(), |change| change(rooms));
        self.local.leave(&self.target(target), &rooms);
    }

    fn disconnect(&self, target: &Target, close: bool) {
        if self.defect.disconnects.is_none_or(|disconnects| disconnects()) {
            self.local.disconnect(&self.target(target), self.defect.close.map_or(close, |change| change(close)));
        }
    }

    fn server_side_event(&self, from: &NodeId, payload: &Payload, reply: Option<EventReply>) {
        match (self.defect.keeps_events, reply) {
            // Never answered, not even by being dropped.
            (true, Some(reply)) => std::mem::forget(reply),
            (_, reply) => self.local.server_side_event(from, payload, reply),
        }
    }
}

fn mutation(name: &'static str, defect: Defect, fails: &[&'static str]) -> Mutation {
    let setup = sound().server(move || BrokenServer { defect, ..BrokenServer::default() });
    Mutation { name, setup, fails: fails.to_vec() }
}

pub(crate) fn all() -> Vec<Mutation> {
    let it = Defect::default;
    let mut all = vec![mutation("a sound server", it(), &[])];
    all.extend(targets());
    all.extend([
        mutation(
            "delivers twice",
            Defect { times: Some(2), ..it() },
            &[
                "broadcast::to_all_reaches_every_socket_of_every_node_once",
                "payloads::the_same_event_a_thousand_times_arrives_a_thousand_times",
                "...",
            ],
        ),
        mutation(
            "drops volatile broadcasts",
            Defect { delivers: Some(|target| !target.flags.is_volatile()), ..it() },
            &[
                "broadcast::volatile_broadcasts_reach_sockets_that_are_ready",
                "broadcast::flags_reach_other_nodes_unchanged",
                "...",
            ],
        ),
        mutation(
            "loses binary",
            Defect {
                payload: Some(|payload| match payload.has_binary() {
                    true => Payload::from_trusted_json(payload.to_json().text, Vec::new()),
                    false => payload.clone(),
                }),
                ..it()
            },
            &["payloads::binary_arrives_at_any_depth", "payloads::a_mebibyte_of_binary_arrives_whole", "..."],
        ),
        mutation(
            "sends no offsets",
            Defect { forgets_offsets: true, ..it() },
            &[
                "recovery::replay_continues_after_any_offset",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "...",
            ],
        ),
    ]);
    all.extend(answers());
    all.extend(operations());
    all
}

fn targets() -> Vec<Mutation> {
    let it = Defect::default;
    vec![
        mutation(
            "ignores rooms",
            Defect { target: Some(|target| target.rooms.clear()), ..it() },
            &[
                "broadcast::to_a_room_reaches_only_its_members",
                "broadcast::a_broadcast_to_an_unknown_room_reaches_no_socket",
                "acks::only_clients_of_the_target_are_asked",
                "fetch::sockets_are_found_by_room_and_exception",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "ignores exceptions",
            Defect { target: Some(|target| target.except.clear()), ..it() },
            &[
                "broadcast::except_leaves_out_the_members_of_a_room",
                "broadcast::the_sending_socket_can_be_excepted",
                "acks::only_clients_of_the_target_are_asked",
                "sockets::all_sockets_join_except_those_excepted",
                "...",
            ],
        ),
        mutation(
            "knows one room of several",
            Defect { target: Some(|target| target.rooms.truncate(1)), ..it() },
            &["broadcast::to_several_rooms_reaches_a_member_of_several_once", "..."],
        ),
        mutation(
            "takes number rooms for texts",
            Defect {
                target: Some(|target| {
                    target.rooms = target.rooms.iter().map(|room| Room::from(&*room.to_text())).collect();
                }),
                ..it()
            },
            &["broadcast::a_number_room_is_not_the_room_of_its_text", "..."],
        ),
    ]
}

fn answers() -> Vec<Mutation> {
    let it = Defect::default;
    vec![
        mutation(
            "asks no client for acknowledgements",
            Defect { asks: Some(|_| false), ..it() },
            &["acks::every_client_of_every_node_acknowledges", "acks::acknowledgements_carry_binary", "..."],
        ),
        mutation(
            "counts a client too many",
            Defect { counts: Some(|count| count + 1), ..it() },
            &[
                "acks::every_client_of_every_node_acknowledges",
                "acks::without_clients_there_are_no_acknowledgements_and_no_wait",
                "...",
            ],
        ),
        mutation(
            "forgets data",
            Defect { describe: Some(|socket| socket.data = None), ..it() },
            &[
                "fetch::rooms_handshake_and_data_arrive_unchanged",
                "fetch::hundreds_of_sockets_are_found_with_their_data",
            ],
        ),
        mutation(
            "forgets the handshake",
            Defect { describe: Some(|socket| socket.handshake = None), ..it() },
            &[
                "fetch::rooms_handshake_and_data_arrive_unchanged",
                "fetch::a_socket_of_which_nothing_is_known_has_a_whole_handshake",
            ],
        ),
        mutation(
            "leaves server-side events unanswered",
            Defect { keeps_events: true, ..it() },
            &["server_side::a_node_without_a_handler_costs_no_timeout", "..."],
        ),
    ]
}

fn operations() -> Vec<Mutation> {
    let it = Defect::default;
    vec![
        mutation(
            "joins one room of several",
            Defect { joins: Some(|rooms| rooms[..1].to_vec()), ..it() },
            &["sockets::several_rooms_are_joined_and_left_at_once", "emitter::sockets_join_and_leave", "..."],
        ),
        mutation(
            "leaves one room of several",
            Defect { leaves: Some(|rooms| rooms[..1].to_vec()), ..it() },
            &["sockets::several_rooms_are_joined_and_left_at_once", "emitter::sockets_join_and_leave", "..."],
        ),
        mutation(
            "leaves no rooms",
            Defect { leaves: Some(|_| Vec::new()), ..it() },
            &[
                "sockets::members_leave_a_room_on_every_node",
                "sockets::a_socket_of_another_node_leaves_by_its_id",
                "...",
            ],
        ),
        mutation(
            "never closes connections",
            Defect { close: Some(|_| false), ..it() },
            &["emitter::connections_are_closed_on_request", "sockets::disconnecting_closes_connections_on_request"],
        ),
        mutation(
            "disconnects no client",
            Defect { disconnects: Some(|| false), ..it() },
            &[
                "sockets::members_of_a_room_are_disconnected_on_every_node",
                "sockets::a_socket_of_another_node_is_disconnected_by_its_id",
                "...",
            ],
        ),
    ]
}
