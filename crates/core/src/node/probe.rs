//! Probing the cluster from one node.

use std::time::Duration;

use tokio::{
    join,
    sync::oneshot,
    time::{Instant, timeout},
};

use super::{ClusterNode, command::ResponseSink};
use crate::{
    engine::{Gather, Request},
    error::{Error, ErrorKind, Result},
    model::{Message, Probe, Target},
};

impl ClusterNode {
    /// Sends real messages through the broker and measures how long they take: to the broker, back to this node, and to
    /// each other node and back. For a health check or a diagnosis; it costs as much as [`ClusterNode::fetch_sockets`]
    /// for no socket, and official peers answer it, too.
    ///
    /// Nodes that have not answered after `limit` are named in the result. *Cancel safe.*
    ///
    /// # Errors
    /// `QueueFull`, `Disconnected`, `Timeout` if the messages found no place in the queue to the broker; `Closed`.
    pub async fn probe(&self, limit: Duration) -> Result<Probe> {
        let began = Instant::now();
        let id = self.new_request();
        let message = Message::FetchSockets { request: id.clone(), target: Target::mark() };
        let deadline = self.deadline(Some(limit));
        let request = Request { id, gather: Gather::RoundTrips, message: Some(message), deadline };
        let (sender, answered) = oneshot::channel();
        let queued = timeout(limit, self.start(request, ResponseSink::Gathered(sender))).await;
        let _cancel = queued.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, format!("the probe found no place in the queue within {limit:?}")))
        })?;
        let transport = &self.shared.backend.transport;
        let taken = async { timeout(limit, transport.flush()).await.is_ok_and(|flushed| flushed.is_ok()) };
        let to_broker = async { taken.await.then(|| began.elapsed()) };
        let (to_broker, answered) = join!(to_broker, answered);
        let mut probe = Probe { to_broker, ..Probe::default() };
        let gathered = match answered.map_err(|_| self.closed_error())? {
            Ok(gathered) => gathered,
            Err(error) => {
                let plain = error.as_error().clone();
                let incomplete = error.into_incomplete().ok_or(plain)?;
                probe.missing = incomplete.missing;
                probe.missing_unnamed = incomplete.missing_unnamed;
                incomplete.received
            }
        };
        probe.echo = gathered.echo;
        let since_began = |at: std::time::Instant| at.saturating_duration_since(began.into_std());
        probe.round_trips = gathered.answered_at.into_iter().map(|(node, at)| (node, since_began(at))).collect();
        Ok(probe)
    }
}
