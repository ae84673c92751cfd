//! Counting what the server does not take.

use std::{pin::Pin, sync::Arc};

use super::{JoinedNode, SubscribedNodes};
use crate::{
    connect::Reply,
    publish::{Publication, PublishObserver},
    subscribe::MessageHandler as _,
};

/// Counts the rejected publications of each node. Credit is unlimited.
#[derive(Debug)]
pub(crate) struct RejectionCounter<N: JoinedNode>(pub(crate) Arc<SubscribedNodes<N>>);

impl<N: JoinedNode> PublishObserver for RejectionCounter<N> {
    fn credit(&self) -> Pin<Box<dyn Future<Output = usize> + Send + '_>> {
        Box::pin(std::future::ready(usize::MAX))
    }

    fn acknowledged(&self, publication: Publication, _: Reply) -> usize {
        publication.bytes
    }

    fn lost(&self, reason: &str) {
        self.0.lost(reason);
    }

    fn restored(&self) {
        self.0.restored();
    }

    fn rejected(&self, publication: Publication, reason: &str) -> usize {
        count_rejected(&self.0, &publication, reason);
        publication.bytes
    }
}

/// Counts a publication that the server does not take.
pub(crate) fn count_rejected<N: JoinedNode>(nodes: &SubscribedNodes<N>, publication: &Publication, reason: &str) {
    tracing::debug!(node = %publication.from.id, error = reason, "the server rejects a message");
    if let Some(node) = nodes.joined.find(&publication.from) {
        node.inbox().metrics.publish_errors.increment();
    }
}
