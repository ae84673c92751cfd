//! Between the callers that create and delete rooms, and the task of a node that subscribes to their [keys](RoomKeys).

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::rooms::{Bucket, Buckets, Interest, RoomKeys};
use trunkline_core::{
    error::{Error, ErrorKind, Result},
    model::{NodeKey, Room},
};

/// Makes the two ends, without rooms yet.
#[must_use]
pub fn subscriptions<R: RoomKeys>(node: NodeKey, interest: Interest<R>) -> (RoomSubscriber<R>, SubscriptionQueue<R>) {
    let shared = Arc::new(Shared { interest: Mutex::new(interest), left: Notify::new() });
    let (commands, received) = mpsc::channel(COMMANDS);
    let rooms = RoomSubscriber { node, shared: Arc::clone(&shared), commands };
    (rooms, SubscriptionQueue { shared, commands: received, waiting: HashMap::new() })
}

/// Commands that may wait. Callers wait while there are more.
const COMMANDS: usize = 1024;

/// Answers one caller.
type Done = oneshot::Sender<Result<()>>;

#[derive(Debug)]
struct Shared<R: RoomKeys> {
    interest: Mutex<Interest<R>>,
    /// Rooms were left: there may be something to give up.
    left: Notify,
}

impl<R: RoomKeys> Shared<R> {
    fn interest(&self) -> MutexGuard<'_, Interest<R>> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Command<K> {
    Enter(K, Done),
    Rebind(oneshot::Sender<()>),
}

/// The rooms of a node, for the callers that create and delete them.
#[derive(Debug)]
pub struct RoomSubscriber<R: RoomKeys = Buckets> {
    node: NodeKey,
    shared: Arc<Shared<R>>,
    commands: mpsc::Sender<Command<R::Key>>,
}

impl<R: RoomKeys> RoomSubscriber<R> {
    /// The first local socket enters the room. Returns when messages for it arrive; while there is no connection, at
    /// once.
    ///
    /// # Errors
    /// `Closed` once the task has ended; the reason with which it has [rejected](SubscriptionQueue::rejected) the key.
    pub async fn enter(&self, room: &Room) -> Result<()> {
        let Some(key) = self.shared.interest().enter(room) else { return Ok(()) };
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::Enter(key, done)).await.map_err(|_| self.gone())?;
        is_done.await.map_err(|_| self.gone())?
    }

    /// The last local socket has left the room.
    pub fn leave(&self, room: &Room) {
        self.shared.interest().leave(now(), room);
        self.shared.left.notify_one();
    }

    /// Whether the room has been entered, and messages for it arrive.
    #[must_use]
    pub fn is_entered(&self, room: &Room) -> bool {
        self.shared.interest().is_entered(room)
    }

    /// Number of keys that the broker delivers to the node.
    #[must_use]
    pub fn subscriptions(&self) -> usize {
        self.shared.interest().subscriptions()
    }

    /// Returns when the reader uses the latest connection.
    ///
    /// # Errors
    /// `Closed` once the reader has ended.
    pub async fn follow(&self) -> Result<()> {
        let (done, is_done) = oneshot::channel();
        self.commands.send(Command::Rebind(done)).await.map_err(|_| self.gone())?;
        is_done.await.map_err(|_| self.gone())
    }

    fn gone(&self) -> Error {
        Error::new(ErrorKind::Closed, format!("node {} of namespace {} has left", self.node.id, self.node.namespace))
    }
}

/// What callers ask of the task of a node. Dropped, it lets no caller wait.
#[derive(Debug)]
pub struct SubscriptionQueue<R: RoomKeys = Buckets> {
    shared: Arc<Shared<R>>,
    commands: mpsc::Receiver<Command<R::Key>>,
    waiting: HashMap<R::Key, Vec<Done>>,
}

/// What the task is asked to do.
#[derive(Debug)]
pub enum SubscriptionRequest<K = Bucket> {
    /// Subscribe to a key, then call [`SubscriptionQueue::subscribed`]; without a connection,
    /// [`SubscriptionQueue::defer`].
    Subscribe(K),
    /// Give up these keys.
    Unsubscribe(Vec<K>),
    /// Turn to the latest connection, if there is a new one, and answer.
    Rebind(oneshot::Sender<()>),
}

impl<R: RoomKeys> SubscriptionQueue<R> {
    /// Waits for the next request; `None` when no caller is left. *Cancel safe.*
    pub async fn next(&mut self) -> Option<SubscriptionRequest<R::Key>> {
        loop {
            let deadline = self.shared.interest().deadline();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command? {
                    Command::Enter(key, done) => if self.has_to_subscribe(&key, done) {
                        return Some(SubscriptionRequest::Subscribe(key));
                    },
                    Command::Rebind(followed) => return Some(SubscriptionRequest::Rebind(followed)),
                },
                () = self.shared.left.notified() => {}
                () = due(deadline) => {
                    let expired = self.shared.interest().take_expired(now());
                    if !expired.is_empty() {
                        return Some(SubscriptionRequest::Unsubscribe(expired));
                    }
                }
            }
        }
    }

    /// Whether no other caller waits for this key.
    fn has_to_subscribe(&mut self, key: &R::Key, done: Done) -> bool {
        if self.shared.interest().is_active(key) {
            answer(done, Ok(()));
            return false;
        }
        let waiting = self.waiting.entry(key.clone()).or_default();
        waiting.push(done);
        waiting.len() == 1
    }

    /// Keys with which a new connection has to begin.
    #[must_use]
    pub fn wanted(&self) -> Vec<R::Key> {
        self.shared.interest().wanted().collect()
    }

    /// Whether messages of the key arrive.
    #[must_use]
    pub fn is_active(&self, key: &R::Key) -> bool {
        self.shared.interest().is_active(key)
    }

    /// Messages of the key arrive from now on: callers that wait for it may go on.
    pub fn subscribed(&mut self, key: &R::Key) {
        self.shared.interest().set_active(key, true);
        self.defer(key);
    }

    /// There is no connection, and the next one begins with the key: callers that wait for it may go on.
    pub fn defer(&mut self, key: &R::Key) {
        self.answer(key, &Ok(()));
    }

    /// The broker refuses the subscription: callers that wait for it learn why. The next one asks again.
    pub fn rejected(&mut self, key: &R::Key, error: Error) {
        self.answer(key, &Err(error));
    }

    fn answer(&mut self, key: &R::Key, result: &Result<()>) {
        for done in self.waiting.remove(key).unwrap_or_default() {
            answer(done, result.clone());
        }
    }

    /// The connection is gone: nothing arrives, and no caller waits for it.
    pub fn lost(&mut self) {
        self.shared.interest().deactivate_all();
        self.waiting.drain().flat_map(|(_, waiting)| waiting).for_each(|done| answer(done, Ok(())));
    }
}

/// Fails only if the caller has given up.
fn answer(done: Done, result: Result<()>) {
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use trunkline_core::model::{Namespace, NodeId};

    const LINGER: Duration = Duration::from_secs(5);

    fn ends() -> (Arc<RoomSubscriber>, SubscriptionQueue) {
        let node = NodeKey { id: NodeId::new("a").unwrap(), namespace: Namespace::new("/") };
        let (rooms, requests) = subscriptions(node, Interest::new(Buckets::DEFAULT, LINGER));
        (Arc::new(rooms), requests)
    }

    fn enter(rooms: &Arc<RoomSubscriber>) -> tokio::task::JoinHandle<Result<()>> {
        let rooms = Arc::clone(rooms);
        tokio::spawn(async move { rooms.enter(&"r".into()).await })
    }

    async fn bucket_to_subscribe(requests: &mut SubscriptionQueue) -> Bucket {
        match requests.next().await {
            Some(SubscriptionRequest::Subscribe(bucket)) => bucket,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn all_who_enter_wait_for_one_subscription() {
        let (rooms, mut requests) = ends();
        let entering = [enter(&rooms), enter(&rooms)];
        let bucket = bucket_to_subscribe(&mut requests).await;
        rooms.leave(&"other".into());
        let follow = tokio::spawn({
            let rooms = Arc::clone(&rooms);
            async move { rooms.follow().await }
        });
        let Some(SubscriptionRequest::Rebind(followed)) = requests.next().await else {
            panic!("the bucket is asked for once")
        };
        followed.send(()).unwrap();
        follow.await.unwrap().unwrap();
        assert!(entering.iter().all(|entering| !entering.is_finished()));
        requests.subscribed(&bucket);
        for entering in entering {
            entering.await.unwrap().unwrap();
        }
        rooms.enter(&"r".into()).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_waits_for_a_connection_that_is_gone() {
        let (rooms, mut requests) = ends();
        let entering = enter(&rooms);
        let bucket = bucket_to_subscribe(&mut requests).await;
        requests.lost();
        entering.await.unwrap().unwrap();
        let entering = enter(&rooms);
        assert_eq!(bucket_to_subscribe(&mut requests).await, bucket);
        requests.defer(&bucket);
        entering.await.unwrap().unwrap();
        assert_eq!(requests.wanted(), [bucket]);
        assert!(!requests.is_active(&bucket));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_given_up_when_its_last_room_is_gone_for_long_enough() {
        let (rooms, mut requests) = ends();
        let entering = enter(&rooms);
        let bucket = bucket_to_subscribe(&mut requests).await;
        requests.subscribed(&bucket);
        entering.await.unwrap().unwrap();
        let left = Instant::now();
        rooms.leave(&"r".into());
        let Some(SubscriptionRequest::Unsubscribe(expired)) = requests.next().await else {
            panic!("nothing else is asked")
        };
        assert_eq!((expired, left.elapsed() >= LINGER), (vec![bucket], true));
        assert!(!requests.is_active(&bucket));
    }

    #[tokio::test]
    async fn a_caller_learns_why_a_key_was_rejected_and_the_next_one_asks_again() {
        let (rooms, mut requests) = ends();
        for _ in 0..2 {
            let entering = enter(&rooms);
            let bucket = bucket_to_subscribe(&mut requests).await;
            requests.rejected(&bucket, Error::new(ErrorKind::Broker, "no"));
            assert_eq!(entering.await.unwrap().unwrap_err().kind(), ErrorKind::Broker);
        }
    }

    #[tokio::test]
    async fn a_reader_that_has_ended_lets_nobody_wait() {
        let (rooms, mut requests) = ends();
        let entering = enter(&rooms);
        bucket_to_subscribe(&mut requests).await;
        drop(requests);
        assert_eq!(entering.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(rooms.follow().await.unwrap_err().kind(), ErrorKind::Closed);
    }
}
