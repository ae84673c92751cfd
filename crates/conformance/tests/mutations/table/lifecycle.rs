//! Transports that do not end their tasks.

use std::sync::Arc;

use trunkline_core::{Error, ErrorKind};

use super::mutation;
use crate::{
    Mutation,
    broken::{Defect, PerNode},
};

pub(crate) fn all() -> Vec<Mutation> {
    let left = Arc::new(PerNode::<bool>::default());
    vec![
        mutation(
            "leaves a task behind when it closes",
            Defect::closing(|transport| {
                Box::pin(async move {
                    tokio::spawn(std::future::pending::<()>());
                    transport.close().await;
                })
            }),
            &["lifecycle::closing_ends_all_tasks"],
        ),
        mutation(
            "leaves a task behind for every join",
            Defect::joining(|transport, request| {
                Box::pin(async move {
                    tokio::spawn(std::future::pending::<()>());
                    transport.join(request).await
                })
            }),
            &["lifecycle::closing_ends_all_tasks", "lifecycle::joining_and_leaving_many_times_leaves_no_task_running"],
        ),
        mutation(
            "does not return from close",
            Defect::closing(|_| Box::pin(std::future::pending())),
            &[
                "lifecycle::a_node_can_join_again_after_closing",
                "lifecycle::closing_ends_all_tasks",
                "lifecycle::closing_twice_has_the_effect_of_closing_once",
                "...",
            ],
        ),
        mutation(
            "fails at a second leave",
            Defect::leaving(move |transport, node| {
                let again = left.with(&node, |left| std::mem::replace(left, true));
                Box::pin(async move {
                    if again {
                        return Err(Error::new(ErrorKind::Closed, "has left before"));
                    }
                    transport.leave(&node).await
                })
            }),
            &["lifecycle::leaving_twice_has_the_effect_of_leaving_once"],
        ),
        mutation(
            "is slow to leave",
            Defect::leaving(|_, _| Box::pin(std::future::pending())),
            &["lifecycle::leaving_twice_has_the_effect_of_leaving_once"],
        ),
    ]
}
