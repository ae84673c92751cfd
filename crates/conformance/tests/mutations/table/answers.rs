//! Transports that lose or misdirect requests and answers.

use std::time::Duration;

use trunkline_core::{Ack, Answer, Message, NodeId, Payload, RequestId, Response, model::Delivery};

use super::{changed_answers, mutation};
use crate::{Mutation, broken::Defect};

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
    all.extend(changed_answers::all());
    all
}

fn lost() -> Vec<Mutation> {
    vec![
        losing(
            "loses client counts of none",
            |answer| *answer == Answer::ClientCount(0),
            &[
                "acks::concurrent_requests_get_their_own_acknowledgements",
                "acks::without_clients_there_are_no_acknowledgements_and_no_wait",
            ],
        ),
        losing(
            "loses client counts",
            |answer| matches!(answer, Answer::ClientCount(_)),
            &[
                "acks::a_frozen_node_is_named_as_missing",
                "acks::a_client_that_does_not_acknowledge_costs_the_timeout_and_no_other_acknowledgement",
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
                "...",
            ],
        ),
        losing(
            "loses acknowledgements without argument",
            |answer| matches!(answer, Answer::Ack(Ack { value: None, .. })),
            &["acks::an_acknowledgement_without_a_value_counts"],
        ),
        losing(
            "loses what is undefined",
            |answer| *answer == Answer::ServerSideEmit(None),
            &[
                "server_side::a_node_without_a_handler_costs_no_timeout",
                "server_side::an_event_names_its_sender",
                "server_side::clients_do_not_see_server_side_events",
            ],
        ),
        losing(
            "loses answers of servers",
            |answer| matches!(answer, Answer::ServerSideEmit(_)),
            &[
                "handover::a_session_is_taken_over_from_a_socket_on_another_node",
                "handover::a_client_that_has_come_back_has_no_second_session",
                "server_side::equal_events_and_equal_answers_count_each_time",
                "server_side::large_events_and_answers_arrive_whole",
                "namespaces::leaving_one_namespace_does_not_affect_the_others",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "server_side::a_node_that_dies_is_not_waited_for",
                "server_side::a_node_that_does_not_answer_is_named_as_missing",
                "server_side::a_node_without_a_handler_costs_no_timeout",
                "server_side::an_event_names_its_sender",
                "server_side::events_and_answers_carry_binary",
                "server_side::clients_do_not_see_server_side_events",
                "server_side::every_other_node_answers",
                "server_side::concurrent_requests_get_their_own_answers",
                "server_side::events_and_answers_keep_their_meaning",
            ],
        ),
        losing(
            "loses lists of sockets that are empty",
            |answer| *answer == Answer::Sockets(Vec::new()),
            &[
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::concurrent_requests_get_their_own_answers",
                "fetch::without_matching_sockets_none_are_found",
                "lifecycle::a_probe_measures_the_way_to_every_node",
                "lifecycle::closing_ends_all_tasks",
            ],
        ),
        losing(
            "loses answers above 32 KB",
            |answer| match answer {
                Answer::Ack(Ack { value, .. }) => value.as_ref().is_some_and(|value| value.len() > 32 << 10),
                Answer::Sockets(sockets) => {
                    sockets.iter().flat_map(|socket| &socket.data).map(Payload::len).sum::<usize>() > 32 << 10
                }
                _ => false,
            },
            &[
                "acks::large_broadcasts_and_acknowledgements_arrive_whole",
                "fetch::hundreds_of_sockets_are_found_with_their_data",
            ],
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
                "acks::hundreds_of_equal_acknowledgements_are_all_returned",
                "acks::every_client_of_every_node_acknowledges",
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
                "acks::acknowledgements_are_returned_as_they_arrive",
                "acks::an_acknowledgement_without_a_value_counts",
                "acks::acknowledgements_carry_binary",
                "acks::large_broadcasts_and_acknowledgements_arrive_whole",
                "acks::every_client_of_every_node_acknowledges",
                "acks::only_clients_of_the_target_are_asked",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "acks::acknowledgements_keep_their_meaning",
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
                "acks::a_client_that_does_not_acknowledge_costs_the_timeout_and_no_other_acknowledgement",
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
                "...",
            ],
        ),
        mutation(
            "loses requests for sockets",
            Defect::losing(|message| matches!(message, Message::FetchSockets { .. })),
            &[
                "acks::dropping_the_acknowledgements_frees_the_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::dropping_the_call_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "loses requests for rooms",
            Defect::losing(|message| matches!(message, Message::AllRooms { .. })),
            &["fetch::rooms_of_all_nodes_are_listed_once_each"],
        ),
        mutation(
            "ignores the rooms of a request",
            Defect::rewriting(|message| {
                if let Message::FetchSockets { target, .. } = message {
                    target.rooms.clear();
                }
            }),
            &[
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::concurrent_requests_get_their_own_answers",
                "fetch::sockets_are_found_by_room_and_exception",
                "fetch::without_matching_sockets_none_are_found",
            ],
        ),
        mutation(
            "ignores the exceptions of a request",
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
                "acks::dropping_the_acknowledgements_frees_the_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::dropping_the_call_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
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
                "acks::a_client_that_does_not_acknowledge_costs_the_timeout_and_no_other_acknowledgement",
                "acks::every_client_of_every_node_acknowledges",
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
                "acks::dropping_the_acknowledgements_frees_the_request",
                "acks::late_acknowledgements_are_ignored",
                "acks::concurrent_requests_get_their_own_acknowledgements",
                "fetch::dropping_the_call_frees_its_request",
                "fetch::a_socket_is_found_by_its_id_on_any_node",
                "fetch::concurrent_requests_get_their_own_answers",
                "fetch::sockets_are_found_by_room_and_exception",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "server_side::concurrent_requests_get_their_own_answers",
                "...",
            ],
        ),
        mutation(
            "removes the id of the answering node",
            Defect::arriving(|(): &mut (), delivery| match delivery {
                Delivery::Response { response, .. } => {
                    vec![(Duration::ZERO, Delivery::Response { from: None, response })]
                }
                delivery => vec![(Duration::ZERO, delivery)],
            }),
            &[
                "acks::dropping_the_acknowledgements_frees_the_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::dropping_the_call_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "gives all answers the id of one node",
            Defect::arriving(|(): &mut (), delivery| match delivery {
                Delivery::Response { response, .. } => {
                    let from = Some(NodeId::new("one-node").unwrap());
                    vec![(Duration::ZERO, Delivery::Response { from, response })]
                }
                delivery => vec![(Duration::ZERO, delivery)],
            }),
            &[
                "acks::dropping_the_acknowledgements_frees_the_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::dropping_the_call_frees_its_request",
                "lifecycle::closing_ends_all_tasks",
                "membership::fifty_nodes_are_one_cluster",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
    ]
}
