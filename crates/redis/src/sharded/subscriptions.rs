//! Between the callers that create and delete rooms, and the task of a node that subscribes to their keys.

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use trunkline_core::{Error, ErrorKind, NodeKey, Result, Room};

use super::interest::{Interest, RoomKeys};

/// Makes the two ends, without rooms yet.
pub(crate) fn subscriptions<R: RoomKeys>(
    node: NodeKey,
    interest: Interest<R>,
) -> (RoomSubscriber<R>, SubscriptionQueue<R>) {
    let shared = Arc::new(Shared { interest: Mutex::new(interest), left: Notify::new() });
    let (commands, received) = mpsc::channel(COMMANDS);
    let subscriber = RoomSubscriber { node, shared: Arc::clone(&shared), commands };
    (subscriber, SubscriptionQueue { shared, commands: received, waiting: HashMap::new() })
}

/// Commands that may wait. Callers wait while there are more.
const COMMANDS: usize = 1024;

type Done = oneshot::Sender<Result<()>>;

#[derive(Debug)]
struct Shared<R: RoomKeys> {
    interest: Mutex<Interest<R>>,
    /// A room was deleted: there may be something to give up.
    left: Notify,
}

impl<R: RoomKeys> Shared<R> {
    fn interest(&self) -> MutexGuard<'_, Interest<R>> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rooms of a node, for the callers that create and delete them.
#[derive(Debug)]
pub(crate) struct RoomSubscriber<R: RoomKeys> {
    node: NodeKey,
    shared: Arc<Shared<R>>,
    commands: mpsc::Sender<(R::Key, Done)>,
}

impl<R: RoomKeys> RoomSubscriber<R> {
    /// The first local socket has joined the room. Returns when messages for it arrive.
    ///
    /// # Errors
    /// `Closed` once the node has left; what the task says.
    pub(crate) async fn enter(&self, room: &Room) -> Result<()> {
        let Some(key) = self.shared.interest().enter(room) else { return Ok(()) };
        let (done, is_done) = oneshot::channel();
        self.commands.send((key, done)).await.map_err(|_| self.gone())?;
        is_done.await.map_err(|_| self.gone())?
    }

    /// The last local socket has left the room.
    pub(crate) fn leave(&self, room: &Room) {
        self.shared.interest().leave(now(), room);
        self.shared.left.notify_one();
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("node {} of namespace {} has left", self.node.id, self.node.namespace))
    }
}

/// What callers ask of the task of a node. Dropped, it lets no caller wait.
#[derive(Debug)]
pub(crate) struct SubscriptionQueue<R: RoomKeys> {
    shared: Arc<Shared<R>>,
    commands: mpsc::Receiver<(R::Key, Done)>,
    waiting: HashMap<R::Key, Vec<Done>>,
}

/// What a task is asked to do.
#[derive(Debug)]
pub(crate) enum Request<K> {
    /// Subscribe to a key, then call [`SubscriptionQueue::subscribed`].
    Subscribe(K),
    /// Give up these keys.
    Unsubscribe(Vec<K>),
}

impl<R: RoomKeys> SubscriptionQueue<R> {
    /// Waits for the next request; `None` when no caller is left. *Cancel safe.*
    pub(crate) async fn next(&mut self) -> Option<Request<R::Key>> {
        loop {
            let deadline = self.shared.interest().deadline();
            tokio::select! {
                biased;
                command = self.commands.recv() => {
                    let (key, done) = command?;
                    if self.has_to_subscribe(&key, done) {
                        return Some(Request::Subscribe(key));
                    }
                }
                () = self.shared.left.notified() => {}
                () = due(deadline) => return Some(Request::Unsubscribe(self.shared.interest().take_expired(now()))),
            }
        }
    }

    /// Whether no other caller waits for this key.
    fn has_to_subscribe(&mut self, key: &R::Key, done: Done) -> bool {
        if self.shared.interest().is_active(key) {
            tell(done, Ok(()));
            return false;
        }
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.push(done);
        waiting.len() == 1
    }

    /// Messages of the key arrive from now on: the callers that wait for it may go on. Or they do not, and the callers learn why.
    pub(crate) fn subscribed(&mut self, key: &R::Key, result: &Result<()>) {
        if result.is_ok() {
            self.shared.interest().activate(key);
        }
        for done in self.waiting.remove(key).unwrap_or_default() {
            tell(done, result.clone());
        }
    }
}

/// Fails only if the caller has given up.
fn tell(done: Done, result: Result<()>) {
    let _ = done.send(result);
}

/// Tokio's clock, which tests may stop.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

async fn due(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}
