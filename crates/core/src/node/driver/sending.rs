//! What takes time: messages and answers on their way to the transport, and the broker's counts.

use futures_util::FutureExt as _;
use tokio::time::Instant;

use super::{AT_ONCE, Driver, Job, Outgoing};
use crate::{
    error::{ErrorKind, Result},
    transport::NodeCount,
};

impl Driver {
    /// Hands what is queued to the transport, as long as it takes it at once. Returns what has to be waited for.
    pub(super) fn send_queued(&mut self) -> Option<Job<Result<()>>> {
        for _ in 0..AT_ONCE {
            let mut sending = self.outgoing.front()?.send(&self.backend, self.node.clone(), &self.local);
            match (&mut sending).now_or_never() {
                Some(result) => self.sent(result),
                None => return Some(sending),
            }
        }
        let next = self.outgoing.front()?;
        Some(next.send(&self.backend, self.node.clone(), &self.local))
    }

    pub(super) fn sent(&mut self, result: Result<()>) {
        let Some(outgoing) = self.outgoing.pop_front() else { return };
        match &result {
            Ok(()) => {
                self.metrics.published.increment();
                outgoing.export(&self.metrics.exported);
            }
            Err(error) => {
                // The next heartbeat says the same: none is missed.
                let is_heartbeat = matches!(&outgoing, Outgoing::Publish(message) if !message.is_numbered());
                self.metrics.publish_errors.add(u64::from(!is_heartbeat));
                tracing::debug!(node = %self.node.id, %error, "publishing failed");
            }
        }
        match (outgoing, result) {
            (Outgoing::Publish(message), result) => {
                if let Some(id) = message.request() {
                    self.published(id, result);
                }
            }
            (Outgoing::Send(to, response), Err(error)) if error.kind() == ErrorKind::TooLarge => {
                self.too_large(to, response, &error);
            }
            (Outgoing::SendInParts(..), Err(error)) if error.kind() == ErrorKind::TooLarge => {
                self.metrics.answers_too_large.increment();
            }
            _ => {}
        }
    }

    pub(super) fn count(&mut self) -> Option<Job<Option<NodeCount>>> {
        if !std::mem::take(&mut self.count_wanted) {
            return None;
        }
        let node_counter = self.backend.node_counter.clone()?;
        let node = self.node.clone();
        let known = self.engine.begin_count(Instant::now().into_std());
        Some(Box::pin(async move {
            node_counter
                .count_nodes(&node, &known)
                .await
                .inspect_err(|error| tracing::debug!(%error, "counting nodes failed"))
                .ok()
        }))
    }
}
