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
use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use trunkline_core::{
    Counters, Error, ErrorKind, Node, NodeId, Result, Room,
    inbox::{Delivery, InboxSender},
    interest::{Bucket, FreshRooms, Interest},
};

use crate::names::Keys;

/// A namespace, as far as nodes and emitters of this process use it.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) keys: Keys,
    fresh: Mutex<FreshRooms>,
}

impl Hall {
    pub(crate) fn new(keys: Keys, fresh: FreshRooms) -> Self {
        Self { keys, fresh: Mutex::new(fresh) }
    }

    /// Somebody has asked the cluster to let sockets join these rooms.
    pub(crate) fn note_join(&self, rooms: &[Room]) {
        lock(&self.fresh).note(now(), rooms);
    }

    /// With which bucket's key to publish for a room; `None` if everybody has to receive it.
    pub(crate) fn route(&self, room: &Room) -> Option<Bucket> {
        lock(&self.fresh).route(now(), room)
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// The place of a node.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) node: Node,
    pub(crate) hall: Arc<Hall>,
    pub(crate) counters: Arc<Counters>,
    interest: Mutex<Interest>,
    /// Rooms were left: there may be something to give up.
    pub(crate) left_rooms: Notify,
    commands: mpsc::Sender<Command>,
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

/// What callers ask of a reader.
#[derive(Debug)]
pub(crate) enum Command {
    /// Bind a bucket and tell when it is active.
    Enter(Bucket, oneshot::Sender<()>),
    /// Tell when the latest connection is in use.
    Follow(oneshot::Sender<()>),
}

/// No number that is ever given.
const NOBODY_TOLD: u64 = u64::MAX;

/// Commands that may wait. Callers wait while there are more.
const COMMANDS: usize = 1024;

/// Peers that are remembered, to see whether they are still there. More are left to their heartbeats.
const MAX_PEERS: usize = 256;

/// How often peers are looked for at most.
const LOOK_EVERY: Duration = Duration::from_millis(100);

impl Place {
    pub(crate) fn new(
        node: Node,
        hall: Arc<Hall>,
        counters: Arc<Counters>,
        interest: Interest,
        inbox: Weak<InboxSender>,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let place = Self {
            node,
            hall,
            counters,
            interest: Mutex::new(interest),
            left_rooms: Notify::new(),
            commands,
            inbox,
            peers: Mutex::default(),
            refusal: Mutex::default(),
            attached: CancellationToken::new(),
            told: AtomicU64::new(NOBODY_TOLD),
            following: CancellationToken::new(),
            leaving: CancellationToken::new(),
            left: CancellationToken::new(),
        };
        (place, received)
    }

    /// Somebody new is there, who knows no numbers.
    pub(crate) fn note_newcomer(&self) {
        self.told.store(NOBODY_TOLD, Ordering::Relaxed);
    }

    /// Hands something over that did not come from the queue.
    pub(crate) fn tell(&self, delivery: Delivery) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.push([delivery]);
        }
    }

    pub(crate) fn interest(&self) -> MutexGuard<'_, Interest> {
        lock(&self.interest)
    }

    // --- peers ---

    pub(crate) fn note_peer(&self, peer: &NodeId) {
        let mut peers = lock(&self.peers);
        if peers.known.len() < MAX_PEERS && !peers.known.contains(peer) {
            peers.known.insert(peer.clone());
        }
    }

    pub(crate) fn forget_peer(&self, peer: &NodeId) {
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

    /// Returns when messages for the room arrive.
    pub(crate) async fn enter(&self, room: &Room) -> Result<()> {
        let bucket = self.interest().enter(room);
        match bucket {
            Some(bucket) => self.ask(|entered| Command::Enter(bucket, entered)).await,
            None => Ok(()),
        }
    }

    pub(crate) fn leave_room(&self, room: &Room) {
        self.interest().leave(now(), room);
        self.left_rooms.notify_one();
    }

    /// The buckets to give up now.
    pub(crate) fn expired(&self) -> Vec<Bucket> {
        self.interest().take_expired(now())
    }

    /// Returns when the reader uses the latest connection.
    pub(crate) async fn follow(&self) -> Result<()> {
        self.ask(Command::Follow).await
    }

    async fn ask(&self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.commands.send(command(done)).await.map_err(|_| self.gone())?;
        is_done.await.map_err(|_| self.gone())
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("node {} of namespace {} has left", self.node.id, self.node.namespace))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The content is valid after each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
