//! A node's place: what callers and its readers share.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering},
};

use tokio_util::sync::CancellationToken;
use trunkline_backend::rooms::{RoomRouter, RoomSubscriber};
use trunkline_core::{Message, NodeKey, model::Delivery, transport::InboxSender};

use crate::subjects::Subjects;

/// A namespace, as far as nodes and emitters of this process use it.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) subjects: Subjects,
    pub(crate) router: RoomRouter,
}

/// The place of a node.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeKey,
    pub(crate) hall: Arc<Hall>,
    pub(crate) rooms: RoomSubscriber,
    inbox: Weak<InboxSender>,
    /// Where there is a history: the last number that peers were told of.
    pub(crate) told: AtomicU64,
    /// Messages arrive, for the first time.
    pub(crate) attached: CancellationToken,
    /// Where there is a history: what is stored from now on arrives.
    pub(crate) following: CancellationToken,
    /// The node wants to leave.
    pub(crate) leaving: CancellationToken,
    /// Its readers have ended.
    pub(crate) left: CancellationToken,
}

/// No number that is ever given.
const NOBODY_TOLD: u64 = u64::MAX;

impl Place {
    pub(crate) fn new(node: NodeKey, hall: Arc<Hall>, rooms: RoomSubscriber, inbox: Weak<InboxSender>) -> Self {
        Self {
            node,
            hall,
            rooms,
            inbox,
            told: AtomicU64::new(NOBODY_TOLD),
            attached: CancellationToken::new(),
            following: CancellationToken::new(),
            leaving: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }

    /// What concerns not only the node but also how its messages travel.
    pub(crate) fn note(&self, delivery: &Delivery) {
        match delivery {
            // Somebody new is there, who knows no numbers.
            Delivery::Message { message: Message::Heartbeat(heartbeat), .. } if heartbeat.initial => {
                self.told.store(NOBODY_TOLD, Ordering::Relaxed);
            }
            Delivery::Message { message, .. } => self.hall.router.note_join(message),
            _ => {}
        }
    }

    /// Hands something over that did not come from the server.
    pub(crate) fn tell(&self, delivery: Delivery) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.push([delivery]);
        }
    }
}
