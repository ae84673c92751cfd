//! A seat that a node has taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;
use trunkline_backend::decoder::InboundDecoder;
use trunkline_core::{Gap, GapCause, Namespace, NodeId, NodeKey, NodeMetrics, model::Delivery, transport::{InboxSender, JoinRequest}};

use crate::wire::{Kind, Packet};

pub struct Place {
    pub node: NodeKey,
    /// What is said to all nodes of the namespace.
    pub all: String,
    /// What is answered to this node.
    pub own: String,
    /// Whether messages have begun to arrive. They may stop and begin again.
    pub arrived: watch::Sender<bool>,
    was_lost: AtomicBool,
    decoder: InboundDecoder,
    inbox: Arc<InboxSender>,
    metrics: Arc<NodeMetrics>,
}

pub fn topic_of_all(cluster: &str, namespace: &Namespace) -> String {
    format!("{cluster} all {}", namespace.as_str())
}

pub fn topic_of_node(cluster: &str, node: &NodeId) -> String {
    format!("{cluster} node {node}")
}

impl Place {
    pub fn new(cluster: &str, seat: &JoinRequest, inbox: InboxSender) -> Self {
        let inbox = Arc::new(inbox);
        Self {
            node: seat.node.clone(),
            all: topic_of_all(cluster, &seat.node.namespace),
            own: topic_of_node(cluster, &seat.node.id),
            arrived: watch::Sender::new(false),
            was_lost: AtomicBool::new(false),
            decoder: InboundDecoder::with_pending_joins(&inbox, seat),
            inbox,
            metrics: Arc::clone(&seat.metrics),
        }
    }

    /// Takes a packet of the hub in. Returns `false` once nobody reads the inbox any more.
    pub fn take(&self, packet: &Packet) -> bool {
        if packet.topic != self.all && packet.topic != self.own {
            return true;
        }
        match packet.kind {
            Kind::Publish => self.inbox.push(self.decoder.decode(&packet.body)),
            // The hub answers in order, and this topic comes second.
            Kind::Subscribe if packet.topic == self.all => self.begin(),
            _ => true,
        }
    }

    fn begin(&self) -> bool {
        if self.arrived.send_replace(true) {
            return true;
        }
        let gap = Gap { cause: GapCause::ConnectionLost, missed: None };
        let gap = self.was_lost.swap(false, Ordering::Relaxed).then_some(Delivery::Gap(gap));
        self.inbox.push([Delivery::Connected].into_iter().chain(gap))
    }

    /// The connection was lost.
    pub fn lost(&self, why: &str) {
        if self.arrived.send_replace(false) {
            self.was_lost.store(true, Ordering::Relaxed);
            self.metrics.reconnects.increment();
            self.inbox.push([Delivery::Lost(why.to_owned())]);
        }
    }
}
