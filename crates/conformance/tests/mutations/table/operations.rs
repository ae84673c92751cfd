//! Transports that lose operations or parts of them: on sockets, between servers, of emitters.

use trunkline_core::{Message, NodeId, NodeKey, Payload, Target, model::Delivery};

use super::{broadcast, is_broadcast, mutation, payload};
use crate::{Mutation, broken::Defect};

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = sockets();
    all.extend(servers());
    all.extend(emitters());
    all
}

pub(super) fn target_of_operation(message: &mut Message) -> Option<&mut Target> {
    match message {
        Message::Join { target, .. } | Message::Leave { target, .. } | Message::Disconnect { target, .. } => {
            Some(target)
        }
        _ => None,
    }
}

fn sockets() -> Vec<Mutation> {
    vec![
        mutation(
            "forgets joins",
            Defect::losing(|message| matches!(message, Message::Join { .. })),
            &[
                "sockets::number_rooms_are_joined_left_and_listed_as_numbers",
                "sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed",
                "emitter::sockets_join_and_leave",
                "order::joins_and_broadcasts_apply_in_the_order_of_their_calls",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "sockets::all_sockets_join_except_those_excepted",
                "sockets::joining_twice_and_leaving_a_room_without_being_in_it_change_nothing",
                "sockets::members_of_a_room_join_another_on_every_node",
                "sockets::several_rooms_are_joined_and_left_at_once",
            ],
        ),
        mutation(
            "forgets leaves",
            Defect::losing(|message| matches!(message, Message::Leave { .. })),
            &[
                "order::what_is_done_to_sockets_comes_behind_what_was_sent_before",
                "sockets::number_rooms_are_joined_left_and_listed_as_numbers",
                "sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed",
                "emitter::sockets_join_and_leave",
                "order::joins_and_broadcasts_apply_in_the_order_of_their_calls",
                "sockets::a_socket_of_another_node_leaves_by_its_id",
                "sockets::members_leave_a_room_on_every_node",
                "sockets::several_rooms_are_joined_and_left_at_once",
            ],
        ),
        mutation(
            "forgets disconnects",
            Defect::losing(|message| matches!(message, Message::Disconnect { .. })),
            &[
                "sockets::number_rooms_are_joined_left_and_listed_as_numbers",
                "emitter::each_namespace_receives_its_own_broadcasts",
                "emitter::connections_are_closed_on_request",
                "emitter::sockets_are_disconnected",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "sockets::a_socket_of_another_node_is_disconnected_by_its_id",
                "sockets::disconnecting_closes_connections_on_request",
                "sockets::members_of_a_room_are_disconnected_on_every_node",
            ],
        ),
        mutation(
            "never closes",
            Defect::rewriting(|message| {
                if let Message::Disconnect { close, .. } = message {
                    *close = false
                }
            }),
            &["emitter::connections_are_closed_on_request", "sockets::disconnecting_closes_connections_on_request"],
        ),
        mutation(
            "always closes",
            Defect::rewriting(|message| {
                if let Message::Disconnect { close, .. } = message {
                    *close = true
                }
            }),
            &["emitter::sockets_are_disconnected", "sockets::members_of_a_room_are_disconnected_on_every_node"],
        ),
        mutation(
            "joins one room",
            Defect::rewriting(|message| {
                if let Message::Join { rooms, .. } = message {
                    rooms.truncate(1)
                }
            }),
            &[
                "sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed",
                "sockets::several_rooms_are_joined_and_left_at_once",
                "sockets::joining_twice_and_leaving_a_room_without_being_in_it_change_nothing",
            ],
        ),
        mutation(
            "leaves one room",
            Defect::rewriting(|message| {
                if let Message::Leave { rooms, .. } = message {
                    rooms.truncate(1)
                }
            }),
            &[
                "sockets::hundreds_of_rooms_of_any_name_are_joined_left_and_listed",
                "emitter::sockets_join_and_leave",
                "sockets::several_rooms_are_joined_and_left_at_once",
            ],
        ),
        mutation(
            "ignores the rooms of joins and leaves",
            Defect::rewriting(|message| {
                if let Some(target) = target_of_operation(message) {
                    target.rooms.clear()
                }
            }),
            &[
                "sockets::number_rooms_are_joined_left_and_listed_as_numbers",
                "emitter::sockets_join_and_leave",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "sockets::a_socket_of_another_node_is_disconnected_by_its_id",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "sockets::a_socket_of_another_node_leaves_by_its_id",
                "sockets::members_leave_a_room_on_every_node",
                "sockets::members_of_a_room_join_another_on_every_node",
            ],
        ),
        mutation(
            "ignores the exceptions of joins and leaves",
            Defect::rewriting(|message| {
                if let Some(target) = target_of_operation(message) {
                    target.except.clear()
                }
            }),
            &[
                "emitter::sockets_join_and_leave",
                "sockets::members_leave_a_room_on_every_node",
                "emitter::sockets_are_disconnected",
                "sockets::all_sockets_join_except_those_excepted",
                "sockets::members_of_a_room_are_disconnected_on_every_node",
            ],
        ),
    ]
}

fn is_server_side(message: &Message) -> bool {
    let mut message = message.clone();
    matches!(message, Message::ServerSideEmit { .. }) && payload(&mut message).is_some()
}

fn servers() -> Vec<Mutation> {
    vec![
        mutation(
            "loses server-side events",
            Defect::losing(is_server_side),
            &[
                "emitter::server_side_events_reach_every_node",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "namespaces::leaving_one_namespace_does_not_affect_the_others",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "order::server_side_events_keep_their_order",
                "server_side::a_node_that_dies_is_not_waited_for",
                "server_side::a_node_that_does_not_answer_is_named_as_missing",
                "server_side::a_node_without_a_handler_costs_no_timeout",
                "server_side::an_event_names_its_sender",
                "server_side::events_and_answers_carry_binary",
                "server_side::clients_do_not_see_server_side_events",
                "server_side::every_other_node_answers",
                "...",
            ],
        ),
        mutation(
            "asks servers for no answer",
            Defect::rewriting(|message| {
                if let Message::ServerSideEmit { request, .. } = message {
                    *request = None
                }
            }),
            &[
                "server_side::large_events_and_answers_arrive_whole",
                "server_side::equal_events_and_equal_answers_count_each_time",
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
        mutation(
            "delivers server-side events to its own server",
            Defect::publishing_with(|transport, from, message| {
                Box::pin(async move {
                    if is_server_side(&message)
                        && let Message::ServerSideEmit { payload, .. } = &message
                    {
                        let emitter = NodeKey { id: NodeId::EMITTER, namespace: from.namespace.clone() };
                        let copy = Message::ServerSideEmit { request: None, payload: payload.clone() };
                        transport.publish(&emitter, copy).await?;
                    }
                    transport.publish(&from, message).await
                })
            }),
            &[
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "emitter::each_namespace_receives_its_own_broadcasts",
                "emitter::server_side_events_reach_every_node",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "order::server_side_events_keep_their_order",
                "server_side::a_node_without_a_handler_costs_no_timeout",
                "server_side::an_event_names_its_sender",
                "server_side::clients_do_not_see_server_side_events",
                "server_side::an_event_reaches_every_other_node_and_not_its_own",
            ],
        ),
        mutation(
            "removes the sender of server-side events",
            Defect::arriving(|(): &mut (), mut delivery| {
                if let Delivery::Message {
                    from, seq_no, message: Message::ServerSideEmit { request: None, .. }, ..
                } = &mut delivery
                {
                    (*from, *seq_no) = (None, None);
                }
                vec![(std::time::Duration::ZERO, delivery)]
            }),
            &["server_side::an_event_names_its_sender"],
        ),
        mutation(
            "shows server-side events to clients",
            Defect::publishing(|_, message| match &message {
                Message::ServerSideEmit { payload, .. } if is_server_side(&message) => {
                    let copy = Message::Broadcast { request: None, target: Target::all(), payload: payload.clone() };
                    vec![copy, message]
                }
                _ => vec![message],
            }),
            &[
                "recovery::only_plain_broadcasts_are_replayed",
                "server_side::clients_do_not_see_server_side_events",
                "server_side::an_event_reaches_every_other_node_and_not_its_own",
            ],
        ),
        mutation(
            "corrupts binary for servers",
            Defect::rewriting(|message| {
                if let Message::ServerSideEmit { payload, .. } = message
                    && payload.has_binary()
                {
                    super::change_binary(payload, |part| part.iter().map(|byte| byte & 0x7f).collect());
                }
            }),
            &["server_side::events_and_answers_carry_binary"],
        ),
    ]
}

/// A transport that changes what emitters publish.
fn emitting(
    name: &'static str,
    change: impl Fn(&NodeKey, Message) -> Vec<Message> + Send + Sync + 'static,
    fails: &[&'static str],
) -> Mutation {
    let change =
        move |from: &NodeKey, message| if from.id.is_emitter() { change(from, message) } else { vec![message] };
    mutation(name, Defect::publishing(change), fails)
}

fn emitters() -> Vec<Mutation> {
    vec![
        emitting(
            "does not emit",
            |_, message| if is_broadcast(&message) { Vec::new() } else { vec![message] },
            &[
                "emitter::broadcasts_accepted_before_closing_arrive",
                "emitter::equal_events_of_two_emitters_arrive_each_time",
                "emitter::a_thousand_broadcasts_arrive_complete_and_in_order",
                "emitter::what_is_flushed_or_closed_arrives_although_the_process_ends",
                "emitter::binary_and_flags_arrive_unchanged",
                "emitter::broadcasts_reach_the_sockets_of_their_target",
                "emitter::each_namespace_receives_its_own_broadcasts",
                "emitter::without_nodes_broadcasts_succeed",
                "recovery::broadcasts_of_every_node_and_the_emitter_are_replayed",
            ],
        ),
        emitting(
            "emits everything twice",
            |_, message| if is_broadcast(&message) { vec![message.clone(), message] } else { vec![message] },
            &[
                "emitter::equal_events_of_two_emitters_arrive_each_time",
                "emitter::broadcasts_accepted_before_closing_arrive",
                "emitter::a_thousand_broadcasts_arrive_complete_and_in_order",
                "emitter::what_is_flushed_or_closed_arrives_although_the_process_ends",
                "emitter::broadcasts_reach_the_sockets_of_their_target",
                "emitter::each_namespace_receives_its_own_broadcasts",
                "recovery::broadcasts_of_every_node_and_the_emitter_are_replayed",
            ],
        ),
        emitting(
            "ignores the rooms of an emitter's broadcasts",
            |_, mut message| {
                if let Some((target, _)) = broadcast(&mut message) {
                    (target.rooms, target.except) = Default::default();
                }
                vec![message]
            },
            &["emitter::broadcasts_reach_the_sockets_of_their_target"],
        ),
        emitting(
            "emits no binary",
            |_, mut message| {
                if let Some(payload) = payload(&mut message).filter(|payload| payload.has_binary()) {
                    *payload = Payload::event("upload", &()).unwrap();
                }
                vec![message]
            },
            &["emitter::binary_and_flags_arrive_unchanged", "emitter::server_side_events_reach_every_node"],
        ),
        emitting(
            "emits no joins",
            |_, message| if matches!(message, Message::Join { .. }) { Vec::new() } else { vec![message] },
            &["emitter::sockets_join_and_leave"],
        ),
        emitting(
            "emits no disconnects",
            |_, message| if matches!(message, Message::Disconnect { .. }) { Vec::new() } else { vec![message] },
            &[
                "emitter::each_namespace_receives_its_own_broadcasts",
                "emitter::connections_are_closed_on_request",
                "emitter::sockets_are_disconnected",
            ],
        ),
        emitting(
            "emits no server-side events",
            |_, message| if is_server_side(&message) { Vec::new() } else { vec![message] },
            &["emitter::each_namespace_receives_its_own_broadcasts", "emitter::server_side_events_reach_every_node"],
        ),
        mutation(
            "emits into one namespace only",
            Defect::publishing_with(|transport, mut from, message| {
                Box::pin(async move {
                    if from.id.is_emitter() {
                        from.namespace = trunkline_core::Namespace::new("/");
                    }
                    transport.publish(&from, message).await
                })
            }),
            &["emitter::each_namespace_receives_its_own_broadcasts"],
        ),
        mutation(
            "takes emitters for nodes",
            Defect::arriving(|(): &mut (), mut delivery| {
                if let Delivery::Message { from, .. } = &mut delivery
                    && from.as_ref().is_some_and(NodeId::is_emitter)
                {
                    *from = Some(NodeId::new("new-node").unwrap());
                }
                vec![(std::time::Duration::ZERO, delivery)]
            }),
            &["emitter::an_emitter_is_not_counted_and_not_waited_for", "..."],
        ),
        emitting(
            "emits in reverse",
            {
                let held = std::sync::Mutex::new(std::collections::HashMap::new());
                move |from, message| {
                    // Keeps every second broadcast back until the next one.
                    let mut held = held.lock().unwrap();
                    if !is_broadcast(&message) {
                        let kept = held.remove(from);
                        return kept.into_iter().chain([message]).collect();
                    }
                    match held.remove(from) {
                        Some(kept) => vec![message, kept],
                        None => {
                            held.insert(from.clone(), message);
                            Vec::new()
                        }
                    }
                }
            },
            &["emitter::a_thousand_broadcasts_arrive_complete_and_in_order", "..."],
        ),
    ]
}
