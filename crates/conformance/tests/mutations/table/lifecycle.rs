//! Transports that do not tidy up.

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
            "leaves a task behind for every seat",
            Defect::joining(|transport, seat| {
                Box::pin(async move {
                    tokio::spawn(std::future::pending::<()>());
                    transport.join(seat).await
                })
            }),
            &["lifecycle::closing_ends_all_tasks", "lifecycle::joining_and_leaving_many_times_leaves_no_task_behind"],
        ),
        mutation(
            "does not end its closing",
            Defect::closing(|_| Box::pin(std::future::pending())),
            &[
                "lifecycle::a_closed_node_is_opened_again",
                "lifecycle::closing_ends_all_tasks",
                "lifecycle::closing_twice_is_closing_once",
                "...",
            ],
        ),
        mutation(
            "does not bear a second leave",
            Defect::leaving(move |transport, node| {
                let again = left.with(&node, |left| std::mem::replace(left, true));
                Box::pin(async move {
                    if again {
                        return Err(Error::new(ErrorKind::Closed, "has left before"));
                    }
                    transport.leave(&node).await
                })
            }),
            &["lifecycle::giving_a_seat_back_twice_is_giving_it_back_once"],
        ),
        mutation(
            "is slow to leave",
            Defect::leaving(|_, _| Box::pin(std::future::pending())),
            &["lifecycle::giving_a_seat_back_twice_is_giving_it_back_once"],
        ),
    ]
}
