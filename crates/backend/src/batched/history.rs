//! From the history to one node: reads on from where it was, whatever happens to connections and servers in between.

use std::{ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use tokio::{sync::watch, task::consume_budget, time::sleep};
use trunkline_core::{
    Gap, GapCause, Message, NodeKey, Offset, Payload, Result, Room,
    codec::{self, Body},
    model::Delivery,
    transport::{InboxSender, MissedBroadcast},
};

use super::{BatchBroker, BatchConnection as _, HistoryEntry, HistorySource, node::JoinedNode};
use crate::{Backoff, batch::Batch, connection::next_live, decoder::BatchDecoder};

/// The task that reads the history for one node.
pub(super) struct HistoryReader<B: BatchBroker> {
    pub(super) node: Arc<JoinedNode<B>>,
    pub(super) source: B::HistorySource,
    pub(super) decoder: BatchDecoder,
    pub(super) inbox: Arc<InboxSender>,
    pub(super) connections: watch::Receiver<Option<Arc<B::Connection>>>,
    pub(super) backoff: Backoff,
}

impl<B: BatchBroker> HistoryReader<B> {
    /// Runs until the node leaves, or its inbox is gone.
    pub(super) async fn run(mut self) {
        let node = Arc::clone(&self.node);
        node.leaving.run_until_cancelled(self.read()).await;
    }

    async fn read(&mut self) {
        while let Some(connection) = next_live(&mut self.connections, B::Connection::has_ended).await {
            match self.read_from(&connection).await {
                Ok(()) => return,
                Err(error) => tracing::debug!(node = %self.node.key.id, %error, "reading the history begins anew"),
            }
            sleep(self.backoff.next_pause()).await;
        }
    }

    /// Reads until the inbox is gone, or something is wrong.
    async fn read_from(&mut self, connection: &Arc<B::Connection>) -> Result<()> {
        self.source.open(connection).await?;
        self.node.reads_history.cancel();
        loop {
            let entry = self.source.next(connection).await?;
            self.backoff.reset();
            if self.take(entry).await.is_break() {
                return Ok(());
            }
        }
    }

    /// Waits while the inbox is full: the broker keeps what comes.
    async fn take(&mut self, entry: HistoryEntry) -> ControlFlow<()> {
        consume_budget().await;
        self.inbox.ready().await;
        match entry {
            HistoryEntry::Gap => self.decoder.tell([Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None })]),
            HistoryEntry::Batch { batch, sequence } => {
                let (source, node) = (&self.source, &self.node);
                let offset = |batch: &Batch, remaining| source.offset(batch, sequence, remaining);
                self.decoder.decode_stored(batch, offset, |delivery| node.note(delivery))
            }
        }
    }
}

/// What a client in `rooms` has missed of a stored batch. `offset` tells where a message lies that so many others
/// follow in the batch, and is `None` for messages that the client has.
pub fn missed_in(
    batch: &Batch,
    node: &NodeKey,
    rooms: &[Room],
    offset: impl Fn(usize) -> Option<Offset>,
) -> Vec<MissedBroadcast> {
    let mut remaining = batch.clone().count();
    let mut missed = Vec::new();
    for message in batch.clone().flatten() {
        remaining -= 1;
        if let Some(offset) = offset(remaining)
            && let Some(payload) = plain_broadcast(&message, node, rooms)
        {
            missed.push(MissedBroadcast { payload, offset });
        }
    }
    missed
}

fn plain_broadcast(message: &Bytes, node: &NodeKey, rooms: &[Room]) -> Option<Payload> {
    let decoded = codec::decode(message).ok()?;
    if decoded.namespace.is_some_and(|namespace| namespace != node.namespace) {
        return None;
    }
    match decoded.body {
        Body::Message(Message::Broadcast { request: None, target, payload })
            if !target.flags.is_volatile() && target.matches(rooms) =>
        {
            Some(payload)
        }
        _ => None,
    }
}
