//! Transports that change answers.

use trunkline_core::{Ack, Answer, Payload};

use super::{change_binary, change_text, mutation};
use crate::{Mutation, broken::Defect};

pub(super) fn all() -> Vec<Mutation> {
    let mut all = garbled();
    all.extend(changed());
    all
}

/// A transport that changes answers.
fn changing(name: &'static str, change: fn(&mut Answer), fails: &[&'static str]) -> Mutation {
    let defect = Defect::answering(move |mut response| {
        change(&mut response.answer);
        vec![response]
    });
    mutation(name, defect, fails)
}

/// Transports that change text in acknowledgements, in answers of servers, and in the data of sockets.
fn garbling(names: [&'static str; 3], change: fn(&str) -> String) -> [Mutation; 3] {
    let answering = |name, part: fn(&mut Answer) -> Vec<&mut Payload>, fails| {
        let defect = Defect::answering(move |mut response| {
            part(&mut response.answer).into_iter().for_each(|value| change_text(value, change));
            vec![response]
        });
        mutation(name, defect, fails)
    };
    let [of_clients, of_servers, about_sockets] = names;
    [
        answering(
            of_clients,
            |answer| if let Answer::Ack(Ack { value, .. }) = answer { value.iter_mut().collect() } else { Vec::new() },
            &["acks::acknowledgements_keep_their_meaning"],
        ),
        answering(
            of_servers,
            |answer| if let Answer::ServerSideEmit(value) = answer { value.iter_mut().collect() } else { Vec::new() },
            &["server_side::events_and_answers_keep_their_meaning"],
        ),
        answering(
            about_sockets,
            |answer| match answer {
                Answer::Sockets(sockets) => sockets.iter_mut().filter_map(|socket| socket.data.as_mut()).collect(),
                _ => Vec::new(),
            },
            &["fetch::rooms_handshake_and_data_arrive_unchanged"],
        ),
    ]
}

fn garbled() -> Vec<Mutation> {
    let mut all = Vec::new();
    all.extend(garbling(
        ["rounds integers that clients answer", "rounds integers that servers answer", "rounds integers of sockets"],
        |text| text.replace("9007199254740993", "9007199254740992"),
    ));
    all.extend(garbling(
        ["drops blanks that clients answer", "drops blanks that servers answer", "drops blanks of sockets"],
        |text| text.replace(' ', ""),
    ));
    all.extend(garbling(
        ["loses characters that clients answer", "loses characters that servers answer", "loses characters of sockets"],
        |text| text.replace('日', "?"),
    ));
    all
}

fn changed() -> Vec<Mutation> {
    vec![
        changing(
            "corrupts binary in answers",
            |answer| {
                if let Answer::Ack(Ack { value: Some(value), .. }) | Answer::ServerSideEmit(Some(value)) = answer
                    && value.has_binary()
                {
                    change_binary(value, |part| part.iter().map(|byte| byte & 0x7f).collect());
                }
            },
            &["acks::acknowledgements_carry_binary", "server_side::events_and_answers_carry_binary"],
        ),
        changing(
            "makes undefined null",
            |answer| {
                if let Answer::ServerSideEmit(value @ None) = answer {
                    *value = Some(Payload::from_json("null").unwrap());
                }
            },
            &["server_side::a_node_without_a_handler_costs_no_timeout"],
        ),
        changing(
            "cuts lists of sockets",
            |answer| {
                if let Answer::Sockets(sockets) = answer {
                    sockets.truncate(100)
                }
            },
            &["fetch::hundreds_of_sockets_are_found_with_their_data"],
        ),
        changing(
            "forgets handshakes",
            |answer| each_socket(answer, |socket| socket.handshake = None),
            &[
                "fetch::rooms_handshake_and_data_arrive_unchanged",
                "fetch::a_socket_of_which_nothing_is_known_has_a_whole_handshake",
            ],
        ),
        changing(
            "forgets data",
            |answer| each_socket(answer, |socket| socket.data = None),
            &[
                "fetch::hundreds_of_sockets_are_found_with_their_data",
                "fetch::rooms_handshake_and_data_arrive_unchanged",
            ],
        ),
        changing(
            "forgets rooms",
            |answer| each_socket(answer, |socket| socket.rooms.truncate(1)),
            &[
                "fetch::rooms_handshake_and_data_arrive_unchanged",
                "fetch::a_room_with_too_long_a_name_costs_no_socket_and_no_other_room",
            ],
        ),
        changing(
            "forgets rooms of other nodes",
            |answer| {
                if let Answer::Rooms(rooms) = answer {
                    rooms.clear()
                }
            },
            &["fetch::rooms_of_all_nodes_are_listed_once_each"],
        ),
        changing(
            "makes up clients",
            |answer| {
                if let Answer::ClientCount(count) = answer {
                    *count += 1
                }
            },
            &[
                "acks::hundreds_of_equal_acknowledgements_are_all_returned",
                "acks::acknowledgements_are_returned_as_they_arrive",
                "acks::an_acknowledgement_without_a_value_counts",
                "acks::acknowledgements_carry_binary",
                "acks::large_broadcasts_and_acknowledgements_arrive_whole",
                "acks::every_client_of_every_node_acknowledges",
                "acks::late_acknowledgements_are_ignored",
                "acks::only_clients_of_the_target_are_asked",
                "acks::concurrent_requests_get_their_own_acknowledgements",
                "acks::without_clients_there_are_no_acknowledgements_and_no_wait",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "acks::acknowledgements_keep_their_meaning",
            ],
        ),
        changing(
            "makes up sockets",
            |answer| {
                if let Answer::Sockets(sockets) = answer {
                    sockets.extend_from_within(..sockets.len().min(1))
                }
            },
            &[
                "acks::dropping_the_acknowledgements_frees_the_request",
                "fetch::dropping_the_call_frees_its_request",
                "fetch::a_frozen_node_is_named_as_missing_and_the_other_answers_are_returned",
                "fetch::a_node_that_dies_is_not_waited_for",
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::hundreds_of_sockets_are_found_with_their_data",
                "fetch::rooms_handshake_and_data_arrive_unchanged",
                "fetch::sockets_are_found_by_room_and_exception",
                "fetch::sockets_of_all_nodes_are_found",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "namespaces::namespaces_of_one_process_share_connections_and_nothing_else",
                "...",
            ],
        ),
    ]
}

fn each_socket(answer: &mut Answer, change: impl Fn(&mut trunkline_core::SocketInfo)) {
    if let Answer::Sockets(sockets) = answer {
        sockets.iter_mut().for_each(change);
    }
}
