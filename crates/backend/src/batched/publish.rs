//! From a typed message to the outbox: encoded in the caller's task, numbered when it gets its place.

use std::sync::Arc;

use trunkline_core::{
    Error, ErrorKind, Heartbeat, Message, NodeId, NodeKey, Response, Result, codec::EncodedMessage, model::SeqChannel,
    transport::Sequencer,
};

use super::{
    BatchBroker, OutgoingMessage,
    node::{JoinedNode, NamespaceState},
    state::TransportState,
};
use crate::batch;

/// What waits in the outbox.
#[derive(Debug)]
pub enum Outgoing<B: BatchBroker> {
    /// For the nodes that are connected now.
    Live(OutgoingMessage<B>),
    /// For the history.
    Stored(OutgoingMessage<B>),
    /// A heartbeat, with a history: a sign of life that nothing may hold up, and, behind everything that it counts, the numbers.
    LiveAndStored(OutgoingMessage<B>, OutgoingMessage<B>),
}

/// What a probe counts in the outbox.
const PROBE: usize = 64;

impl<B: BatchBroker> TransportState<B> {
    /// Queues a message of a node or of an emitter.
    pub(super) async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        let namespace = self.namespace_of(from)?;
        if let Message::Heartbeat(heartbeat) = &message
            && self.has_history()
            && let Some(node) = self.node(from)
        {
            return self.publish_heartbeat(&node, heartbeat).await;
        }
        let encoded = batch::encode(&from.id, &from.namespace, &message)?;
        let weight = self.check_size(&encoded)?;
        let (address, channel) = self.route(&namespace, &message);
        let is_numbered = message.is_numbered() && !from.id.is_emitter();
        let make = |sequencer: &mut Sequencer| {
            let message = match is_numbered {
                true => encoded.finish(Some(sequencer.next(&from.id, channel)), &[]),
                false => encoded.finish(None, sequencer.high_water_marks(&from.id)),
            };
            let outgoing = OutgoingMessage { address, message, weight };
            if self.has_history() { Outgoing::Stored(outgoing) } else { Outgoing::Live(outgoing) }
        };
        self.outbox.push(weight, make).await?;
        if B::RETURNS_UNROUTABLE && message.request().is_some() {
            self.probe_peers(from).await;
        }
        Ok(())
    }

    /// Queues an answer.
    pub(super) async fn send(&self, from: &NodeKey, to: &NodeId, response: Response) -> Result<()> {
        let address = self.namespace_of(from)?.node(to);
        let encoded = batch::encode(&from.id, &from.namespace, &response)?;
        let weight = self.check_size(&encoded)?;
        let make =
            |_: &mut Sequencer| Outgoing::Live(OutgoingMessage { address, message: encoded.finish(None, &[]), weight });
        self.outbox.push(weight, make).await
    }

    /// With a history, what a heartbeat counts may still be on its way through the log: the numbers go the same way, when they have changed
    /// or a new peer does not know them. The sign of life does not wait for that.
    async fn publish_heartbeat(&self, node: &Arc<JoinedNode<B>>, heartbeat: &Heartbeat) -> Result<()> {
        let NodeKey { id, namespace } = &node.key;
        let encode = |heartbeat: Heartbeat| batch::encode(id, namespace, &Message::Heartbeat(heartbeat));
        let live = encode(heartbeat.clone())?;
        let stored = encode(Heartbeat { initial: false, ..heartbeat.clone() })?;
        let (weight, stored_weight) = (live.len() + stored.len(), stored.len());
        let make = |sequencer: &mut Sequencer| {
            let marks = sequencer.high_water_marks(id);
            let is_news = node.is_news(marks.first().map_or(0, |mark| mark.number));
            let (all, log) = (node.namespace.all.clone(), node.namespace.log.clone());
            let live = |weight| OutgoingMessage { address: all, message: live.finish(None, &[]), weight };
            if !is_news {
                return Outgoing::Live(live(weight));
            }
            let stored = OutgoingMessage { address: log, message: stored.finish(None, marks), weight: stored_weight };
            Outgoing::LiveAndStored(live(weight - stored_weight), stored)
        };
        self.outbox.push(weight, make).await
    }

    /// Sends an empty batch to every node that is expected to answer. The broker returns it if the node's queue is gone, and then no answer
    /// is waited for.
    async fn probe_peers(&self, from: &NodeKey) {
        let Some(node) = self.node(from) else { return };
        for peer in node.peers_to_probe() {
            let address = node.namespace.node(&peer);
            let probe =
                |_: &mut Sequencer| Outgoing::Live(OutgoingMessage { address, message: Vec::new(), weight: PROBE });
            // With the outbox full this is the least that can be left out: silence tells the same, later.
            if self.outbox.push(PROBE, probe).await.is_err() {
                return;
            }
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
