//! The cases by group. `__cases!` is the table of contents: every promise with the needs that backend and server have
//! to meet.

pub(crate) mod acks;
pub(crate) mod broadcast;
pub(crate) mod emitter;
pub(crate) mod fetch;
pub(crate) mod handover;
pub(crate) mod lifecycle;
pub(crate) mod membership;
pub(crate) mod namespaces;
pub(crate) mod numbering;
pub(crate) mod order;
pub(crate) mod payloads;
pub(crate) mod recovery;
pub(crate) mod server_side;
pub(crate) mod sockets;

use serde::Serialize;
use trunkline_core::{ErrorKind, Incomplete, NodeId, RequestError};

use crate::{
    case::Case,
    kit::{Checked, Failure, check, check_eq},
    need::Need,
};

/// Room names that a transport may confuse with each other or with parts of its own syntax.
const LOOK_ALIKE: [&str; 34] = [
    "a", "A", "a ", " a", "a#", "a#b", "a/b", "a.b", "a.*", "*", ">", "#", "?", "[a]", "a:b", "a,b", "{a}", "7", "07",
    "7.0", "1e3", "1000", "null", "true", "\"a\"", "ä", "a\u{308}", "日本", "🚀", "\u{0}", "\n", "%s", "$1", LONG,
];

/// 300 bytes: more than some brokers accept as a name.
const LONG: &str = match str::from_utf8(&[b'x'; 300]) {
    Ok(text) => text,
    Err(_) => "",
};

/// A value of which encodings often lose something: characters, digits, nulls, empty parts.
fn anything() -> impl Serialize {
    ((" ä 日本 🚀 e\u{301}", ""), (9_007_199_254_740_993_u64, -0.1, 1e300), (None::<()>, true), [[(); 0]; 1])
}

/// The answers so far and the missing nodes of a request that must time out.
#[track_caller]
fn timed_out<T>(result: Result<T, RequestError<T>>) -> Checked<Incomplete<T>> {
    let error = result.err().ok_or_else(|| Failure::new("the request did not time out"))?;
    check_eq(error.kind(), ErrorKind::Timeout, "kind of the error")?;
    error.into_incomplete().ok_or_else(|| Failure::new("the error is without the answers so far"))
}

/// What a request gathered that did not wait for a node that has died. While only the broker does not see it, it may be
/// cut off: the request says at once that it is missing. Once its silence is noticed, it is left out.
#[track_caller]
fn gathered_without<T>(dead: &NodeId, result: Result<T, RequestError<T>>) -> Checked<T> {
    let error = match result {
        Ok(gathered) => return Ok(gathered),
        Err(error) => error,
    };
    let is_over_at_once = error.to_string().ends_with("the broker does not see them");
    check(is_over_at_once, format!("the request waited for a dead node: {error}"))?;
    let incomplete = timed_out(Err(error))?;
    check_eq(incomplete.missing.as_slice(), [dead.clone()], "nodes that are missing")?;
    Ok(incomplete.received)
}

/// Expands a macro with all groups and cases.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases {
    ($($callback:tt)*) => {
        $($callback)*! {
            broadcast {
                to_all_reaches_every_socket_of_every_node_once
                to_a_room_reaches_only_its_members
                to_several_rooms_reaches_a_member_of_several_once
                to_hundreds_of_rooms_reaches_the_members_of_each
                except_leaves_out_the_members_of_a_room
                except_leaves_out_the_members_of_hundreds_of_rooms
                to_a_room_except_another_leaves_out_members_of_both
                local_broadcasts_reach_only_sockets_of_their_node
                volatile_broadcasts_reach_sockets_that_are_ready
                flags_reach_other_nodes_unchanged
                the_sending_socket_can_be_excepted
                a_socket_id_is_a_room_on_every_node
                a_broadcast_to_an_unknown_room_reaches_no_socket
                the_empty_room_name_is_a_room_like_any_other
                room_names_that_look_alike_are_different_rooms
                room_names_that_look_alike_differ_in_lists_and_exceptions
                a_number_room_is_not_the_room_of_its_text [NumberRooms]
                every_node_can_broadcast
                a_node_with_hundreds_of_rooms_receives_broadcasts_to_each
            }
            payloads {
                strings_keep_every_character
                floats_keep_every_digit
                integers_beyond_2_to_the_53_keep_every_digit
                null_and_booleans_stay_unchanged
                nested_objects_keep_keys_and_their_order
                dates_arrive_as_iso_8601_text
                an_event_without_arguments_arrives_without_arguments
                many_arguments_arrive_in_order
                binary_arrives_at_any_depth
                many_binary_attachments_arrive_in_order_beside_long_text
                empty_binary_stays_binary
                a_messagepack_payload_keeps_its_meaning
                a_mebibyte_of_text_arrives_whole
                a_mebibyte_of_binary_arrives_whole
                every_size_around_powers_of_two_arrives_whole
                every_size_up_to_a_page_or_two_arrives_whole
                the_same_event_a_thousand_times_arrives_a_thousand_times
                a_message_just_below_the_limit_arrives_whole [Limit]
                a_message_at_the_limit_arrives_whole [Limit]
                a_message_above_the_limit_is_refused_and_nothing_of_it_arrives [Limit]
                a_request_above_the_limit_is_refused_too [Limit]
                an_answer_above_the_limit_arrives_in_parts [Limit]
                an_answer_that_cannot_be_divided_is_an_error_that_names_its_size_and_the_limit [Limit]
            }
            order {
                ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order
                a_small_message_never_overtakes_a_big_one
                the_last_message_before_a_pause_arrives
                each_sender_keeps_its_own_order
                broadcasts_of_concurrent_tasks_arrive_complete
                messages_to_one_room_keep_their_order_among_others
                messages_keep_their_order_whatever_their_rooms [TotalOrder]
                acknowledged_and_plain_broadcasts_keep_their_order [AcknowledgedInOrder]
                joins_and_broadcasts_apply_in_the_order_of_their_calls [TotalOrder, NoInterest]
                what_is_done_to_sockets_comes_behind_what_was_sent_before [TotalOrder, NoInterest]
                server_side_events_keep_their_order
                a_dropped_call_sends_its_message_whole_or_not_at_all
            }
            acks {
                every_client_of_every_node_acknowledges
                hundreds_of_equal_acknowledgements_are_all_returned
                only_clients_of_the_target_are_asked
                acknowledgements_keep_their_meaning
                acknowledgements_carry_binary
                large_broadcasts_and_acknowledgements_arrive_whole
                an_acknowledgement_without_a_value_counts
                without_clients_there_are_no_acknowledgements_and_no_wait
                acknowledgements_are_returned_as_they_arrive
                a_client_that_does_not_acknowledge_costs_the_timeout_and_no_other_acknowledgement
                a_node_that_dies_is_not_waited_for
                a_node_that_leaves_is_not_waited_for [AnnouncedLeave]
                a_frozen_node_is_named_as_missing [NamedAnswers]
                local_broadcasts_ask_only_clients_of_their_node
                a_zero_timeout_delivers_and_ends_at_once
                dropping_the_acknowledgements_frees_the_request
                late_acknowledgements_are_ignored
                concurrent_requests_get_their_own_acknowledgements
            }
            sockets {
                members_of_a_room_join_another_on_every_node
                a_socket_of_another_node_joins_by_its_id
                a_socket_of_another_node_leaves_by_its_id
                all_sockets_join_except_those_excepted
                several_rooms_are_joined_and_left_at_once
                hundreds_of_rooms_of_any_name_are_joined_left_and_listed
                number_rooms_are_joined_left_and_listed_as_numbers [NumberRooms]
                members_leave_a_room_on_every_node
                joining_twice_and_leaving_a_room_without_being_in_it_change_nothing
                local_joins_and_leaves_apply_only_to_sockets_of_their_node
                a_broadcast_right_after_an_awaited_join_on_another_node_is_delivered
                a_broadcast_right_after_a_client_connects_to_another_node_is_delivered
                a_broadcast_after_the_last_member_left_reaches_no_socket [TotalOrder]
                members_of_a_room_are_disconnected_on_every_node
                a_socket_of_another_node_is_disconnected_by_its_id
                disconnecting_closes_connections_on_request [CloseConnections]
                local_disconnects_only_sockets_of_its_node
            }
            fetch {
                sockets_of_all_nodes_are_found
                sockets_are_found_by_room_and_exception
                a_room_with_too_long_a_name_costs_no_socket_and_no_other_room
                a_socket_is_found_by_its_id_on_any_node
                rooms_handshake_and_data_arrive_unchanged
                a_socket_of_which_nothing_is_known_has_a_whole_handshake
                each_socket_names_its_node [NamedAnswers]
                local_finds_only_sockets_of_its_node
                without_matching_sockets_none_are_found
                hundreds_of_sockets_are_found_with_their_data
                concurrent_requests_get_their_own_answers
                a_node_that_dies_is_not_waited_for
                a_frozen_node_is_named_as_missing_and_the_other_answers_are_returned [NamedAnswers]
                dropping_the_call_frees_its_request
                rooms_of_all_nodes_are_listed_once_each
            }
            server_side {
                an_event_reaches_every_other_node_and_not_its_own
                an_event_names_its_sender
                every_other_node_answers
                events_and_answers_keep_their_meaning
                events_and_answers_carry_binary
                large_events_and_answers_arrive_whole
                equal_events_and_equal_answers_count_each_time
                a_node_without_a_handler_costs_no_timeout
                a_node_alone_gets_no_answers_and_does_not_wait
                a_node_that_dies_is_not_waited_for
                a_node_that_does_not_answer_is_named_as_missing [NamedAnswers]
                concurrent_requests_get_their_own_answers
                clients_do_not_see_server_side_events
            }
            membership {
                a_node_alone_counts_itself
                every_node_counts_and_names_all_others
                a_node_that_joins_is_announced
                nodes_that_join_know_each_other_before_the_next_heartbeat
                a_node_receives_every_broadcast_sent_after_it_has_joined
                await_peers_says_how_many_nodes_are_missing
                a_node_that_leaves_is_reported_as_left [AnnouncedLeave]
                a_node_that_leaves_is_no_longer_counted
                a_node_that_is_killed_is_noticed
                a_node_that_was_killed_returns_under_a_new_id
                a_silent_node_is_down_until_it_sends_again
                fifty_nodes_are_one_cluster
                a_node_that_has_left_receives_nothing_more
            }
            namespaces {
                a_broadcast_stays_in_its_namespace
                namespaces_of_one_process_share_connections_and_nothing_else
                leaving_one_namespace_does_not_affect_the_others
                joins_leaves_and_disconnects_stay_in_their_namespace
                requests_and_counts_stay_in_their_namespace
                a_namespace_that_appears_later_works_like_any_other
                namespace_names_that_look_alike_are_different_namespaces
                opening_and_closing_a_namespace_does_not_affect_the_others
                clusters_of_different_names_do_not_receive_each_others_broadcasts
                clusters_of_different_names_do_not_answer_each_other
            }
            recovery {
                a_session_is_restored_on_another_node_with_the_packets_it_missed [History]
                the_session_of_a_killed_node_is_restored [History]
                missed_packets_are_replayed_whole_and_in_order [History]
                replay_continues_after_any_offset [History]
                replay_continues_after_the_present_offset [History]
                replay_continues_after_the_offset_of_a_missed_packet [History]
                only_packets_for_the_rooms_of_the_session_are_replayed [History]
                number_rooms_are_kept_apart_from_their_texts [History, NumberRooms]
                broadcasts_of_every_node_and_the_emitter_are_replayed [History]
                a_session_brings_what_was_sent_to_its_socket_and_not_what_its_socket_sent [History]
                a_session_is_restored_only_once [History]
                a_session_persisted_twice_is_restored_as_it_was_last [History]
                an_unknown_session_is_not_restored [History]
                an_invalid_offset_is_refused_and_the_session_stays [History]
                a_session_expires [History]
                replay_from_a_trimmed_history_fails [History]
                namespaces_keep_their_own_sessions_and_packets [History]
                clusters_of_different_names_keep_their_own_sessions [History]
                volatile_packets_are_not_replayed [History]
                only_plain_broadcasts_are_replayed [History]
                all_clients_receive_the_same_order [History]
                without_history_persisting_and_restoring_are_unsupported [NoHistory]
            }
            handover {
                a_session_is_taken_over_from_a_socket_on_another_node [History]
                a_session_is_taken_over_from_a_socket_on_the_same_node [History]
                a_session_that_is_about_to_be_stored_is_waited_for [History]
                a_client_that_has_come_back_has_no_second_session [History]
            }
            emitter {
                broadcasts_reach_the_sockets_of_their_target
                binary_and_flags_arrive_unchanged
                a_thousand_broadcasts_arrive_complete_and_in_order
                equal_events_of_two_emitters_arrive_each_time
                broadcasts_accepted_before_closing_arrive
                what_is_flushed_or_closed_arrives_although_the_process_ends
                sockets_join_and_leave
                sockets_are_disconnected
                connections_are_closed_on_request [CloseConnections]
                server_side_events_reach_every_node
                each_namespace_receives_its_own_broadcasts
                an_emitter_is_not_counted_and_not_waited_for
                an_emitter_has_no_local_sockets
                without_nodes_broadcasts_succeed
            }
            numbering {
                a_repeated_message_is_delivered_once [Numbered]
                a_lost_message_is_noticed_at_the_next_one [Numbered]
                a_lost_last_message_is_noticed_at_a_heartbeat [Numbered]
                a_message_without_matching_sockets_does_not_count_as_missed [Numbered]
                late_messages_are_missed_rather_than_delivered_out_of_order [Numbered]
            }
            lifecycle {
                a_working_node_is_healthy
                a_probe_measures_the_way_to_every_node [NamedAnswers]
                closing_twice_has_the_effect_of_closing_once
                leaving_twice_has_the_effect_of_leaving_once
                closing_during_traffic_delivers_what_was_accepted
                after_closing_every_operation_fails_with_closed
                a_request_ends_when_its_node_closes
                closing_ends_all_tasks
                joining_and_leaving_many_times_leaves_no_task_running
                a_node_can_join_again_after_closing
                a_namespace_can_be_opened_again_over_the_same_connections
                dropping_the_server_ends_its_node
                a_node_leaves_when_its_last_handle_is_dropped
                a_runtime_can_end_during_the_traffic_of_its_node
                what_was_queued_and_the_leave_are_with_the_broker_when_closed_returns [AnnouncedLeave]
                a_frozen_peer_does_not_keep_others_from_closing
            }
        }
    };
}

macro_rules! list {
    ($($group:ident { $($case:ident $([$($need:ident),*])?)* })*) => {
        /// All cases of the suite, in the order of its groups.
        pub static CASES: &[Case] = &[
            $($(Case {
                group: stringify!($group),
                name: stringify!($case),
                needs: &[$($(Need::$need),*)?],
                run: |cluster| Box::pin($group::$case(cluster)),
            },)*)*
        ];
    };
}

__cases! { list }
