//! What callers and readers share of a namespace and of a node.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trunkline_core::{
    Error, Message, Namespace, NodeId, NodeKey, NodeMetrics, Result, model::Delivery, transport::InboxSender,
};

use super::BatchBroker;
use crate::{
    KnownPeers,
    rooms::{Bucket, RoomRouter, RoomSubscriber},
};

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
    pub(super) peers: KnownPeers,
    probes: Mutex<Probes>,
    /// Whether peers are to be told that it is back.
    owes_hello: AtomicBool,
    /// Whether it knows that the broker is away.
    knows_loss: AtomicBool,
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

/// What is asked of the broker about the queues of peers.
#[derive(Debug, Default)]
struct Probes {
    last: Option<Instant>,
    /// Peers without a queue, and since when.
    gone: HashMap<NodeId, Instant>,
}

/// Not a number that is ever assigned.
const NEVER: u64 = u64::MAX;

/// The shortest time between two probes.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// How long a queue has to be gone: a node that was cut off for a moment has another one by then.
pub(super) const GONE_FOR: Duration = Duration::from_millis(500);

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
            peers: KnownPeers::default(),
            probes: Mutex::default(),
            owes_hello: AtomicBool::new(false),
            knows_loss: AtomicBool::new(true),
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
        // What the node has sent itself comes back from a history.
        let is_own = match delivery {
            Delivery::Skipped { from, .. } | Delivery::Message { from: Some(from), .. } => *from == self.key.id,
            _ => false,
        };
        if is_own {
            return;
        }
        self.peers.note(delivery);
        let Delivery::Message { from, message, .. } = delivery else { return };
        match message {
            Message::Heartbeat(heartbeat) => {
                from.iter().for_each(|peer| _ = self.probes().gone.remove(peer));
                if heartbeat.initial {
                    // A new peer knows no numbers.
                    self.last_announced.store(NEVER, Ordering::Relaxed);
                }
            }
            Message::Leaving => {}
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

    /// Tells the node that the broker is away, unless it knows.
    pub(super) fn tell_lost(&self, reason: &str) {
        if !self.knows_loss.swap(true, Ordering::Relaxed) {
            self.push(Delivery::Lost(reason.to_owned()));
        }
    }

    /// Tells the node that the broker is there again, if it knows of the loss.
    pub(super) fn tell_connected(&self) {
        if self.knows_loss.swap(false, Ordering::Relaxed) {
            self.push(Delivery::Connected);
        }
    }

    /// Notes that the node is not subscribed any more.
    pub(super) fn lost(&self, reason: &str) {
        self.peers.lost();
        self.owes_hello.store(true, Ordering::Relaxed);
        self.tell_lost(reason);
    }

    /// Whether the node has been away, and peers were not told yet that it is back. From now on they are.
    pub(super) fn takes_hello(&self) -> bool {
        self.owes_hello.swap(false, Ordering::Relaxed)
    }

    /// Whether it is subscribed and will be.
    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed.is_cancelled() && !self.leaving.is_cancelled()
    }

    /// The peers to probe; none if that was done a moment ago.
    pub(super) fn peers_to_probe(&self) -> Vec<NodeId> {
        let (now, mut probes) = (Instant::now(), self.probes());
        if probes.last.is_some_and(|last| now < last + PROBE_INTERVAL) {
            return Vec::new();
        }
        probes.last = Some(now);
        drop(probes);
        self.peers.names()
    }

    /// Handles the return of a probe. A queue that stays away tells that its node is silent, as far as it was heard over
    /// this connection. Returns the peer if that is to be seen yet.
    pub(super) fn peer_queue_gone(&self, address: &B::Address) -> Option<NodeId> {
        let peer = self.peers.names().into_iter().find(|peer| self.namespace.node(peer) == *address)?;
        // All lose the same broker, and come back one after the other.
        if self.peers.is_awaited(&peer) {
            return None;
        }
        let (now, mut probes) = (Instant::now(), self.probes());
        match probes.gone.get(&peer) {
            Some(since) if now < *since + GONE_FOR => return None,
            Some(_) => {}
            None => {
                probes.gone.insert(peer.clone(), now);
                return Some(peer);
            }
        }
        drop(probes);
        tracing::debug!(node = %self.key.id, %peer, "a node has no queue any more");
        self.push(Delivery::Absent(peer));
        None
    }

    fn probes(&self) -> MutexGuard<'_, Probes> {
        // Valid after each step.
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
