//! What callers and readers share of a namespace and of a node.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_core::{
    Error, Message, Namespace, NodeId, NodeKey, NodeMetrics, Result, model::Delivery, transport::InboxSender,
};

use super::BatchBroker;
use crate::rooms::{Bucket, RoomRouter, RoomSubscriber};

/// The addresses of a namespace and the routes of its messages.
#[derive(Debug)]
pub struct NamespaceState<B: BatchBroker> {
    /// What every node receives.
    pub all: B::Address,
    /// What the history keeps.
    pub log: B::Address,
    prefix: String,
    rooms: Vec<B::Address>,
    pub(super) router: RoomRouter,
}

impl<B: BatchBroker> NamespaceState<B> {
    /// # Errors
    /// Those of [`BatchBroker::namespace_prefix`].
    pub fn new(broker: &B, namespace: &Namespace) -> Result<Self> {
        let (settings, prefix) = (broker.settings(), broker.namespace_prefix(namespace)?);
        let rooms = settings.buckets.iter().map(|bucket| format!("{prefix}.room.{}", bucket.number()).into());
        Ok(Self {
            all: format!("{prefix}.all").into(),
            log: format!("{prefix}.log").into(),
            rooms: rooms.collect(),
            router: RoomRouter::new(settings.buckets, settings.join_grace),
            prefix,
        })
    }

    /// What only nodes with a room in the bucket receive.
    #[must_use]
    pub fn room(&self, bucket: Bucket) -> B::Address {
        // A bucket out of range cannot be: it comes from the same number of buckets.
        self.rooms.get(usize::from(bucket.number())).unwrap_or(&self.all).clone()
    }

    /// What only one node receives.
    #[must_use]
    pub fn node(&self, node: &NodeId) -> B::Address {
        self.address(&format!("node.{}", B::token(node.as_str())))
    }

    /// An address of this namespace.
    #[must_use]
    pub fn address(&self, words: &str) -> B::Address {
        format!("{}.{words}", self.prefix).into()
    }
}

/// A node of this process.
#[derive(Debug)]
pub struct JoinedNode<B: BatchBroker> {
    /// Its id and namespace.
    pub key: NodeKey,
    /// Its namespace.
    pub namespace: Arc<NamespaceState<B>>,
    pub(super) metrics: Arc<NodeMetrics>,
    pub(super) rooms: RoomSubscriber,
    inbox: Weak<InboxSender>,
    peers: Mutex<Peers>,
    /// Why the broker refused to subscribe the node.
    pub(super) refusal: Mutex<Option<Error>>,
    /// With a history, the last number that was announced to peers.
    last_announced: AtomicU64,
    /// Cancelled when the node receives for the first time.
    pub(super) subscribed: CancellationToken,
    /// With a history, cancelled when what is stored from then on arrives.
    pub(super) reads_history: CancellationToken,
    /// Cancelled when the node is to leave.
    pub(super) leaving: CancellationToken,
    /// Cancelled when its readers have ended.
    pub(super) left: CancellationToken,
}

/// Peers that were heard.
#[derive(Debug, Default)]
struct Peers {
    known: HashSet<NodeId>,
    probed: Option<Instant>,
}

/// Not a number that is ever assigned.
const NEVER: u64 = u64::MAX;

/// Peers that are remembered, to be probed. More are left to their heartbeats.
const MAX_PEERS: usize = 256;

/// The shortest time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

impl<B: BatchBroker> JoinedNode<B> {
    pub(super) fn new(
        key: NodeKey,
        namespace: Arc<NamespaceState<B>>,
        metrics: Arc<NodeMetrics>,
        rooms: RoomSubscriber,
        inbox: Weak<InboxSender>,
    ) -> Self {
        Self {
            key,
            namespace,
            metrics,
            rooms,
            inbox,
            peers: Mutex::default(),
            refusal: Mutex::default(),
            last_announced: AtomicU64::new(NEVER),
            subscribed: CancellationToken::new(),
            reads_history: CancellationToken::new(),
            leaving: CancellationToken::new(),
            left: CancellationToken::new(),
        }
    }

    /// Notes what concerns not only the node but also how messages travel.
    pub(super) fn note(&self, delivery: &Delivery) {
        let Delivery::Message { from, message, .. } = delivery else { return };
        match message {
            Message::Heartbeat(heartbeat) => {
                from.iter().for_each(|peer| self.peers().insert(peer));
                if heartbeat.initial {
                    // A new peer knows no numbers.
                    self.last_announced.store(NEVER, Ordering::Relaxed);
                }
            }
            Message::Leaving => from.iter().for_each(|peer| self.peers().remove(peer)),
            message => self.namespace.router.note_join(message),
        }
    }

    /// Whether this number was not announced to peers yet. From now on it was.
    pub(super) fn is_news(&self, number: u64) -> bool {
        self.last_announced.swap(number, Ordering::Relaxed) != number
    }

    /// Puts into the inbox what did not come from the broker.
    pub fn push(&self, delivery: Delivery) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.push([delivery]);
        }
    }

    /// The peers to probe; none if that was done a moment ago.
    pub(super) fn peers_to_probe(&self) -> Vec<NodeId> {
        let (now, mut peers) = (Instant::now(), self.peers());
        if peers.probed.is_some_and(|probed| now < probed + PROBE_INTERVAL) {
            return Vec::new();
        }
        peers.probed = Some(now);
        peers.known.iter().cloned().collect()
    }

    /// A peer that was heard has no queue any more.
    pub(super) fn peer_queue_gone(&self, address: &B::Address) {
        let mut peers = self.peers();
        let Some(peer) = peers.known.iter().find(|peer| self.namespace.node(peer) == *address).cloned() else { return };
        peers.known.remove(&peer);
        drop(peers);
        tracing::debug!(node = %self.key.id, %peer, "a node has no queue any more");
        self.push(Delivery::Message { from: Some(peer), seq_no: None, offset: None, message: Message::Leaving });
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        // Valid after each step.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    fn insert(&mut self, peer: &NodeId) {
        if self.known.len() < MAX_PEERS && !self.known.contains(peer) {
            self.known.insert(peer.clone());
        }
    }

    fn remove(&mut self, peer: &NodeId) {
        self.known.remove(peer);
    }
}
