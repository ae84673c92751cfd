//! Transports that mix up namespaces or clusters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use trunkline_core::{Namespace, NodeKey};

use super::mutation;
use crate::{FORGETFUL, Mutation, broken::Defect, with_history};

/// A transport that takes some namespaces for others.
fn confusing(name: &'static str, confuse: fn(&str) -> String, fails: &[&'static str]) -> Mutation {
    let node = move |node: NodeKey| NodeKey { namespace: Namespace::new(&confuse(node.namespace.as_str())), ..node };
    let defect = Defect {
        join: Some(Arc::new(move |transport, mut seat| {
            seat.node = node(seat.node);
            Box::pin(async move { transport.join(seat).await })
        })),
        publish: Some(Arc::new(move |transport, from, message| {
            let from = node(from);
            Box::pin(async move { transport.publish(&from, message).await })
        })),
        leave: Some(Arc::new(move |transport, seated| {
            let seated = node(seated);
            Box::pin(async move { transport.leave(&seated).await })
        })),
        ..Defect::default()
    };
    mutation(name, defect, fails)
}

pub(crate) fn all() -> Vec<Mutation> {
    vec![
        confusing(
            "ignores namespaces",
            |_| "/".to_owned(),
            &[
                "emitter::each_namespace_gets_its_own",
                "lifecycle::closing_ends_all_tasks",
                "lifecycle::giving_a_seat_back_twice_is_giving_it_back_once",
                "namespaces::a_broadcast_stays_in_its_namespace",
                "namespaces::a_namespace_that_appears_later_works_like_any_other",
                "namespaces::moves_and_disconnects_stay_in_their_namespace",
                "namespaces::namespaces_of_one_process_share_connections_and_nothing_else",
                "namespaces::odd_names_are_namespaces_of_their_own",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
            ],
        ),
        confusing(
            "cuts names of namespaces",
            |name| name.chars().take(6).collect(),
            &[
                "namespaces::odd_names_are_namespaces_of_their_own",
                "namespaces::a_namespace_that_appears_later_works_like_any_other",
            ],
        ),
        confusing(
            "does not distinguish capitals in names of namespaces",
            str::to_lowercase,
            &["namespaces::odd_names_are_namespaces_of_their_own"],
        ),
        confusing(
            "ends names of namespaces at a number sign",
            |name| name.split('#').next().unwrap().to_owned(),
            &["namespaces::odd_names_are_namespaces_of_their_own"],
        ),
        mutation(
            "leaves all namespaces at once",
            leaving_all(),
            &[
                "namespaces::opening_and_closing_a_namespace_disturbs_no_other",
                "lifecycle::a_namespace_is_opened_again_over_the_same_connections",
                "lifecycle::giving_a_seat_back_twice_is_giving_it_back_once",
                "namespaces::leaving_one_namespace_leaves_the_others_alone",
                "namespaces::odd_names_are_namespaces_of_their_own",
            ],
        ),
        Mutation {
            name: "takes clusters for one whose names begin alike",
            setup: trunkline_conformance::Setup::new(|cluster| async move {
                with_history(&cluster[..11], crate::HistoryLimits::default())
            })
            .limited_history(|cluster| async move { with_history(&cluster, FORGETFUL) })
            .scaled_down_by(10),
            fails: vec![
                "namespaces::clusters_of_other_names_do_not_answer_each_other",
                "namespaces::clusters_of_other_names_do_not_hear_each_other",
                "recovery::clusters_of_other_names_keep_their_own_sessions",
            ],
        },
    ]
}

/// When one node leaves, all that were seated over the same connections do.
fn leaving_all() -> Defect {
    let seats: Arc<Mutex<HashMap<usize, Vec<NodeKey>>>> = Arc::default();
    let seated = Arc::clone(&seats);
    Defect {
        join: Some(Arc::new(move |transport, seat| {
            let connection = Arc::as_ptr(&transport).cast::<()>() as usize;
            seated.lock().unwrap().entry(connection).or_default().push(seat.node.clone());
            Box::pin(async move { transport.join(seat).await })
        })),
        leave: Some(Arc::new(move |transport, _| {
            let connection = Arc::as_ptr(&transport).cast::<()>() as usize;
            let nodes = seats.lock().unwrap().remove(&connection).unwrap_or_default();
            Box::pin(async move {
                for node in nodes {
                    transport.leave(&node).await?;
                }
                Ok(())
            })
        })),
        ..Defect::default()
    }
}
