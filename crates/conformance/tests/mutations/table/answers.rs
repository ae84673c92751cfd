//! Transports that lose, garble or misdirect requests and answers.

use std::time::Duration;

use trunkline_core::{Answer, Message, NodeId, Payload, RequestId, Response, model::Delivery};

use super::{change_binary, change_text, mutation};
use crate::{Mutation, broken::Defect};

/// A transport that changes answers.
fn changing(name: &'static str, change: fn(&mut Answer), fails: &[&'static str]) -> Mutation {
    let defect = Defect::answering(move |mut response| {
        change(&mut response.answer);
        vec![response]
    });
    mutation(name, defect, fails)
}

/// A transport that loses some answers.
fn losing(name: &'static str, is_lost: fn(&Answer) -> bool, fails: &[&'static str]) -> Mutation {
    mutation(
        name,
        Defect::answering(move |response| if is_lost(&response.answer) { Vec::new() } else { vec![response] }),
        fails,
    )
}

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = lost();
    all.extend(misdirected());
    all.extend(garbled());
    all.extend(changed());
    all
}

fn lost() -> Vec<Mutation> {
    vec![
        losing(
            "loses client counts of none",
            |answer| *answer == Answer::ClientCount(0),
            &[
                "acks::requests_at_the_same_time_get_their_own_answers",
                "acks::without_clients_it_ends_at_once_and_empty",
            ],
        ),
        losing(
            "loses client counts",
            |answer| matches!(answer, Answer::ClientCount(_)),
            &[
                "acks::a_frozen_node_is_named_as_missing",
                "acks::a_silent_client_costs_the_time_out_and_no_answer_of_others",
                "acks::acknowledgements_arrive_as_they_come",
                "acks::an_acknowledgement_without_argument_counts",
                "acks::answers_carry_binary",
                "acks::big_questions_and_answers_arrive_whole",
                "acks::every_client_of_every_node_is_heard",
                "acks::late_answers_disturb_nobody",
                "acks::only_clients_that_match_are_asked",
                "acks::requests_at_the_same_time_get_their_own_answers",
                "acks::without_clients_it_ends_at_once_and_empty",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "...",
            ],
        ),
        losing(
            "loses acknowledgements without argument",
            |answer| *answer == Answer::Ack(None),
            &["acks::an_acknowledgement_without_argument_counts"],
        ),
        losing(
            "loses what is undefined",
            |answer| *answer == Answer::ServerSideEmit(None),
            &[
                "server_side::a_node_without_a_handler_costs_no_time_out",
                "server_side::an_event_names_its_sender",
                "server_side::clients_do_not_see_server_side_events",
            ],
        ),
        losing(
            "loses answers of servers",
            |answer| matches!(answer, Answer::ServerSideEmit(_)),
            &[
                "server_side::the_same_event_and_the_same_answer_count_each_time",
                "server_side::big_events_and_answers_arrive_whole",
                "namespaces::leaving_one_namespace_leaves_the_others_alone",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "server_side::a_node_that_dies_is_not_waited_for",
                "server_side::a_node_that_does_not_answer_is_named_as_missing",
                "server_side::a_node_without_a_handler_costs_no_time_out",
                "server_side::an_event_names_its_sender",
                "server_side::binary_goes_there_and_back",
                "server_side::clients_do_not_see_server_side_events",
                "server_side::every_other_node_answers",
                "server_side::questions_of_several_nodes_at_once_get_their_own_answers",
                "server_side::answers_mean_what_the_nodes_said",
            ],
        ),
        losing(
            "loses lists of sockets that are empty",
            |answer| *answer == Answer::Sockets(Vec::new()),
            &[
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::requests_of_several_nodes_at_once_get_their_own_answers",
                "fetch::where_nobody_is_nobody_is_found",
                "lifecycle::closing_ends_all_tasks",
            ],
        ),
        losing(
            "loses answers above 32 KB",
            |answer| match answer {
                Answer::Ack(value) => value.as_ref().is_some_and(|value| value.len() > 32 << 10),
                Answer::Sockets(sockets) => {
                    sockets.iter().flat_map(|socket| &socket.data).map(Payload::len).sum::<usize>() > 32 << 10
                }
                _ => false,
            },
            &["acks::big_questions_and_answers_arrive_whole", "fetch::hundreds_of_sockets_are_found_with_their_data"],
        ),
        mutation(
            "passes one acknowledgement per node and request",
            Defect::arriving(|seen: &mut Vec<(Option<NodeId>, RequestId)>, delivery| {
                if let Delivery::Response { from, response: Response { request, answer: Answer::Ack(_) } } = &delivery {
                    let key = (from.clone(), request.clone());
                    if seen.contains(&key) {
                        return Vec::new();
                    }
                    seen.push(key);
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &[
                "acks::hundreds_of_clients_are_heard_though_they_answer_alike",
                "acks::every_client_of_every_node_is_heard",
            ],
        ),
        mutation(
            "passes acknowledgements in pairs",
            Defect::arriving(|held: &mut Option<Delivery>, delivery| {
                let is_ack =
                    matches!(&delivery, Delivery::Response { response: Response { answer: Answer::Ack(_), .. }, .. });
                match held.take() {
                    Some(first) if is_ack => vec![(Duration::ZERO, first), (Duration::ZERO, delivery)],
                    None if is_ack => {
                        *held = Some(delivery);
                        Vec::new()
                    }
                    waiting => {
                        *held = waiting;
                        vec![(Duration::ZERO, delivery)]
                    }
                }
            }),
            &[
                "acks::acknowledgements_arrive_as_they_come",
                "acks::an_acknowledgement_without_argument_counts",
                "acks::answers_carry_binary",
                "acks::big_questions_and_answers_arrive_whole",
                "acks::every_client_of_every_node_is_heard",
                "acks::only_clients_that_match_are_asked",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "acks::answers_mean_what_the_clients_said",
            ],
        ),
        mutation(
            "asks for no acknowledgements elsewhere",
            Defect::rewriting(|message| {
                if let Message::Broadcast { request, .. } = message {
                    *request = None;
                }
            }),
            &[
                "acks::a_frozen_node_is_named_as_missing",
                "acks::a_silent_client_costs_the_time_out_and_no_answer_of_others",
                "acks::acknowledgements_arrive_as_they_come",
                "acks::an_acknowledgement_without_argument_counts",
                "acks::answers_carry_binary",
                "acks::big_questions_and_answers_arrive_whole",
                "acks::every_client_of_every_node_is_heard",
                "acks::late_answers_disturb_nobody",
                "acks::only_clients_that_match_are_asked",
                "acks::requests_at_the_same_time_get_their_own_answers",
                "acks::without_clients_it_ends_at_once_and_empty",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "...",
            ],
        ),
        mutation(
            "loses requests for sockets",
            Defect::losing(|message| matches!(message, Message::FetchSockets { .. })),
            &[
                "acks::a_caller_that_goes_away_frees_its_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::a_caller_that_goes_away_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_other_names_do_not_answer_each_other",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "loses requests for rooms",
            Defect::losing(|message| matches!(message, Message::AllRooms { .. })),
            &["fetch::rooms_of_all_nodes_are_named_once_each"],
        ),
        mutation(
            "forgets of whom a request wants to know",
            Defect::rewriting(|message| {
                if let Message::FetchSockets { target, .. } = message {
                    target.rooms.clear();
                }
            }),
            &[
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::requests_of_several_nodes_at_once_get_their_own_answers",
                "fetch::sockets_are_found_by_room_and_exception",
                "fetch::where_nobody_is_nobody_is_found",
            ],
        ),
        mutation(
            "forgets of whom a request wants to know nothing",
            Defect::rewriting(|message| {
                if let Message::FetchSockets { target, .. } = message {
                    target.except.clear();
                }
            }),
            &["fetch::sockets_are_found_by_room_and_exception"],
        ),
    ]
}

fn misdirected() -> Vec<Mutation> {
    vec![
        mutation(
            "answers itself",
            Defect::sending(|from, _, response| vec![(from.id, response)]),
            &[
                "acks::a_caller_that_goes_away_frees_its_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::a_caller_that_goes_away_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_other_names_do_not_answer_each_other",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "server_side::a_node_that_dies_is_not_waited_for",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "answers everything twice",
            Defect::answering(|response| vec![response.clone(), response]),
            &[
                "acks::a_silent_client_costs_the_time_out_and_no_answer_of_others",
                "acks::every_client_of_every_node_is_heard",
            ],
        ),
        mutation(
            "takes answers for those of the request before",
            Defect::arriving(|last: &mut Option<RequestId>, delivery| {
                let Delivery::Response { from, response } = delivery else { return vec![(Duration::ZERO, delivery)] };
                let request = last.replace(response.request.clone()).unwrap_or_else(|| response.request.clone());
                vec![(Duration::ZERO, Delivery::Response { from, response: Response { request, ..response } })]
            }),
            &[
                "acks::a_caller_that_goes_away_frees_its_request",
                "acks::late_answers_disturb_nobody",
                "acks::requests_at_the_same_time_get_their_own_answers",
                "fetch::a_caller_that_goes_away_frees_its_request",
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::requests_of_several_nodes_at_once_get_their_own_answers",
                "fetch::sockets_are_found_by_room_and_exception",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "server_side::questions_of_several_nodes_at_once_get_their_own_answers",
                "...",
            ],
        ),
        mutation(
            "does not tell who answers",
            Defect::arriving(|(): &mut (), delivery| match delivery {
                Delivery::Response { response, .. } => {
                    vec![(Duration::ZERO, Delivery::Response { from: None, response })]
                }
                delivery => vec![(Duration::ZERO, delivery)],
            }),
            &[
                "acks::a_caller_that_goes_away_frees_its_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::a_caller_that_goes_away_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_other_names_do_not_answer_each_other",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "takes all answers for one node's",
            Defect::arriving(|(): &mut (), delivery| match delivery {
                Delivery::Response { response, .. } => {
                    let from = Some(NodeId::new("somebody").unwrap());
                    vec![(Duration::ZERO, Delivery::Response { from, response })]
                }
                delivery => vec![(Duration::ZERO, delivery)],
            }),
            &[
                "acks::a_caller_that_goes_away_frees_its_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::a_caller_that_goes_away_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_other_names_do_not_answer_each_other",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
    ]
}

/// Transports that change the text of what clients answer, of what servers answer, of what is attached to sockets.
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
            |answer| if let Answer::Ack(value) = answer { value.iter_mut().collect() } else { Vec::new() },
            &["acks::answers_mean_what_the_clients_said"],
        ),
        answering(
            of_servers,
            |answer| if let Answer::ServerSideEmit(value) = answer { value.iter_mut().collect() } else { Vec::new() },
            &["server_side::answers_mean_what_the_nodes_said"],
        ),
        answering(
            about_sockets,
            |answer| match answer {
                Answer::Sockets(sockets) => sockets.iter_mut().filter_map(|socket| socket.data.as_mut()).collect(),
                _ => Vec::new(),
            },
            &["fetch::rooms_handshake_and_data_arrive_as_they_are"],
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
                if let Answer::Ack(Some(value)) | Answer::ServerSideEmit(Some(value)) = answer
                    && value.has_binary()
                {
                    change_binary(value, |part| part.iter().map(|byte| byte & 0x7f).collect());
                }
            },
            &["acks::answers_carry_binary", "server_side::binary_goes_there_and_back"],
        ),
        changing(
            "makes undefined null",
            |answer| {
                if let Answer::ServerSideEmit(value @ None) = answer {
                    *value = Some(Payload::from_json("null").unwrap());
                }
            },
            &["server_side::a_node_without_a_handler_costs_no_time_out"],
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
            &["fetch::rooms_handshake_and_data_arrive_as_they_are"],
        ),
        changing(
            "forgets data",
            |answer| each_socket(answer, |socket| socket.data = None),
            &[
                "fetch::hundreds_of_sockets_are_found_with_their_data",
                "fetch::rooms_handshake_and_data_arrive_as_they_are",
            ],
        ),
        changing(
            "forgets rooms",
            |answer| each_socket(answer, |socket| socket.rooms.truncate(1)),
            &["fetch::rooms_handshake_and_data_arrive_as_they_are"],
        ),
        changing(
            "forgets rooms of other nodes",
            |answer| {
                if let Answer::Rooms(rooms) = answer {
                    rooms.clear()
                }
            },
            &["fetch::rooms_of_all_nodes_are_named_once_each"],
        ),
        changing(
            "makes up clients",
            |answer| {
                if let Answer::ClientCount(count) = answer {
                    *count += 1
                }
            },
            &[
                "acks::hundreds_of_clients_are_heard_though_they_answer_alike",
                "acks::acknowledgements_arrive_as_they_come",
                "acks::an_acknowledgement_without_argument_counts",
                "acks::answers_carry_binary",
                "acks::big_questions_and_answers_arrive_whole",
                "acks::every_client_of_every_node_is_heard",
                "acks::late_answers_disturb_nobody",
                "acks::only_clients_that_match_are_asked",
                "acks::requests_at_the_same_time_get_their_own_answers",
                "acks::without_clients_it_ends_at_once_and_empty",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "acks::answers_mean_what_the_clients_said",
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
                "acks::a_caller_that_goes_away_frees_its_request",
                "fetch::a_caller_that_goes_away_frees_its_request",
                "fetch::a_frozen_node_is_named_and_the_others_are_told",
                "fetch::a_node_that_dies_is_not_waited_for",
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::hundreds_of_sockets_are_found_with_their_data",
                "fetch::rooms_handshake_and_data_arrive_as_they_are",
                "fetch::sockets_are_found_by_room_and_exception",
                "fetch::sockets_of_all_nodes_are_found",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_other_names_do_not_answer_each_other",
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
