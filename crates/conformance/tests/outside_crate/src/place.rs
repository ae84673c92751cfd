//! A seat that a node has taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio::sync::watch;
use trunkline_core::{
    Counters, Gap, GapCause, Namespace, Node, NodeId,
    inbox::{Delivery, InboxSender},
    intake::Intake,
    transport::Seat,
};

use crate::wire::{Kind, Packet};

pub struct Place {
    pub node: Node,
    /// What is said to all nodes of the namespace.
    pub all: String,
    /// What is answered to this node.
    pub own: String,
    /// Whether messages have begun to arrive. They may stop and begin again.
    pub arrived: watch::Sender<bool>,
    was_lost: AtomicBool,
    intake: Intake,
    inbox: Arc<InboxSender>,
    counters: Arc<Counters>,
}

pub fn topic_of_all(cluster: &str, namespace: &Namespace) -> String {
    format!("{cluster} all {}", namespace.as_str())
}

pub fn topic_of_node(cluster: &str, node: &NodeId) -> String {
    format!("{cluster} node {node}")
}

impl Place {
    pub fn new(cluster: &str, seat: &Seat, inbox: InboxSender) -> Self {
        let inbox = Arc::new(inbox);
        Self {
            node: seat.node.clone(),
            all: topic_of_all(cluster, &seat.node.namespace),
            own: topic_of_node(cluster, &seat.node.id),
            arrived: watch::Sender::new(false),
            was_lost: AtomicBool::new(false),
            intake: Intake::in_front_of(&inbox, seat),
            inbox,
            counters: Arc::clone(&seat.counters),
        }
    }

    /// Takes a packet of the hub in. Returns `false` once nobody reads the inbox any more.
    pub fn take(&self, packet: &Packet) -> bool {
        if packet.topic != self.all && packet.topic != self.own {
            return true;
        }
        match packet.kind {
            Kind::Publish => self.inbox.push(self.intake.take(&packet.body)),
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
            self.counters.reconnects.increment();
            self.inbox.push([Delivery::Lost(why.to_owned())]);
        }
    }
}
