//! Transports that deliver broadcasts to the wrong sockets.

use std::time::Duration;

use trunkline_core::{Message, NodeId, Room, model::Delivery};

use super::{broadcast, is_broadcast, mutation};
use crate::{Mutation, broken::Defect};

pub(crate) fn all() -> Vec<Mutation> {
    vec![
        mutation(
            "ignores exceptions",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.except.clear();
                }
            }),
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::except_leaves_out_the_members_of_hundreds_of_rooms",
                "acks::only_clients_of_the_target_are_asked",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "broadcast::except_leaves_out_the_members_of_a_room",
                "broadcast::the_empty_room_name_is_a_room_like_any_other",
                "broadcast::to_a_room_except_another_leaves_out_members_of_both",
                "emitter::broadcasts_reach_the_sockets_of_their_target",
            ],
        ),
        mutation(
            "excepts members of one room at most",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.except.truncate(1);
                }
            }),
            &[
                "broadcast::except_leaves_out_the_members_of_hundreds_of_rooms",
                "broadcast::except_leaves_out_the_members_of_a_room",
            ],
        ),
        mutation(
            "ignores rooms",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.clear();
                }
            }),
            &[
                "acks::concurrent_requests_get_their_own_acknowledgements",
                "acks::without_clients_there_are_no_acknowledgements_and_no_wait",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "broadcast::a_broadcast_to_an_unknown_room_reaches_no_socket",
                "broadcast::room_names_that_look_alike_are_different_rooms",
                "broadcast::the_empty_room_name_is_a_room_like_any_other",
                "broadcast::to_a_room_reaches_only_its_members",
                "broadcast::to_hundreds_of_rooms_reaches_the_members_of_each",
                "broadcast::to_several_rooms_reaches_a_member_of_several_once",
                "emitter::broadcasts_reach_the_sockets_of_their_target",
                "emitter::sockets_join_and_leave",
                "order::joins_and_broadcasts_apply_in_the_order_of_their_calls",
                "...",
            ],
        ),
        mutation(
            "sends to the first of several rooms",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.truncate(1);
                }
            }),
            &[
                "broadcast::a_socket_id_is_a_room_on_every_node",
                "broadcast::to_hundreds_of_rooms_reaches_the_members_of_each",
                "broadcast::to_several_rooms_reaches_a_member_of_several_once",
            ],
        ),
        mutation(
            "sends to a hundred rooms at most",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.truncate(100);
                }
            }),
            &["broadcast::to_hundreds_of_rooms_reaches_the_members_of_each"],
        ),
        mutation(
            "sends one message per room",
            Defect::publishing(|_, message| one_per_room(message)),
            &[
                "acks::only_clients_of_the_target_are_asked",
                "broadcast::to_several_rooms_reaches_a_member_of_several_once",
                "emitter::broadcasts_reach_the_sockets_of_their_target",
                "order::messages_keep_their_order_whatever_their_rooms",
            ],
        ),
        mutation(
            "takes the empty room for no room",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.retain(|room| room.to_text() != "");
                }
            }),
            &["broadcast::the_empty_room_name_is_a_room_like_any_other"],
        ),
        mutation(
            "takes numbers for texts",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.iter_mut().for_each(|room| *room = Room::new(room.to_text()));
                }
            }),
            &["broadcast::a_number_room_is_not_the_room_of_its_text"],
        ),
        mutation(
            "takes texts for numbers",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.iter_mut().for_each(|room| {
                        if let Some(number) = room.to_text().parse().ok().and_then(Room::number) {
                            *room = number;
                        }
                    });
                }
            }),
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "broadcast::room_names_that_look_alike_are_different_rooms",
            ],
        ),
        mutation(
            "does not distinguish capitals",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.rooms.iter_mut().for_each(|room| *room = Room::new(room.to_text().to_lowercase()));
                }
            }),
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "broadcast::room_names_that_look_alike_are_different_rooms",
            ],
        ),
        mutation(
            "cuts room names",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    for room in &mut target.rooms {
                        *room = Room::new(room.to_text().chars().take(64).collect::<String>());
                    }
                }
            }),
            &[
                "broadcast::room_names_that_look_alike_differ_in_lists_and_exceptions",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "broadcast::room_names_that_look_alike_are_different_rooms",
            ],
        ),
        mutation(
            "loses volatile broadcasts",
            Defect::losing(
                |message| matches!(message, Message::Broadcast { target, .. } if target.flags.is_volatile()),
            ),
            &[
                "broadcast::flags_reach_other_nodes_unchanged",
                "broadcast::volatile_broadcasts_reach_sockets_that_are_ready",
                "emitter::binary_and_flags_arrive_unchanged",
                "recovery::volatile_packets_are_not_replayed",
            ],
        ),
        mutation(
            "forgets flags",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.flags.volatile = None;
                    target.flags.compress = None;
                }
            }),
            &["broadcast::flags_reach_other_nodes_unchanged", "emitter::binary_and_flags_arrive_unchanged"],
        ),
        mutation(
            "makes a missing flag an explicit one",
            Defect::rewriting(|message| {
                if let Some((target, _)) = broadcast(message) {
                    target.flags.volatile = Some(target.flags.is_volatile());
                }
            }),
            &["broadcast::flags_reach_other_nodes_unchanged"],
        ),
        mutation(
            "turns a broadcast to one room into one to all nodes and no room",
            Defect::losing(is_to_one_room),
            &[
                "acks::a_frozen_node_is_named_as_missing",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "emitter::a_thousand_broadcasts_arrive_complete_and_in_order",
                "lifecycle::a_node_can_join_again_after_closing",
                "membership::a_node_that_has_left_receives_nothing_more",
                "namespaces::a_broadcast_stays_in_its_namespace",
                "numbering::a_lost_last_message_is_noticed_at_a_heartbeat",
                "order::a_small_message_never_overtakes_a_big_one",
                "payloads::a_mebibyte_of_binary_arrives_whole",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "sockets::a_broadcast_after_the_last_member_left_reaches_no_socket",
                "...",
            ],
        ),
        mutation(
            "delivers its own echo",
            Defect::publishing_with(|transport, from, message| {
                Box::pin(async move {
                    let echo = message.clone();
                    transport.publish(&from, message).await?;
                    let emitter = trunkline_core::NodeKey { id: NodeId::EMITTER, namespace: from.namespace };
                    if is_broadcast(&echo) { transport.publish(&emitter, echo).await } else { Ok(()) }
                })
            }),
            &[
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "emitter::a_thousand_broadcasts_arrive_complete_and_in_order",
                "lifecycle::a_node_can_join_again_after_closing",
                "membership::a_node_that_has_left_receives_nothing_more",
                "namespaces::a_broadcast_stays_in_its_namespace",
                "numbering::a_lost_message_is_noticed_at_the_next_one",
                "order::a_small_message_never_overtakes_a_big_one",
                "payloads::a_mebibyte_of_binary_arrives_whole",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "server_side::clients_do_not_see_server_side_events",
                "sockets::a_broadcast_after_the_last_member_left_reaches_no_socket",
                "...",
            ],
        ),
        mutation(
            "delivers each message twice, the second time without a number",
            Defect::arriving(|(): &mut (), delivery| match delivery {
                Delivery::Message { from, offset, message, .. } if is_broadcast(&message) => {
                    let delivery = Delivery::Message { from, seq_no: None, offset, message };
                    vec![(Duration::ZERO, delivery.clone()), (Duration::ZERO, delivery)]
                }
                delivery => vec![(Duration::ZERO, delivery)],
            }),
            &[
                "acks::a_client_that_does_not_acknowledge_costs_the_timeout_and_no_other_acknowledgement",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "emitter::a_thousand_broadcasts_arrive_complete_and_in_order",
                "lifecycle::a_node_can_join_again_after_closing",
                "membership::a_node_that_has_left_receives_nothing_more",
                "namespaces::a_broadcast_stays_in_its_namespace",
                "numbering::a_lost_last_message_is_noticed_at_a_heartbeat",
                "order::a_small_message_never_overtakes_a_big_one",
                "payloads::a_mebibyte_of_binary_arrives_whole",
                "recovery::all_clients_receive_the_same_order",
                "server_side::clients_do_not_see_server_side_events",
                "sockets::a_broadcast_after_the_last_member_left_reaches_no_socket",
                "...",
            ],
        ),
        mutation(
            "delivers to the node that was there first",
            Defect::arriving(|seen: &mut usize, delivery| {
                if let Delivery::Message { message: Message::Heartbeat(heartbeat), .. } = &delivery {
                    *seen += usize::from(heartbeat.initial);
                }
                if *seen > 1 && matches!(&delivery, Delivery::Message { message, .. } if is_broadcast(message)) {
                    return Vec::new();
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &[
                "acks::acknowledgements_are_returned_as_they_arrive",
                "acks::every_client_of_every_node_acknowledges",
                "acks::concurrent_requests_get_their_own_acknowledgements",
                "broadcast::every_node_can_broadcast",
                "broadcast::to_all_reaches_every_socket_of_every_node_once",
                "lifecycle::a_node_can_join_again_after_closing",
                "membership::a_node_that_has_left_receives_nothing_more",
                "membership::a_node_that_leaves_is_reported_as_left",
                "membership::fifty_nodes_are_one_cluster",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "recovery::all_clients_receive_the_same_order",
                "order::each_sender_keeps_its_own_order",
            ],
        ),
    ]
}

fn one_per_room(mut message: Message) -> Vec<Message> {
    let Some((target, _)) = broadcast(&mut message) else { return vec![message] };
    let rooms = std::mem::take(&mut target.rooms);
    if rooms.len() < 2 {
        target.rooms = rooms;
        return vec![message];
    }
    let one = |room: Room| {
        let mut message = message.clone();
        if let Some((target, _)) = broadcast(&mut message) {
            target.rooms = vec![room];
        }
        message
    };
    rooms.into_iter().map(one).collect()
}

fn is_to_one_room(message: &Message) -> bool {
    is_broadcast(message) && matches!(message, Message::Broadcast { target, .. } if target.single_room().is_some())
}
