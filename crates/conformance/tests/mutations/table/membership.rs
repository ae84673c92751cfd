//! Transports that get membership wrong.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use trunkline_core::{Message, NodeId, model::Delivery, transport::inbox};

use super::mutation;
use crate::{
    Mutation,
    broken::{Defect, PerNode},
};

pub(crate) fn all() -> Vec<Mutation> {
    vec![
        mutation(
            "drops the leave announcement",
            Defect::publishing(|_, message| if message == Message::Leaving { Vec::new() } else { vec![message] }),
            &[
                "lifecycle::what_was_queued_and_the_leave_are_with_the_broker_when_closed_returns",
                "lifecycle::dropping_the_server_ends_its_node",
                "lifecycle::a_node_leaves_when_its_last_handle_is_dropped",
                "lifecycle::closing_twice_has_the_effect_of_closing_once",
                "lifecycle::leaving_twice_has_the_effect_of_leaving_once",
                "membership::a_node_that_leaves_is_reported_as_left",
                "acks::a_node_that_leaves_is_not_waited_for",
            ],
        ),
        mutation(
            "returns before it is subscribed",
            Defect::joining(|transport, request| {
                Box::pin(async move {
                    let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        let Ok(mut arriving) = transport.join(request).await else { return };
                        let mut batch = std::collections::VecDeque::new();
                        while arriving.next_batch(&mut batch).await && sender.push(batch.drain(..)) {}
                    });
                    Ok(receiver)
                })
            }),
            &["membership::a_node_receives_every_broadcast_sent_after_it_has_joined", "..."],
        ),
        mutation(
            "announces each node twice",
            Defect::arriving(|(): &mut (), delivery| match &delivery {
                Delivery::Message { from: Some(from), message: Message::Heartbeat(_), .. } => {
                    let mut twin = delivery.clone();
                    if let Delivery::Message { from: twin, .. } = &mut twin {
                        *twin = Some(NodeId::new(format!("{from}-2")).unwrap());
                    }
                    vec![(Duration::ZERO, delivery), (Duration::ZERO, twin)]
                }
                _ => vec![(Duration::ZERO, delivery)],
            }),
            &[
                "acks::dropping_the_acknowledgements_frees_the_request",
                "emitter::an_emitter_is_not_counted_and_not_waited_for",
                "fetch::dropping_the_call_frees_its_request",
                "lifecycle::a_node_can_join_again_after_closing",
                "membership::a_node_that_joins_is_announced",
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "order::acknowledged_and_plain_broadcasts_keep_their_order",
                "recovery::only_plain_broadcasts_are_replayed",
                "sockets::a_socket_of_another_node_joins_by_its_id",
                "...",
            ],
        ),
        mutation(
            "stops sending heartbeats",
            Defect::publishing({
                let joined = PerNode::<Option<Instant>>::default();
                move |from, message| {
                    let age = joined.with(from, |joined| joined.get_or_insert_with(Instant::now).elapsed());
                    let is_dropped = matches!(message, Message::Heartbeat(_)) && age > Duration::from_millis(100);
                    if is_dropped { Vec::new() } else { vec![message] }
                }
            }),
            &["membership::a_silent_node_is_down_until_it_sends_again", "..."],
        ),
        mutation(
            "knows five nodes at most",
            Defect::arriving(|known: &mut Vec<NodeId>, delivery| {
                if let Delivery::Message { from: Some(from), message: Message::Heartbeat(_), .. } = &delivery {
                    if !known.contains(from) && known.len() == 5 {
                        return Vec::new();
                    }
                    if !known.contains(from) {
                        known.push(from.clone());
                    }
                }
                vec![(Duration::ZERO, delivery)]
            }),
            &["membership::fifty_nodes_are_one_cluster"],
        ),
    ]
}
