//! From a typed message to the outbox: encoded in the caller's task, numbered when it gets its place.

use std::sync::Arc;

use trunkline_core::{
    Error, ErrorKind, Heartbeat, Message, NodeId, NodeKey, Response, Result,
    codec::EncodedMessage,
    model::{SeqChannel, SeqNo},
};

use super::{
    BatchBroker, OutgoingBatch, OutgoingMessage,
    node::{JoinedNode, NamespaceState},
    state::TransportState,
};
use crate::batch::{self, BatchBuilder};

/// What waits in the outbox.
#[derive(Debug)]
pub enum Outgoing<B: BatchBroker> {
    /// For the nodes that are connected now.
    Live(OutgoingMessage<B>),
    /// For the history.
    Stored(OutgoingMessage<B>),
    /// A heartbeat, with a history: a sign of life that nothing may hold up, and, behind everything that it counts, the
    /// numbers.
    LiveAndStored(OutgoingMessage<B>, OutgoingMessage<B>),
}

/// What a probe counts in the outbox.
const PROBE: usize = 64;

/// A message that waits for nothing but its number.
struct Prepared<B: BatchBroker> {
    address: B::Address,
    /// Where it is numbered; `None` for what takes no number.
    channel: Option<SeqChannel>,
    encoded: EncodedMessage,
    weight: usize,
    is_stored: bool,
}

impl<B: BatchBroker> Prepared<B> {
    fn finish(self, seq_no: Option<SeqNo>, marks: &[SeqNo]) -> Outgoing<B> {
        let message = self.encoded.finish(seq_no, marks);
        let Self { address, weight, is_stored, .. } = self;
        let outgoing = OutgoingMessage { address, message, is_stored, weight };
        if is_stored { Outgoing::Stored(outgoing) } else { Outgoing::Live(outgoing) }
    }
}

impl<B: BatchBroker> TransportState<B> {
    /// Queues a message of a node or of an emitter without waiting, or hands it back.
    pub(super) fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        if matches!(message, Message::Heartbeat(_)) {
            return Ok(Some(message));
        }
        let prepared = self.prepare(from, &message)?;
        let (channel, weight) = (prepared.channel, prepared.weight);
        let make = |seq_no, marks: &[SeqNo]| prepared.finish(seq_no, marks);
        if !self.outbox.try_push_message(&from.id, channel, weight, make)? {
            return Ok(Some(message));
        }
        self.probe_peers(from, &message);
        Ok(None)
    }

    /// Queues a message of a node or of an emitter.
    pub(super) async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        if let Message::Heartbeat(heartbeat) = &message
            && self.has_history()
            && let Some(node) = self.node(from)
        {
            self.publish_heartbeat(&node, heartbeat).await?;
            self.probe(&node, &from.id);
            return Ok(());
        }
        let prepared = self.prepare(from, &message)?;
        let (channel, weight) = (prepared.channel, prepared.weight);
        let make = |seq_no, marks: &[SeqNo]| prepared.finish(seq_no, marks);
        self.outbox.push_message(&from.id, channel, weight, make).await?;
        self.probe_peers(from, &message);
        Ok(())
    }

    /// Queues an answer.
    pub(super) async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        let address = self.namespace_of(from)?.node(to);
        let encoded = batch::encode(&from.id, &from.namespace, response)?;
        let weight = self.check_size(&encoded)?;
        let prepared = Prepared { address, channel: None, encoded, weight, is_stored: false };
        self.outbox.push_message(&from.id, None, weight, |_, _| prepared.finish(None, &[])).await
    }

    fn prepare(&self, from: &NodeKey, message: &Message) -> Result<Prepared<B>> {
        let namespace = self.namespace_of(from)?;
        let encoded = batch::encode(&from.id, &from.namespace, message)?;
        let weight = self.check_size(&encoded)?;
        let (address, channel) = self.route(&namespace, message);
        let channel = (message.is_numbered() && !from.id.is_emitter()).then_some(channel);
        Ok(Prepared { address, channel, encoded, weight, is_stored: self.has_history() })
    }

    /// With a history, what a heartbeat counts may still be on its way through the log: the numbers go the same way,
    /// when they have changed or a new peer does not know them. The sign of life does not wait for that.
    async fn publish_heartbeat(&self, node: &Arc<JoinedNode<B>>, heartbeat: &Heartbeat) -> Result<()> {
        let NodeKey { id, namespace } = &node.key;
        let encode = |heartbeat: Heartbeat| batch::encode(id, namespace, &Message::Heartbeat(heartbeat));
        let live = encode(heartbeat.clone())?;
        let mut stored = heartbeat.clone();
        stored.initial = false;
        let stored = encode(stored)?;
        let (weight, stored_weight) = (live.len() + stored.len(), stored.len());
        let make = |_: Option<SeqNo>, marks: &[SeqNo]| {
            let is_news = node.is_news(marks.first().map_or(0, |mark| mark.number));
            let (all, log) = (node.namespace.all.clone(), node.namespace.log.clone());
            let live = |weight| {
                let message = live.finish(None, &[]);
                OutgoingMessage { address: all, message, is_stored: false, weight }
            };
            if !is_news {
                return Outgoing::Live(live(weight));
            }
            let message = stored.finish(None, marks);
            let stored = OutgoingMessage { address: log, message, is_stored: true, weight: stored_weight };
            Outgoing::LiveAndStored(live(weight - stored_weight), stored)
        };
        self.outbox.push_message(id, None, weight, make).await
    }

    /// What tells the peers of a node that it is back: a heartbeat that asks them for theirs. It goes ahead of what is
    /// held, and so without numbers: of its batch, which what is sent again is behind, and of what it has sent.
    pub(super) fn hello(&self, node: &JoinedNode<B>) -> Result<OutgoingBatch<B::Address>> {
        let settings = self.broker.settings();
        let mut heartbeat = Heartbeat::new(true);
        heartbeat.buckets = (!settings.has_history).then(|| settings.buckets.count());
        let NodeKey { id, namespace } = &node.key;
        let hello = batch::encode(id, namespace, &Message::Heartbeat(heartbeat))?.finish(None, &[]);
        let mut batch = BatchBuilder::new(settings.sender, 0, hello.len());
        batch.push(&hello);
        Ok(OutgoingBatch { address: node.namespace.all.clone(), bytes: batch.finish(), is_mandatory: false })
    }

    /// With a request, probes every node that is expected to answer: of one whose queue is gone no answer is waited for.
    /// With a heartbeat, the own queue, which an administrator may have deleted or unbound.
    fn probe_peers(&self, from: &NodeKey, message: &Message) {
        let Some(node) = self.node(from).filter(|_| B::RETURNS_UNROUTABLE) else { return };
        if matches!(message, Message::Heartbeat(_)) {
            self.probe(&node, &from.id);
        } else if message.request().is_some() {
            node.peers_to_probe().iter().for_each(|peer| self.probe(&node, peer));
        }
    }

    /// Sends an empty batch to a node, which the broker returns if there is no queue for it.
    pub(super) fn probe(&self, node: &JoinedNode<B>, to: &NodeId) {
        let address = node.namespace.node(to);
        let probe = |_: Option<SeqNo>, _: &[SeqNo]| {
            Outgoing::Live(OutgoingMessage { address, message: Vec::new(), is_stored: false, weight: PROBE })
        };
        if B::RETURNS_UNROUTABLE {
            // With the outbox full this is the least that can be left out: silence tells the same, later.
            let _ = self.outbox.try_push_message(&node.key.id, None, PROBE, probe);
        }
    }

    fn route(&self, namespace: &NamespaceState<B>, message: &Message) -> (B::Address, SeqChannel) {
        if self.has_history() {
            return (namespace.log.clone(), SeqChannel::ALL);
        }
        match namespace.router.bucket_for(message) {
            Some(bucket) => (namespace.room(bucket), bucket.channel()),
            None => (namespace.all.clone(), SeqChannel::ALL),
        }
    }

    /// The size of a message that the broker takes.
    fn check_size(&self, message: &EncodedMessage) -> Result<usize> {
        let (bytes, max) = (message.len(), self.max_message_bytes());
        if bytes <= max {
            return Ok(bytes);
        }
        let context = format!("{bytes} bytes, {} leaves {max} for a message", B::SIZE_LIMITED_BY);
        Err(Error::new(ErrorKind::TooLarge, context))
    }
}
