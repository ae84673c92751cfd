//! Between those who enter and leave rooms, and the reader of a node that subscribes to their [buckets](crate::interest).

use std::{
    collections::HashMap,
    future::pending,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::{Notify, mpsc, oneshot},
    time::{Instant, sleep_until},
};

use crate::rooms::{Bucket, Interest};
use trunkline_core::{
    error::{Error, ErrorKind, Result},
    model::{NodeKey, Room},
};

/// Makes the two ends, with the rooms of nobody yet.
#[must_use]
pub fn subscriptions(node: NodeKey, interest: Interest) -> (RoomSubscriber, SubscriptionQueue) {
    let shared = Arc::new(Shared { interest: Mutex::new(interest), left: Notify::new() });
    let (commands, received) = mpsc::channel(COMMANDS);
    let rooms = RoomSubscriber { node, shared: Arc::clone(&shared), commands };
    (rooms, SubscriptionQueue { shared, commands: received, waiting: HashMap::new() })
}

/// Commands that may wait. Callers wait while there are more.
const COMMANDS: usize = 1024;

#[derive(Debug)]
struct Shared {
    interest: Mutex<Interest>,
    /// Rooms were left: there may be something to give up.
    left: Notify,
}

impl Shared {
    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
enum Command {
    Enter(Bucket, oneshot::Sender<()>),
    Rebind(oneshot::Sender<()>),
}

/// The rooms of a node, for those who enter and leave them.
#[derive(Debug)]
pub struct RoomSubscriber {
    node: NodeKey,
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
}

impl RoomSubscriber {
    /// The first local socket enters the room. Returns when messages for it arrive; while there is no connection, at once.
    ///
    /// # Errors
    /// `Closed` once the reader has ended.
    pub async fn enter(&self, room: &Room) -> Result<()> {
        let bucket = self.shared.interest().enter(room);
        match bucket {
            Some(bucket) => self.ask(|entered| Command::Enter(bucket, entered)).await,
            None => Ok(()),
        }
    }

    /// The last local socket has left the room.
    pub fn leave(&self, room: &Room) {
        self.shared.interest().leave(now(), room);
        self.shared.left.notify_one();
    }

    /// Returns when the reader uses the latest connection.
    ///
    /// # Errors
    /// `Closed` once the reader has ended.
    pub async fn follow(&self) -> Result<()> {
        self.ask(Command::Rebind).await
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

/// What callers ask of the reader of a node. Dropped, it lets nobody wait.
#[derive(Debug)]
pub struct SubscriptionQueue {
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
    waiting: HashMap<Bucket, Vec<oneshot::Sender<()>>>,
}

/// What a reader is asked to do.
#[derive(Debug)]
pub enum SubscriptionRequest {
    /// Subscribe to a bucket, then call [`SubscriptionQueue::subscribed`]; without a connection, [`SubscriptionQueue::defer`].
    Subscribe(Bucket),
    /// Give up these buckets.
    Unsubscribe(Vec<Bucket>),
    /// Turn to the latest connection, if there is a new one, and answer.
    Rebind(oneshot::Sender<()>),
}

impl SubscriptionQueue {
    /// Waits for the next request; `None` when nobody can ask any more. *Cancel safe.*
    pub async fn next(&mut self) -> Option<SubscriptionRequest> {
        loop {
            let deadline = self.shared.interest().deadline();
            tokio::select! {
                biased;
                command = self.commands.recv() => match command? {
                    Command::Enter(bucket, entered) => if self.has_to_subscribe(bucket, entered) {
                        return Some(SubscriptionRequest::Subscribe(bucket));
                    },
                    Command::Rebind(followed) => return Some(SubscriptionRequest::Rebind(followed)),
                },
                () = self.shared.left.notified() => {}
                () = due(deadline) => return Some(SubscriptionRequest::Unsubscribe(self.shared.interest().take_expired(now()))),
            }
        }
    }

    /// Whether nobody else has asked for this bucket and is waiting.
    fn has_to_subscribe(&mut self, bucket: Bucket, entered: oneshot::Sender<()>) -> bool {
        if self.is_active(bucket) {
            tell(entered);
            return false;
        }
        let waiting = self.waiting.entry(bucket).or_default();
        waiting.push(entered);
        waiting.len() == 1
    }

    /// The buckets with which a new connection has to begin.
    #[must_use]
    pub fn wanted(&self) -> Vec<Bucket> {
        self.shared.interest().wanted().collect()
    }

    /// Whether messages of the bucket arrive.
    #[must_use]
    pub fn is_active(&self, bucket: Bucket) -> bool {
        self.shared.interest().is_active(bucket)
    }

    /// Messages of the bucket arrive from now on: whoever waits for it may go on.
    pub fn subscribed(&mut self, bucket: Bucket) {
        self.shared.interest().set_active(bucket, true);
        self.defer(bucket);
    }

    /// There is no connection, and the next one begins with the bucket: whoever waits for it may go on.
    pub fn defer(&mut self, bucket: Bucket) {
        self.waiting.remove(&bucket).unwrap_or_default().into_iter().for_each(tell);
    }

    /// The connection is gone: nothing arrives, and nobody waits for it.
    pub fn lost(&mut self) {
        self.shared.interest().deactivate_all();
        self.waiting.drain().flat_map(|(_, waiting)| waiting).for_each(tell);
    }
}

/// Fails only if nobody waits any more.
fn tell(waiting: oneshot::Sender<()>) {
    let _ = waiting.send(());
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
    use crate::rooms::Buckets;
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
        tell(followed);
        follow.await.unwrap().unwrap();
        assert!(entering.iter().all(|entering| !entering.is_finished()));
        requests.subscribed(bucket);
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
        requests.defer(bucket);
        entering.await.unwrap().unwrap();
        assert_eq!(requests.wanted(), [bucket]);
        assert!(!requests.is_active(bucket));
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_is_given_up_when_its_last_room_is_gone_for_long_enough() {
        let (rooms, mut requests) = ends();
        let entering = enter(&rooms);
        let bucket = bucket_to_subscribe(&mut requests).await;
        requests.subscribed(bucket);
        entering.await.unwrap().unwrap();
        let left = Instant::now();
        rooms.leave(&"r".into());
        let Some(SubscriptionRequest::Unsubscribe(expired)) = requests.next().await else {
            panic!("nothing else is asked")
        };
        assert_eq!((expired, left.elapsed() >= LINGER), (vec![bucket], true));
        assert!(!requests.is_active(bucket));
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
