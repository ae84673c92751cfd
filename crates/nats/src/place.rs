//! A node's place: what callers and its reader share.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use trunkline_core::{
    Error, ErrorKind, Node, Result, Room,
    inbox::{Delivery, InboxSender},
    interest::{Bucket, FreshRooms, Interest},
};

use crate::subjects::Subjects;

/// A namespace, as far as nodes and emitters of this process use it.
#[derive(Debug)]
pub(crate) struct Hall {
    pub(crate) subjects: Subjects,
    fresh: Mutex<FreshRooms>,
}

impl Hall {
    pub(crate) fn new(subjects: Subjects, fresh: FreshRooms) -> Self {
        Self { subjects, fresh: Mutex::new(fresh) }
    }

    /// Somebody has asked the cluster to let sockets join these rooms.
    pub(crate) fn note_join(&self, rooms: &[Room]) {
        self.fresh().note(now(), rooms);
    }

    /// On which bucket's subject to publish for a room; `None` if everybody has to receive it.
    pub(crate) fn route(&self, room: &Room) -> Option<Bucket> {
        self.fresh().route(now(), room)
    }

    fn fresh(&self) -> MutexGuard<'_, FreshRooms> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
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
    interest: Mutex<Interest>,
    /// Rooms were left: there may be something to give up.
    pub(crate) left_rooms: Notify,
    commands: mpsc::Sender<Command>,
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

/// What callers ask of a reader.
#[derive(Debug)]
pub(crate) enum Command {
    /// Subscribe to a bucket and tell when it is active.
    Enter(Bucket, oneshot::Sender<()>),
    /// Tell when the latest connection is in use.
    Follow(oneshot::Sender<()>),
}

/// No number that is ever given.
const NOBODY_TOLD: u64 = u64::MAX;

/// Commands that may wait. Callers wait while there are more.
const COMMANDS: usize = 1024;

impl Place {
    pub(crate) fn new(
        node: Node,
        hall: Arc<Hall>,
        interest: Interest,
        inbox: Weak<InboxSender>,
    ) -> (Self, mpsc::Receiver<Command>) {
        let (commands, received) = mpsc::channel(COMMANDS);
        let place = Self {
            node,
            hall,
            interest: Mutex::new(interest),
            left_rooms: Notify::new(),
            commands,
            inbox,
            told: AtomicU64::new(NOBODY_TOLD),
            attached: CancellationToken::new(),
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

    /// Hands something over that did not come from the server.
    pub(crate) fn tell(&self, delivery: Delivery) {
        if let Some(inbox) = self.inbox.upgrade() {
            inbox.push([delivery]);
        }
    }

    pub(crate) fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
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
