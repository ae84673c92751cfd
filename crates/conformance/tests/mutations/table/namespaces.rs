//! Transports that mix up namespaces or clusters.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use trunkline_core::{Namespace, NodeKey};

use super::mutation;
use crate::{LIMITED_HISTORY, Mutation, broken::Defect, with_history};

/// A transport that mixes up some namespaces.
fn confusing(name: &'static str, confuse: fn(&str) -> String, fails: &[&'static str]) -> Mutation {
    let node = move |node: NodeKey| NodeKey { namespace: Namespace::new(&confuse(node.namespace.as_str())), ..node };
    let defect = Defect {
        join: Some(Arc::new(move |transport, mut request| {
            request.node = node(request.node);
            Box::pin(async move { transport.join(request).await })
        })),
        publish: Some(Arc::new(move |transport, from, message| {
            let from = node(from);
            Box::pin(async move { transport.publish(&from, message).await })
        })),
        leave: Some(Arc::new(move |transport, joined| {
            let joined = node(joined);
            Box::pin(async move { transport.leave(&joined).await })
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
                "emitter::each_namespace_receives_its_own_broadcasts",
                "lifecycle::closing_ends_all_tasks",
                "lifecycle::leaving_twice_has_the_effect_of_leaving_once",
                "namespaces::a_broadcast_stays_in_its_namespace",
                "namespaces::a_namespace_that_appears_later_works_like_any_other",
                "namespaces::joins_leaves_and_disconnects_stay_in_their_namespace",
                "namespaces::namespaces_of_one_process_share_connections_and_nothing_else",
                "namespaces::namespace_names_that_look_alike_are_different_namespaces",
                "namespaces::requests_and_counts_stay_in_their_namespace",
                "recovery::namespaces_keep_their_own_sessions_and_packets",
            ],
        ),
        confusing(
            "cuts names of namespaces",
            |name| name.chars().take(6).collect(),
            &[
                "namespaces::namespace_names_that_look_alike_are_different_namespaces",
                "namespaces::a_namespace_that_appears_later_works_like_any_other",
            ],
        ),
        confusing(
            "does not distinguish capitals in names of namespaces",
            str::to_lowercase,
            &["namespaces::namespace_names_that_look_alike_are_different_namespaces"],
        ),
        confusing(
            "ends names of namespaces at a number sign",
            |name| name.split('#').next().unwrap().to_owned(),
            &["namespaces::namespace_names_that_look_alike_are_different_namespaces"],
        ),
        mutation(
            "leaves all namespaces at once",
            leaving_all(),
            &[
                "namespaces::opening_and_closing_a_namespace_does_not_affect_the_others",
                "lifecycle::a_namespace_can_be_opened_again_over_the_same_connections",
                "lifecycle::leaving_twice_has_the_effect_of_leaving_once",
                "namespaces::leaving_one_namespace_does_not_affect_the_others",
                "namespaces::namespace_names_that_look_alike_are_different_namespaces",
            ],
        ),
        Mutation {
            name: "takes clusters for one whose names begin alike",
            setup: trunkline_conformance::Setup::new(|cluster| async move {
                with_history(&cluster[..11], crate::HistoryLimits::default())
            })
            .limited_history(|cluster| async move { with_history(&cluster, LIMITED_HISTORY) })
            .scaled_down_by(10),
            fails: vec![
                "namespaces::clusters_of_different_names_do_not_answer_each_other",
                "namespaces::clusters_of_different_names_do_not_receive_each_others_broadcasts",
                "recovery::clusters_of_different_names_keep_their_own_sessions",
            ],
        },
    ]
}

/// When one node leaves, all that joined over the same connections leave.
fn leaving_all() -> Defect {
    let by_connection: Arc<Mutex<HashMap<usize, Vec<NodeKey>>>> = Arc::default();
    let joining = Arc::clone(&by_connection);
    Defect {
        join: Some(Arc::new(move |transport, request| {
            let connection = Arc::as_ptr(&transport).cast::<()>() as usize;
            joining.lock().unwrap().entry(connection).or_default().push(request.node.clone());
            Box::pin(async move { transport.join(request).await })
        })),
        leave: Some(Arc::new(move |transport, _| {
            let connection = Arc::as_ptr(&transport).cast::<()>() as usize;
            let nodes = by_connection.lock().unwrap().remove(&connection).unwrap_or_default();
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
