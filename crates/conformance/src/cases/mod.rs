//! The cases, by group. `__cases!` is the table of contents: every promise with what it needs in order to apply.

pub(crate) mod acks;
pub(crate) mod broadcast;
pub(crate) mod fetch;
pub(crate) mod namespaces;
pub(crate) mod order;

use crate::{needs::Need, suite::Case};

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
                to_a_room_except_another_leaves_out_members_of_both
                local_stays_on_its_node
                volatile_reaches_sockets_that_are_ready
                flags_arrive_at_other_nodes_as_they_were_set
                the_sending_socket_can_be_left_out
                a_socket_id_is_a_room_on_every_node
                an_unknown_room_reaches_nobody
                the_empty_room_name_is_a_room_like_any_other
                room_names_that_look_alike_are_different_rooms
                a_number_room_is_not_the_room_of_its_text [NumberRooms]
                every_node_can_send
            }
            order {
                ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order
            }
            acks {
                every_client_of_every_node_is_heard
            }
            fetch {
                describes_the_sockets_of_all_nodes
            }
            namespaces {
                a_broadcast_stays_in_its_namespace
                clusters_of_other_names_hear_nothing
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
