//! The cases, by group. `__cases!` is the table of contents: every promise with what it needs in order to apply.

pub(crate) mod acks;
pub(crate) mod broadcast;
pub(crate) mod emitter;
pub(crate) mod fetch;
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

use crate::{needs::Need, suite::Case};

/// Names of rooms that somebody may take for each other, or for something else.
const LOOK_ALIKE: [&str; 34] = [
    "a", "A", "a ", " a", "a#", "a#b", "a/b", "a.b", "a.*", "*", ">", "#", "?", "[a]", "a:b", "a,b", "{a}", "7", "07",
    "7.0", "1e3", "1000", "null", "true", "\"a\"", "ä", "a\u{308}", "日本", "🚀", "\u{0}", "\n", "%s", "$1", LONG,
];

/// 300 bytes: more than some brokers take as a name.
const LONG: &str = match str::from_utf8(&[b'x'; 300]) {
    Ok(text) => text,
    Err(_) => "",
};

/// A value with much that gets lost between encodings: characters, digits, nulls, what is empty.
fn anything() -> impl Serialize {
    ((" ä 日本 🚀 e\u{301}", ""), (9_007_199_254_740_993_u64, -0.1, 1e300), (None::<()>, true), [[(); 0]; 1])
}

/// Calls a macro with all groups and cases.
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
                local_stays_on_its_node
                volatile_reaches_sockets_that_are_ready
                flags_arrive_at_other_nodes_as_they_were_set
                the_sending_socket_can_be_left_out
                a_socket_id_is_a_room_on_every_node
                an_unknown_room_reaches_nobody
                the_empty_room_name_is_a_room_like_any_other
                room_names_that_look_alike_are_different_rooms
                room_names_that_look_alike_differ_in_lists_and_exceptions
                a_number_room_is_not_the_room_of_its_text [NumberRooms]
                every_node_can_send
                a_node_in_hundreds_of_rooms_hears_each_of_them
            }
            payloads {
                strings_keep_every_character
                floats_keep_every_digit
                integers_beyond_2_to_the_53_keep_every_digit
                null_and_booleans_stay_what_they_are
                nested_objects_keep_keys_and_their_order
                dates_arrive_as_their_text
                an_event_without_arguments_arrives_without
                many_arguments_arrive_in_their_places
                binary_arrives_at_any_depth
                many_binary_parts_arrive_in_their_places_beside_long_text
                binary_of_no_bytes_is_binary_all_the_same
                a_payload_in_messagepack_means_the_same
                a_mebibyte_of_text_arrives_whole
                a_mebibyte_of_binary_arrives_whole
                every_size_around_powers_of_two_arrives_whole
                every_size_up_to_a_page_or_two_arrives_whole
                the_same_event_a_thousand_times_arrives_a_thousand_times
                a_message_just_below_the_limit_arrives_whole [Limit]
                a_message_at_the_limit_arrives_whole [Limit]
                a_message_above_the_limit_is_refused_and_nothing_of_it_arrives [Limit]
                a_request_above_the_limit_is_refused_too [Limit]
            }
            order {
                ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order
                a_small_message_never_overtakes_a_big_one
                the_last_message_before_a_pause_arrives
                several_senders_keep_their_own_order
                what_tasks_emit_at_the_same_time_arrives_complete
                messages_to_one_room_keep_their_order_among_others
                messages_keep_their_order_whatever_their_rooms [TotalOrder]
                acknowledged_and_plain_broadcasts_keep_their_order [AcknowledgedInOrder]
                joins_and_broadcasts_apply_in_the_order_of_their_calls [TotalOrder, NoInterest]
                server_side_events_keep_their_order
                a_call_that_is_dropped_sends_its_message_whole_or_not_at_all
            }
            acks {
                every_client_of_every_node_is_heard
                hundreds_of_clients_are_heard_though_they_answer_alike
                only_clients_that_match_are_asked
                answers_mean_what_the_clients_said
                answers_carry_binary
                big_questions_and_answers_arrive_whole
                an_acknowledgement_without_argument_counts
                without_clients_it_ends_at_once_and_empty
                acknowledgements_arrive_as_they_come
                a_silent_client_costs_the_time_out_and_no_answer_of_others
                a_node_that_dies_is_not_waited_for
                a_node_that_leaves_is_not_waited_for [AnnouncedLeave]
                a_frozen_node_is_named_as_missing [NamedAnswers]
                local_asks_only_clients_of_its_node
                a_zero_time_out_delivers_and_ends_at_once
                a_caller_that_goes_away_frees_its_request
                late_answers_disturb_nobody
                requests_at_the_same_time_get_their_own_answers
            }
            sockets {
                members_of_a_room_join_another_on_every_node
                a_socket_of_another_node_joins_by_its_id
                a_socket_of_another_node_leaves_by_its_id
                all_sockets_join_except_those_left_out
                several_rooms_are_joined_and_left_at_once
                hundreds_of_rooms_of_any_name_are_joined_left_and_told
                number_rooms_are_joined_left_and_told_as_numbers [NumberRooms]
                members_leave_a_room_on_every_node
                joining_twice_and_leaving_what_one_is_not_in_change_nothing
                local_moves_only_sockets_of_its_node
                a_broadcast_right_after_an_awaited_join_elsewhere_is_delivered
                a_broadcast_right_after_a_client_connects_elsewhere_is_delivered
                a_broadcast_after_the_last_member_left_reaches_nobody [TotalOrder]
                members_of_a_room_are_disconnected_on_every_node
                a_socket_of_another_node_is_disconnected_by_its_id
                disconnecting_closes_connections_if_asked_to [CloseConnections]
                local_disconnects_only_sockets_of_its_node
            }
            fetch {
                sockets_of_all_nodes_are_found
                sockets_are_found_by_room_and_exception
                a_socket_is_found_by_its_id_on_any_node
                rooms_handshake_and_data_arrive_as_they_are
                each_socket_names_its_node [NamedAnswers]
                local_finds_only_sockets_of_its_node
                where_nobody_is_nobody_is_found
                hundreds_of_sockets_are_found_with_their_data
                requests_of_several_nodes_at_once_get_their_own_answers
                a_node_that_dies_is_not_waited_for
                a_frozen_node_is_named_and_the_others_are_told [NamedAnswers]
                a_caller_that_goes_away_frees_its_request
                rooms_of_all_nodes_are_named_once_each
            }
            server_side {
                reaches_every_other_node_and_not_its_own
                an_event_names_its_sender
                every_other_node_answers
                answers_mean_what_the_nodes_said
                binary_goes_there_and_back
                big_events_and_answers_arrive_whole
                the_same_event_and_the_same_answer_count_each_time
                a_node_without_a_handler_costs_no_time_out
                alone_there_are_no_answers_and_no_wait
                a_node_that_dies_is_not_waited_for
                a_node_that_does_not_answer_is_named_as_missing [NamedAnswers]
                questions_of_several_nodes_at_once_get_their_own_answers
                clients_do_not_see_server_side_events
            }
            membership {
                a_node_alone_counts_itself
                every_node_counts_and_names_all_others
                a_node_that_joins_is_announced
                nodes_that_join_know_each_other_before_the_next_heartbeat
                a_node_gets_everything_from_the_moment_it_has_joined
                readiness_says_how_many_nodes_are_missing
                a_node_that_leaves_is_known_to_have_left [AnnouncedLeave]
                a_node_that_leaves_is_no_longer_counted
                a_node_that_is_killed_is_noticed
                a_node_that_was_killed_returns_under_a_new_id
                a_silent_node_is_down_until_it_is_heard_again
                fifty_nodes_are_one_cluster
                a_node_that_has_left_gets_nothing_more
            }
            namespaces {
                a_broadcast_stays_in_its_namespace
                namespaces_of_one_process_share_connections_and_nothing_else
                leaving_one_namespace_leaves_the_others_alone
                moves_and_disconnects_stay_in_their_namespace
                requests_and_counts_stay_in_their_namespace
                a_namespace_that_appears_later_works_like_any_other
                odd_names_are_namespaces_of_their_own
                opening_and_closing_a_namespace_disturbs_no_other
                clusters_of_other_names_do_not_hear_each_other
                clusters_of_other_names_do_not_answer_each_other
            }
            recovery {
                a_session_comes_back_on_another_node_with_what_it_missed [History]
                the_session_of_a_killed_node_comes_back [History]
                missed_packets_come_in_order_and_whole [History]
                every_offset_is_a_place_to_go_on_from [History]
                missed_packets_have_offsets_to_go_on_from [History]
                rooms_and_exceptions_are_respected [History]
                number_rooms_are_told_from_their_texts [History, NumberRooms]
                what_every_node_and_the_emitter_sent_is_replayed [History]
                a_session_comes_back_once [History]
                a_session_that_is_persisted_again_comes_back_as_it_was_last [History]
                an_unknown_session_is_unknown [History]
                what_is_no_offset_is_refused_and_the_session_stays [History]
                a_session_expires [History]
                a_trimmed_history_says_so [History]
                namespaces_keep_their_own_sessions_and_packets [History]
                clusters_of_other_names_keep_their_own_sessions [History]
                volatile_packets_are_not_replayed [History]
                only_plain_broadcasts_are_replayed [History]
                all_clients_see_one_order [History]
                without_history_nothing_can_be_restored_and_that_is_said [NoHistory]
            }
            emitter {
                broadcasts_reach_whom_they_are_for
                binary_and_flags_arrive_as_they_are
                a_thousand_broadcasts_arrive_complete_and_in_order
                the_same_event_of_two_emitters_arrives_each_time
                what_was_accepted_before_closing_arrives
                sockets_join_and_leave
                sockets_are_disconnected
                connections_are_closed_if_asked_to [CloseConnections]
                server_side_events_reach_every_node
                each_namespace_gets_its_own
                an_emitter_is_not_counted_and_not_waited_for
                an_emitter_has_no_local_sockets
                without_nodes_nothing_fails
            }
            numbering {
                a_repeated_message_is_applied_once [Numbered]
                a_lost_message_is_noticed_by_the_next_one [Numbered]
                a_lost_last_message_is_noticed_by_a_heartbeat [Numbered]
                what_nobody_wants_is_not_taken_for_missing [Numbered]
                what_comes_late_is_missed_rather_than_out_of_order [Numbered]
            }
            lifecycle {
                a_node_that_works_is_in_good_health
                closing_twice_is_closing_once
                giving_a_seat_back_twice_is_giving_it_back_once
                closing_during_traffic_ends_it_cleanly
                after_closing_every_operation_says_so
                a_request_ends_when_its_node_closes
                closing_ends_all_tasks
                joining_and_leaving_many_times_leaves_no_task_behind
                a_closed_node_is_opened_again
                a_namespace_is_opened_again_over_the_same_connections
                a_dropped_server_ends_its_node
                a_node_without_handles_leaves
                a_runtime_ends_in_the_middle_of_the_traffic_of_its_node
                a_frozen_peer_does_not_keep_others_from_closing
            }
        }
    };
}

macro_rules! list {
    ($($group:ident { $($case:ident $([$($need:ident),*])?)* })*) => {
        /// All cases.
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
