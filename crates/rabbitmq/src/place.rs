//! A node's place: what callers and its reader share.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lapin::types::ShortString;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_backend::rooms::{RoomRouter, RoomSubscriber};
use trunkline_core::{Error, Message, NodeId, NodeKey, NodeMetrics, model::Delivery, transport::InboxSender};

use crate::names::Keys;

/// A namespace, as far as nodes and emitters of this process use it.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) keys: Keys,
    pub(crate) router: RoomRouter,
}

/// The place of a node.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) node: NodeKey,
    pub(crate) hall: Arc<Hall>,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) rooms: RoomSubscriber,
    inbox: Weak<InboxSender>,
    peers: Mutex<Peers>,
    /// Why the broker does not let the node listen.
    refusal: Mutex<Option<Error>>,
    /// Messages arrive, for the first time.
    pub(crate) attached: CancellationToken,
    /// Where there is a history: the last number that peers were told of.
    pub(crate) told: AtomicU64,
    /// Where there is a history: what is stored from now on arrives.
    pub(crate) following: CancellationToken,
    /// The node wants to leave.
    pub(crate) leaving: CancellationToken,
    /// Its reader has ended.
    pub(crate) left: CancellationToken,
}

/// The nodes that were heard.
#[derive(Debug, Default)]
struct Peers {
    known: HashSet<NodeId>,
    asked: Option<Instant>,
}

/// No number that is ever given.
const NOBODY_TOLD: u64 = u64::MAX;

/// Peers that are remembered, to see whether they are still there. More are left to their heartbeats.
const MAX_PEERS: usize = 256;

/// How often peers are looked for at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Place {
    pub(crate) fn new(
        node: NodeKey,
        hall: Arc<Hall>,
        metrics: Arc<NodeMetrics>,
        rooms: RoomSubscriber,
        inbox: Weak<InboxSender>,
    ) -> Self {
        Self {
            node,
            hall,
            metrics,
            rooms,
            inbox,
            peers: Mutex::default(),
            refusal: Mutex::default(),
            attached: CancellationToken::new(),
            told: AtomicU64::new(NOBODY_TOLD),
            following: CancellationToken::new(),
            leaving: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }

    /// What concerns not only the node but also how its messages travel.
    pub(crate) fn note(&self, delivery: &Delivery) {
        let Delivery::Message { from, message, .. } = delivery else { return };
        match message {
            Message::Heartbeat(heartbeat) => {
                from.iter().for_each(|peer| self.note_peer(peer));
                if heartbeat.initial {
                    // Somebody new is there, who knows no numbers.
                    self.told.store(NOBODY_TOLD, Ordering::Relaxed);
                }
            }
            Message::Leaving => from.iter().for_each(|peer| self.forget_peer(peer)),
            message => self.hall.router.note_join(message),
        }
    }

    /// Hands something over that did not come from the queue.
    pub(crate) fn tell(&self, delivery: Delivery) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.push([delivery]);
        }
    }

    // --- peers ---

    fn note_peer(&self, peer: &NodeId) {
        let mut peers = lock(&self.peers);
        if peers.known.len() < MAX_PEERS && !peers.known.contains(peer) {
            peers.known.insert(peer.clone());
        }
    }

    fn forget_peer(&self, peer: &NodeId) {
        lock(&self.peers).known.remove(peer);
    }

    /// Forgets the peer whose key this is.
    pub(crate) fn take_peer(&self, key: &ShortString) -> Option<NodeId> {
        let mut peers = lock(&self.peers);
        let peer = peers.known.iter().find(|peer| self.hall.keys.node(peer) == *key).cloned()?;
        peers.known.remove(&peer);
        Some(peer)
    }

    /// The peers to look for, now that something is asked of them; none if that was done a moment ago.
    pub(crate) fn peers_to_look_for(&self) -> Vec<NodeId> {
        let (now, mut peers) = (Instant::now(), lock(&self.peers));
        if peers.asked.is_some_and(|asked| now < asked + LOOK_EVERY) {
            return Vec::new();
        }
        peers.asked = Some(now);
        peers.known.iter().cloned().collect()
    }

    // --- the reader ---

    pub(crate) fn refused(&self, error: Error) {
        *lock(&self.refusal) = Some(error);
    }

    pub(crate) fn refusal(&self) -> Option<Error> {
        lock(&self.refusal).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The content is valid after each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
