//! Transports on which namespaces, emitters or concurrent messages affect each other.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use trunkline_conformance::Setup;
use trunkline_core::{
    Message, Namespace, NodeId, NodeKey, Transport,
    model::Delivery,
    transport::{JoinRequest, Unfiltered, inbox},
};

use super::{is_broadcast, mutation};
use crate::{
    HistoryLimits, LIMITED_HISTORY, Mutation,
    broken::{Defect, PerNode},
    with_history,
};

pub(crate) fn all() -> Vec<Mutation> {
    let mut all = leaking();
    all.extend(overtaking());
    all.extend(emitters());
    all.push(mutation(
        "loses what arrives while a namespace is opened",
        losing_while_opening(),
        &["namespaces::opening_and_closing_a_namespace_does_not_affect_the_others", "..."],
    ));
    all.push(mutation(
        "receives from emitters once per time that a namespace was opened",
        hearing_again(),
        &["lifecycle::a_namespace_can_be_opened_again_over_the_same_connections"],
    ));
    all.push(mutation(
        "does not introduce nodes to each other",
        Defect::losing(|message| matches!(message, Message::Heartbeat(heartbeat) if heartbeat.initial)),
        &["membership::nodes_that_join_know_each_other_before_the_next_heartbeat", "..."],
    ));
    all
}

/// A transport on which some messages of one namespace arrive in another one too.
fn leaking_into(
    name: &'static str,
    which: fn(&Message) -> bool,
    [from_there, to_there]: [&'static str; 2],
    fails: &[&'static str],
) -> Mutation {
    let publish = move |transport: Arc<dyn Transport>, from: NodeKey, message: Message| {
        let mut copy = (which(&message) && from.namespace.as_str() == from_there).then(|| message.clone());
        if let Some(Message::ServerSideEmit { request, .. } | Message::Broadcast { request, .. }) = &mut copy {
            *request = None;
        }
        let other = NodeKey { id: NodeId::EMITTER, namespace: Namespace::new(to_there) };
        Box::pin(async move {
            if let Some(copy) = copy {
                transport.publish(&other, copy).await?;
            }
            transport.publish(&from, message).await
        }) as _
    };
    mutation(name, Defect::publishing_with(publish), fails)
}

fn leaking() -> Vec<Mutation> {
    let stay = "namespaces::requests_and_counts_stay_in_their_namespace";
    let is_server_side = |message: &Message| matches!(message, Message::ServerSideEmit { .. });
    vec![
        leaking_into("shows server-side events to other namespaces", is_server_side, ["/", "/admin"], &[stay, "..."]),
        leaking_into(
            "shows server-side events to the main namespace",
            is_server_side,
            ["/admin", "/"],
            &[stay, "emitter::each_namespace_receives_its_own_broadcasts", "..."],
        ),
        leaking_into(
            "asks clients of other namespaces",
            |message| matches!(message, Message::Broadcast { request: Some(_), .. }),
            ["/", "/admin"],
            &[stay],
        ),
        leaking_into(
            "disconnects clients of the main namespace",
            |message| matches!(message, Message::Disconnect { .. }),
            ["/admin", "/"],
            &[
                "emitter::each_namespace_receives_its_own_broadcasts",
                "namespaces::joins_leaves_and_disconnects_stay_in_their_namespace",
            ],
        ),
    ]
}

/// A transport that does not number, and delivers some messages late.
fn delaying(name: &'static str, is_late: fn(Option<&NodeId>, &Message) -> bool, fails: &[&'static str]) -> Mutation {
    let defect = Defect::arriving(move |(): &mut (), delivery| match delivery {
        Delivery::Message { from, offset, message, .. } => {
            let delay = if is_late(from.as_ref(), &message) { Duration::from_millis(20) } else { Duration::ZERO };
            vec![(delay, Delivery::Message { from, seq_no: None, offset, message })]
        }
        delivery => vec![(Duration::ZERO, delivery)],
    });
    mutation(name, defect, fails)
}

fn overtaking() -> Vec<Mutation> {
    vec![
        delaying(
            "lets disconnects overtake broadcasts",
            |_, message| !matches!(message, Message::Disconnect { .. }),
            &["order::messages_keep_their_order_whatever_their_rooms", "..."],
        ),
        delaying(
            "lets small server-side events overtake big ones",
            |_, message| matches!(message, Message::ServerSideEmit { .. }) && message.weight() > 10_000,
            &["order::server_side_events_keep_their_order", "..."],
        ),
        delaying(
            "lets small messages of emitters overtake big ones",
            |from, message| from.is_some_and(NodeId::is_emitter) && message.weight() > 10_000,
            &["emitter::a_thousand_broadcasts_arrive_complete_and_in_order"],
        ),
    ]
}

fn emitters() -> Vec<Mutation> {
    vec![
        one_for_all_emitters(),
        mutation(
            "emits operations into one namespace only",
            Defect::publishing_with(|transport, mut from, message| {
                Box::pin(async move {
                    if from.id.is_emitter() && matches!(message, Message::Disconnect { .. }) {
                        from.namespace = Namespace::new("/");
                    }
                    transport.publish(&from, message).await
                })
            }),
            &["emitter::each_namespace_receives_its_own_broadcasts"],
        ),
        mutation(
            "ignores the exceptions of an emitter's joins",
            Defect::publishing(|from, mut message| {
                if let Message::Join { target, .. } | Message::Leave { target, .. } = &mut message
                    && from.id.is_emitter()
                {
                    target.except.clear();
                }
                vec![message]
            }),
            &["emitter::sockets_join_and_leave"],
        ),
        mutation(
            "drops what is queued when it closes",
            forgetting_queue(),
            &["emitter::broadcasts_accepted_before_closing_arrive", "..."],
        ),
    ]
}

/// Each connection of an emitter counts from 1, and all are taken for one sender: the second one's messages seem to be
/// repeats.
fn one_for_all_emitters() -> Mutation {
    type Seen = Arc<Mutex<HashSet<u64>>>;
    let clusters: Arc<Mutex<HashMap<String, Seen>>> = Arc::default();
    let setup = Setup::new(move |cluster| {
        let seen = Arc::clone(clusters.lock().unwrap().entry(cluster.clone()).or_default());
        let next = AtomicU64::new(1);
        let defect = Defect::publishing(move |from, message| {
            let is_new = |number| seen.lock().unwrap().insert(number);
            let passes = !from.id.is_emitter() || is_new(next.fetch_add(1, Ordering::Relaxed));
            if passes { vec![message] } else { Vec::new() }
        });
        async move { Ok(defect.into(with_history(&cluster, HistoryLimits::default())?)) }
    });
    Mutation {
        name: "takes all emitters for one",
        setup: setup
            .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) })
            .scaled_down_by(10),
        fails: vec![
            "emitter::equal_events_of_two_emitters_arrive_each_time",
            "emitter::what_is_flushed_or_closed_arrives_although_the_process_ends",
        ],
    }
}

/// What emitters publish waits in a queue of its own, which closing clears.
fn forgetting_queue() -> Defect {
    let held = Arc::new(PerNode::<Vec<Message>>::default());
    let publish = move |transport: Arc<dyn Transport>, from: NodeKey, message: Message| {
        let is_held = from.id.is_emitter() && is_broadcast(&message);
        let due = held.with(&from, |held| {
            if is_held {
                held.push(message.clone())
            }
            // A marker of `settle` sends them on.
            if is_held { Vec::new() } else { std::mem::take(held) }
        });
        Box::pin(async move {
            for message in due {
                transport.publish(&from, message).await?;
            }
            if is_held { Ok(()) } else { transport.publish(&from, message).await }
        }) as _
    };
    Defect::publishing_with(publish)
}

/// What nodes over one connection have in common.
type PerConnection<T> = Arc<Mutex<HashMap<usize, T>>>;

fn with_connection<T: Default, R>(
    all: &PerConnection<T>,
    transport: &Arc<dyn Transport>,
    look: impl FnOnce(&mut T) -> R,
) -> R {
    look(all.lock().unwrap().entry(Arc::as_ptr(transport).cast::<()>() as usize).or_default())
}

/// A transport that passes on what arrives at a node, changed.
fn relaying<F>(start: impl Fn(&Arc<dyn Transport>, &JoinRequest) -> F + Send + Sync + 'static) -> Defect
where
    F: FnMut(Delivery) -> Vec<Delivery> + Send + 'static,
{
    Defect::joining(move |transport, request| {
        let mut relay = start(&transport, &request);
        Box::pin(async move {
            let (sender, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
            let mut arriving = transport.join(request.with_room_filter(Arc::new(Unfiltered))).await?;
            tokio::spawn(async move {
                let mut batch = VecDeque::new();
                while arriving.next_batch(&mut batch).await && sender.push(batch.drain(..).flat_map(&mut relay)) {}
            });
            Ok(receiver)
        })
    })
}

/// When a namespace is opened, the next broadcast over the same connection is lost, whatever its target is.
fn losing_while_opening() -> Defect {
    let opened: PerConnection<Arc<AtomicBool>> = Arc::default();
    relaying(move |transport, _| {
        let opened = with_connection(&opened, transport, |opened| Arc::clone(opened));
        opened.store(true, Ordering::Relaxed);
        move |delivery| {
            let may_be_lost = matches!(&delivery, Delivery::Message { message, .. } if is_broadcast(message));
            if may_be_lost && opened.swap(false, Ordering::Relaxed) { Vec::new() } else { vec![delivery] }
        }
    })
}

/// Every time a namespace is opened adds one more subscription. Repeats of numbered messages are dropped, but emitters
/// do not number.
fn hearing_again() -> Defect {
    let opened: PerConnection<HashMap<Namespace, usize>> = Arc::default();
    relaying(move |transport, request| {
        let times = with_connection(&opened, transport, |opened| {
            let times = opened.entry(request.node.namespace.clone()).or_default();
            *times += 1;
            *times
        });
        move |delivery| {
            let is_unnumbered =
                matches!(&delivery, Delivery::Message { seq_no: None, message, .. } if is_broadcast(message));
            vec![delivery; if is_unnumbered { times } else { 1 }]
        }
    })
}
