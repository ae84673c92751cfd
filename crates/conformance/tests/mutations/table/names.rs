//! Transports that mix up names in some places only.

use trunkline_core::{Answer, Message, NodeKey, Room, Target};

use super::{broadcast, change_text, mutation, operations::target_of_operation, payload};
use crate::{Mutation, broken::Defect};

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = rooms();
    all.extend(numbers());
    all.extend(namespaces());
    all
}

fn split_at_commas(rooms: &mut Vec<Room>) {
    let split = rooms.iter().flat_map(|room| match room {
        Room::Text(name) => name.split(',').map(Room::from).collect(),
        number => vec![number.clone()],
    });
    *rooms = split.collect();
}

fn make_texts(rooms: &mut [Room]) {
    rooms.iter_mut().for_each(|room| *room = Room::new(room.to_text()));
}

/// A transport that changes the rooms that are joined and left.
fn moving(name: &'static str, change: fn(&mut Vec<Room>), fails: &[&'static str]) -> Mutation {
    let defect = Defect::rewriting(move |message| {
        if let Message::Join { rooms, .. } | Message::Leave { rooms, .. } = message {
            change(rooms);
        }
    });
    mutation(name, defect, fails)
}

/// A transport that changes the targets of broadcasts.
fn targeting(name: &'static str, change: fn(&mut Target), fails: &[&'static str]) -> Mutation {
    let defect = Defect::rewriting(move |message| {
        if let Some((target, _)) = broadcast(message) {
            change(target);
        }
    });
    mutation(name, defect, fails)
}

/// A transport that changes the targets of operations and requests.
fn asking(name: &'static str, change: fn(&mut Target), fails: &[&'static str]) -> Mutation {
    let defect = Defect::rewriting(move |message| {
        let target = match message {
            Message::FetchSockets { target, .. } => Some(target),
            operation => target_of_operation(operation),
        };
        if let Some(target) = target {
            change(target);
        }
    });
    mutation(name, defect, fails)
}

fn rooms() -> Vec<Mutation> {
    vec![
        targeting(
            "splits exceptions at commas",
            |target| split_at_commas(&mut target.except),
            &["broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions"],
        ),
        targeting(
            "splits lists of rooms at commas",
            |target| {
                if target.rooms.len() > 1 {
                    split_at_commas(&mut target.rooms);
                }
            },
            &["broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions"],
        ),
        moving(
            "splits rooms to join at commas",
            split_at_commas,
            &["sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed"],
        ),
        moving(
            "forgets to join the empty room",
            |rooms| rooms.retain(|room| room.to_text() != ""),
            &["sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed"],
        ),
        mutation(
            "applies joins and leaves to the first of several rooms",
            Defect::rewriting(|message| {
                if let Message::Join { target, .. } | Message::Leave { target, .. } = message {
                    target.rooms.truncate(1);
                }
            }),
            &["sockets::several_rooms_are_joined_and_left_at_once"],
        ),
        asking(
            "trims the rooms of operations",
            |target| {
                for room in &mut target.rooms {
                    if let Room::Text(name) = room {
                        *room = Room::new(name.trim());
                    }
                }
            },
            &["sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed"],
        ),
        asking(
            "leaves out members of the first room at most",
            |target| target.except.truncate(1),
            &[
                "fetch::sockets_are_found_by_room_and_exception",
                "sockets::all_sockets_join_except_those_excepted",
                "sockets::members_leave_a_room_on_every_node",
                "sockets::members_of_a_room_are_disconnected_on_every_node",
            ],
        ),
        mutation(
            "takes what looks like binary for binary",
            Defect::rewriting(|message| {
                if let Some(payload) = payload(message).filter(|payload| !payload.has_binary()) {
                    change_text(payload, |text| text.replace(r#"{"_placeholder":true,"num":0}"#, "null"));
                }
            }),
            &["payloads::nested_objects_keep_keys_and_their_order"],
        ),
    ]
}

fn is_zero(room: &Room) -> bool {
    *room == Room::from(0)
}

fn numbers() -> Vec<Mutation> {
    vec![
        targeting(
            "takes room 0 for no room",
            |target| target.rooms.retain(|room| !is_zero(room)),
            &["broadcast::a_number_room_is_not_the_room_of_its_text"],
        ),
        targeting(
            "ignores room 0 as an exception",
            |target| target.except.retain(|room| !is_zero(room)),
            &["broadcast::a_number_room_is_not_the_room_of_its_text"],
        ),
        asking(
            "takes number rooms for texts where operations leave them out",
            |target| make_texts(&mut target.except),
            &["sockets::number_rooms_are_joined_left_and_listed_as_numbers"],
        ),
        moving(
            "joins number rooms as texts",
            |rooms| make_texts(rooms),
            &["sockets::number_rooms_are_joined_left_and_listed_as_numbers"],
        ),
        mutation(
            "finds members of number rooms as of texts",
            Defect::rewriting(|message| {
                if let Message::FetchSockets { target, .. } | Message::Leave { target, .. } = message {
                    make_texts(&mut target.rooms);
                }
            }),
            &["sockets::number_rooms_are_joined_left_and_listed_as_numbers"],
        ),
        mutation(
            "lists number rooms as texts",
            Defect::answering(|mut response| {
                match &mut response.answer {
                    Answer::Sockets(sockets) => sockets.iter_mut().for_each(|socket| make_texts(&mut socket.rooms)),
                    Answer::Rooms(rooms) => make_texts(rooms),
                    _ => {}
                }
                vec![response]
            }),
            &["sockets::number_rooms_are_joined_left_and_listed_as_numbers"],
        ),
    ]
}

fn is_odd(node: &NodeKey) -> bool {
    node.namespace.as_str().contains(['#', '*', '%', ' ', ':', '"'])
}

fn namespaces() -> Vec<Mutation> {
    vec![
        mutation(
            "loses answers in namespaces of odd names",
            Defect::sending(|from, to, response| if is_odd(&from) { Vec::new() } else { vec![(to, response)] }),
            &["namespaces::namespace_names_that_look_alike_are_different_namespaces"],
        ),
        mutation(
            "loses what is for one room in namespaces of odd names",
            Defect::publishing(|from, mut message| {
                let is_to_room = broadcast(&mut message).is_some_and(|(target, _)| target.single_room().is_some());
                if is_to_room && is_odd(from) { Vec::new() } else { vec![message] }
            }),
            &["namespaces::namespace_names_that_look_alike_are_different_namespaces"],
        ),
        mutation(
            "does not emit into namespaces of odd names",
            Defect::publishing(
                |from, message| {
                    if from.id.is_emitter() && is_odd(from) { Vec::new() } else { vec![message] }
                },
            ),
            &["namespaces::namespace_names_that_look_alike_are_different_namespaces"],
        ),
    ]
}
