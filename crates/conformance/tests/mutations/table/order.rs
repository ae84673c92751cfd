//! Transports that lose messages, or deliver them in another order.

use std::time::{Duration, Instant};

use fastrand::Rng;
use trunkline_core::{
    Message,
    model::{Delivery, Heartbeat},
};

use super::{is_broadcast, mutation};
use crate::{Mutation, broken::Defect};

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = losing();
    all.extend(reordering());
    all.extend(sequencer());
    all
}

/// A transport that loses broadcasts by their position at the receiving node.
fn losing_some(name: &'static str, is_lost: fn(usize) -> bool, fails: &[&'static str]) -> Mutation {
    let defect = Defect::arriving(move |count: &mut usize, delivery| {
        if matches!(&delivery, Delivery::Message { message, .. } if is_broadcast(message)) {
            *count += 1;
            if is_lost(*count) {
                return Vec::new();
            }
        }
        vec![(Duration::ZERO, delivery)]
    });
    // There have to be as many messages as it takes to lose one.
    let mutation = mutation(name, defect, fails);
    Mutation { setup: mutation.setup.scaled_down_by(1), ..mutation }
}

fn losing() -> Vec<Mutation> {
    vec![
        losing_some(
            "loses one of 900",
            |count| count % 900 == 0,
            &[
                "payloads::the_same_event_a_thousand_times_arrives_a_thousand_times",
                "order::ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order",
                "...",
            ],
        ),
        losing_some(
            "loses one of 256",
            |count| count % 256 == 0,
            &[
                "payloads::the_same_event_a_thousand_times_arrives_a_thousand_times",
                "order::ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order",
                "order::messages_keep_their_order_whatever_their_rooms",
                "...",
            ],
        ),
        losing_some(
            "loses the first message",
            |count| count == 1,
            &[
                "acks::dropping_the_acknowledgements_frees_the_request",
                "broadcast::a_number_room_is_not_the_room_of_its_text",
                "emitter::a_thousand_broadcasts_arrive_complete_and_in_order",
                "lifecycle::a_node_can_join_again_after_closing",
                "membership::a_node_that_has_left_receives_nothing_more",
                "namespaces::a_broadcast_stays_in_its_namespace",
                "numbering::a_lost_last_message_is_noticed_at_a_heartbeat",
                "order::a_small_message_never_overtakes_a_big_one",
                "payloads::a_mebibyte_of_binary_arrives_whole",
                "recovery::a_session_is_restored_on_another_node_with_the_packets_it_missed",
                "server_side::clients_do_not_see_server_side_events",
                "...",
            ],
        ),
        mutation(
            "drops the last message before a pause",
            Defect::arriving(|held: &mut Option<(Instant, Delivery)>, delivery| {
                let last = held.take().filter(|(since, _)| since.elapsed() < Duration::from_millis(50));
                let mut arriving: Vec<_> = last.map(|(_, last)| (Duration::ZERO, last)).into_iter().collect();
                match &delivery {
                    Delivery::Message { message, .. } if is_broadcast(message) => {
                        *held = Some((Instant::now(), delivery))
                    }
                    _ => arriving.push((Duration::ZERO, delivery)),
                }
                arriving
            }),
            &["order::the_last_message_before_a_pause_arrives", "..."],
        ),
        mutation(
            "loses messages while a large one is under way",
            Defect::arriving(|big: &mut Option<Instant>, delivery| {
                let Delivery::Message { message, .. } = &delivery else { return vec![(Duration::ZERO, delivery)] };
                if message.weight() > 100_000 {
                    *big = Some(Instant::now());
                } else if is_broadcast(message)
                    && big.take().is_some_and(|big| big.elapsed() < Duration::from_millis(50))
                {
                    return Vec::new();
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &["order::a_small_message_never_overtakes_a_big_one", "..."],
        ),
    ]
}

/// A transport that delays each delivery by a time of its own and does not number, so that no node notices.
fn delaying(
    name: &'static str,
    delay: impl Fn(&Message) -> Duration + Send + Sync + 'static,
    fails: &[&'static str],
) -> Mutation {
    let defect = Defect::arriving(move |(): &mut (), delivery| match delivery {
        Delivery::Message { from, offset, message, .. } => {
            let delay = delay(&message);
            vec![(delay, Delivery::Message { from, seq_no: None, offset, message })]
        }
        delivery => vec![(Duration::ZERO, delivery)],
    });
    mutation(name, defect, fails)
}

const A_LITTLE: Duration = Duration::from_millis(20);

fn reordering() -> Vec<Mutation> {
    vec![
        delaying(
            "lets small messages overtake big ones",
            |message| if message.weight() > 15_000 { A_LITTLE } else { Duration::ZERO },
            &[
                "order::a_small_message_never_overtakes_a_big_one",
                "order::ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order",
                "...",
            ],
        ),
        delaying(
            "delivers in any order",
            |message| if is_broadcast(message) { A_LITTLE.mul_f64(Rng::new().f64()) } else { A_LITTLE },
            &["order::messages_keep_their_order_whatever_their_rooms", "order::each_sender_keeps_its_own_order", "..."],
        ),
        mutation(
            "delivers in any order, but numbered",
            Defect::arriving(|random: &mut Option<Rng>, delivery| {
                let random = random.get_or_insert_with(|| Rng::with_seed(7));
                let is_shuffled = matches!(&delivery, Delivery::Message { message, .. } if is_broadcast(message));
                let delay = if is_shuffled { A_LITTLE.mul_f64(random.f64()) } else { A_LITTLE };
                vec![(delay, delivery)]
            }),
            &[
                "order::messages_keep_their_order_whatever_their_rooms",
                "payloads::the_same_event_a_thousand_times_arrives_a_thousand_times",
                "...",
            ],
        ),
        delaying(
            "keeps the order within rooms only",
            |message| match message {
                Message::Broadcast { target, .. } if target.single_room().is_some_and(|room| room.to_text() == "y") => {
                    A_LITTLE
                }
                _ => Duration::ZERO,
            },
            &["order::messages_keep_their_order_whatever_their_rooms", "..."],
        ),
        delaying(
            "lets acknowledged broadcasts overtake plain ones",
            |message| {
                if matches!(message, Message::Broadcast { request: None, .. }) { A_LITTLE } else { Duration::ZERO }
            },
            &[
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "order::what_is_done_to_sockets_comes_behind_what_was_sent_before",
                "...",
            ],
        ),
        delaying(
            "lets broadcasts overtake joins",
            |message| if matches!(message, Message::Join { .. }) { A_LITTLE } else { Duration::ZERO },
            &["order::joins_and_broadcasts_apply_in_the_order_of_their_calls", "..."],
        ),
        delaying(
            "delivers server-side events in any order",
            |message| match message {
                Message::ServerSideEmit { .. } => A_LITTLE.mul_f64(Rng::new().f64()),
                _ => A_LITTLE,
            },
            &["order::server_side_events_keep_their_order", "..."],
        ),
    ]
}

fn sequencer() -> Vec<Mutation> {
    vec![
        mutation(
            "numbers nothing",
            Defect::arriving(|(): &mut (), delivery| {
                let delivery = match delivery {
                    Delivery::Message { from, offset, message, .. } => {
                        Delivery::Message { from, seq_no: None, offset, message }
                    }
                    Delivery::Skipped { from, .. } => Delivery::Skipped { from, seq_no: None },
                    delivery => delivery,
                };
                vec![(Duration::ZERO, delivery)]
            }),
            &[
                "numbering::a_lost_message_is_noticed_at_the_next_one",
                "numbering::a_lost_last_message_is_noticed_at_a_heartbeat",
                "...",
            ],
        ),
        mutation(
            "drops messages without matching sockets and does not report their numbers",
            Defect::arriving(|(): &mut (), delivery| match &delivery {
                Delivery::Skipped { .. } => Vec::new(),
                Delivery::Message { message: Message::Broadcast { target, .. }, .. }
                    if target.single_room().is_some_and(|room| room.to_text().starts_with("empty-")) =>
                {
                    Vec::new()
                }
                _ => vec![(Duration::ZERO, delivery)],
            }),
            &["numbering::a_message_without_matching_sockets_does_not_count_as_missed", "..."],
        ),
        mutation(
            "removes the numbers from heartbeats",
            Defect::rewriting(|message| {
                if let Message::Heartbeat(heartbeat) = message {
                    *heartbeat = Heartbeat::new(false);
                }
            }),
            &[
                "numbering::a_lost_last_message_is_noticed_at_a_heartbeat",
                "numbering::a_message_without_matching_sockets_does_not_count_as_missed",
            ],
        ),
    ]
}
