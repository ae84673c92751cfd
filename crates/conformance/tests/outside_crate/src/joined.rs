//! A node that has joined: its topics on the hub, and the way from the hub to its inbox.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;
use trunkline_backend::decoder::InboundDecoder;
use trunkline_core::{
    Gap, GapCause, Namespace, NodeId, NodeKey, NodeMetrics,
    model::Delivery,
    transport::{InboxSender, JoinRequest},
};

use crate::wire::{Kind, Packet};

pub struct JoinedNode {
    pub node: NodeKey,
    /// Topic of the messages to all nodes of the namespace.
    pub namespace_topic: String,
    /// Topic of the answers to this node.
    pub node_topic: String,
    /// Whether messages arrive: the subscriptions of the current connection are confirmed.
    pub subscribed: watch::Sender<bool>,
    was_lost: AtomicBool,
    decoder: InboundDecoder,
    inbox: Arc<InboxSender>,
    metrics: Arc<NodeMetrics>,
}

pub fn namespace_topic(cluster: &str, namespace: &Namespace) -> String {
    format!("{cluster} all {}", namespace.as_str())
}

pub fn node_topic(cluster: &str, node: &NodeId) -> String {
    format!("{cluster} node {node}")
}

impl JoinedNode {
    pub fn new(cluster: &str, request: &JoinRequest, inbox: InboxSender) -> Self {
        let inbox = Arc::new(inbox);
        Self {
            node: request.node.clone(),
            namespace_topic: namespace_topic(cluster, &request.node.namespace),
            node_topic: node_topic(cluster, &request.node.id),
            subscribed: watch::Sender::new(false),
            was_lost: AtomicBool::new(false),
            decoder: InboundDecoder::with_pending_joins(&inbox, request),
            inbox,
            metrics: Arc::clone(&request.metrics),
        }
    }

    /// Receives a packet of the hub. Returns `false` once the node no longer reads its inbox.
    pub fn receive(&self, packet: &Packet) -> bool {
        if packet.topic != self.namespace_topic && packet.topic != self.node_topic {
            return true;
        }
        match packet.kind {
            Kind::Publish => self.inbox.push(self.decoder.decode(&packet.body)),
            // The hub confirms in order, and this topic comes second.
            Kind::Subscribe if packet.topic == self.namespace_topic => self.confirmed(),
            _ => true,
        }
    }

    fn confirmed(&self) -> bool {
        if self.subscribed.send_replace(true) {
            return true;
        }
        let gap = Gap { cause: GapCause::ConnectionLost, missed: None };
        let gap = self.was_lost.swap(false, Ordering::Relaxed).then_some(Delivery::Gap(gap));
        self.inbox.push([Delivery::Connected].into_iter().chain(gap))
    }

    /// Reports that the connection was lost.
    pub fn lost(&self, why: &str) {
        if self.subscribed.send_replace(false) {
            self.was_lost.store(true, Ordering::Relaxed);
            self.metrics.reconnects.increment();
            self.inbox.push([Delivery::Lost(why.to_owned())]);
        }
    }
}
