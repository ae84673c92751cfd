//! Receiving what is published: one connection, shared by everybody, and its subscriptions.
//!
//! The connection is made when the first subscription is wanted. Lost, it is restored with all subscriptions; whoever listens learns of both.

mod session;

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use trunkline_backend::Backoff;
use trunkline_core::{Error, ErrorKind, Result};

use self::session::Session;
use crate::{
    config::Config,
    status::Status,
    topology::{Place, Servers},
    writer::FIRST_PAUSE,
};

/// Something to subscribe to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Topic {
    Channel(Bytes),
    Pattern(Bytes),
    Shard(Bytes),
}

impl Topic {
    pub(crate) fn name(&self) -> &Bytes {
        match self {
            Self::Channel(name) | Self::Pattern(name) | Self::Shard(name) => name,
        }
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name().escape_ascii())
    }
}

/// A message that arrived.
#[derive(Debug)]
pub(crate) struct Arrival {
    /// The subscription by which it came.
    pub(crate) topic: Topic,
    pub(crate) channel: Bytes,
    pub(crate) payload: Bytes,
}

/// Takes in what a feed receives. Called by the feed's task, one call at a time.
pub(crate) trait Listener: fmt::Debug + Send + Sync + 'static {
    /// Messages that arrived together, in their order.
    fn arrived(&self, batch: &mut Vec<Arrival>);

    /// The connection was lost.
    fn lost(&self, reason: &str);

    /// All subscriptions are active again.
    fn restored(&self);

    /// The server does not serve this subscription any more: in a cluster it has moved.
    fn moved(&self, topic: &Topic);
}

/// How a feed behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FeedLimits {
    /// How long an answer may take.
    pub(crate) response_timeout: Duration,
    /// How long the server may be silent until it is asked for a sign of life.
    pub(crate) keepalive: Duration,
    pub(crate) max_backoff: Duration,
    /// How long whoever subscribes waits.
    pub(crate) patience: Duration,
}

impl FeedLimits {
    pub(crate) fn of(config: &Config) -> Self {
        let Config { response_timeout, keepalive, max_backoff, connect_timeout, .. } = *config;
        Self { response_timeout, keepalive, max_backoff, patience: connect_timeout + response_timeout }
    }
}

/// What is asked of a feed.
#[derive(Debug)]
enum Request {
    Subscribe(Vec<Topic>, Done),
    Unsubscribe(Vec<Topic>, Done),
}

pub(crate) type Done = oneshot::Sender<Result<()>>;

/// A handle of a feed.
#[derive(Clone, Debug)]
pub(crate) struct Feed {
    requests: mpsc::Sender<Request>,
    /// Why there is no connection.
    trouble: watch::Receiver<Option<String>>,
    patience: Duration,
}

/// Requests that may wait for a feed.
const REQUESTS: usize = 1024;

impl Feed {
    /// A feed of a place, and the work of its task.
    pub(crate) fn new(
        place: Place,
        servers: Arc<Servers>,
        status: Arc<Status>,
        listener: Arc<dyn Listener>,
        limits: FeedLimits,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, requests) = mpsc::channel(REQUESTS);
        let (trouble, troubled) = watch::channel(None);
        let task = FeedTask {
            place,
            servers,
            status,
            listener,
            limits,
            trouble,
            subscriptions: Subscriptions::default(),
            is_lost: false,
        };
        (Self { requests: sender, trouble: troubled, patience: limits.patience }, task.run(requests))
    }

    /// Subscribes. On return, what is published afterwards arrives. Every topic is to be unsubscribed from once for each time that it was
    /// subscribed to, whatever this returns.
    pub(crate) async fn subscribe(&self, topics: Vec<Topic>) -> Result<()> {
        self.request(|done| Request::Subscribe(topics, done)).await
    }

    /// Unsubscribes, in the order of the topics.
    pub(crate) async fn unsubscribe(&self, topics: Vec<Topic>) -> Result<()> {
        self.request(|done| Request::Unsubscribe(topics, done)).await
    }

    /// As [`Feed::subscribe`], for those who wait by themselves, however long it takes. Nothing comes if the subscription is given up.
    pub(crate) async fn begin_subscribe(&self, topics: Vec<Topic>) -> oneshot::Receiver<Result<()>> {
        self.begin(|done| Request::Subscribe(topics, done)).await
    }

    /// As [`Feed::unsubscribe`], likewise.
    pub(crate) async fn begin_unsubscribe(&self, topics: Vec<Topic>) -> oneshot::Receiver<Result<()>> {
        self.begin(|done| Request::Unsubscribe(topics, done)).await
    }

    async fn begin(&self, request: impl FnOnce(Done) -> Request) -> oneshot::Receiver<Result<()>> {
        let (done, answered) = oneshot::channel();
        // Fails only when the task has ended; then nothing comes.
        let _ = self.requests.send(request(done)).await;
        answered
    }

    async fn request(&self, request: impl FnOnce(Done) -> Request) -> Result<()> {
        let closed = || Error::new(ErrorKind::Closed, "the transport was closed");
        let answered = self.begin(request).await;
        match tokio::time::timeout(self.patience, answered).await {
            Ok(answer) => answer.map_err(|_| closed())?,
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Error {
        let trouble = self.trouble.borrow().clone();
        let reason = trouble.unwrap_or_else(|| format!("the server did not confirm within {:?}", self.patience));
        Error::new(ErrorKind::Disconnected, reason)
    }

    /// Asks for an unsubscription without waiting for it: for those who cannot.
    pub(crate) fn unsubscribe_later(&self, topics: Vec<Topic>) {
        let (done, _) = oneshot::channel();
        // A full queue leaves a subscription behind whose messages nobody takes; it ends with the connection.
        let _ = self.requests.try_send(Request::Unsubscribe(topics, done));
    }
}

/// What is to be subscribed to, whether there is a connection or not.
#[derive(Debug, Default)]
struct Subscriptions {
    topics: HashMap<Topic, Subscription>,
    /// Numbers the topics in the order in which they were wanted.
    last: u64,
}

#[derive(Debug)]
struct Subscription {
    number: u64,
    /// By how many.
    wanted: usize,
    is_active: bool,
    /// Who waits for it to become active.
    waiting: Vec<Arc<Waiter>>,
}

/// Who waits for several topics.
#[derive(Debug)]
pub(crate) struct Waiter {
    left: AtomicUsize,
    done: std::sync::Mutex<Option<Done>>,
}

impl Waiter {
    pub(crate) fn new(left: usize, done: Done) -> Self {
        Self { left: AtomicUsize::new(left), done: std::sync::Mutex::new(Some(done)) }
    }

    /// Nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).as_ref().is_none_or(Done::is_closed)
    }

    pub(crate) fn one_done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.answer(Ok(()));
        }
    }

    pub(crate) fn answer(&self, answer: Result<()>) {
        let done = self.done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        if let Some(done) = done {
            // Fails only when nobody waits any more.
            let _ = done.send(answer);
        }
    }
}

impl Subscriptions {
    /// Notes that topics are wanted. Returns those that nobody wanted before.
    fn want(&mut self, topics: Vec<Topic>, done: Done) -> Vec<Topic> {
        let waiter = Arc::new(Waiter::new(topics.len() + 1, done));
        let mut new = Vec::new();
        for topic in topics {
            let number = self.last + 1;
            let fresh = || Subscription { number, wanted: 0, is_active: false, waiting: Vec::new() };
            let subscription = self.topics.entry(topic.clone()).or_insert_with(fresh);
            subscription.wanted += 1;
            if subscription.number == number {
                self.last = number;
                new.push(topic);
            }
            if subscription.is_active {
                waiter.one_done();
            } else {
                subscription.waiting.push(Arc::clone(&waiter));
            }
        }
        waiter.one_done();
        new
    }

    /// Notes that topics are wanted by one less. Returns those that nobody wants any more.
    fn unwant(&mut self, topics: Vec<Topic>) -> Vec<Topic> {
        let mut gone = Vec::new();
        for topic in topics {
            let Some(subscription) = self.topics.get_mut(&topic) else { continue };
            subscription.wanted -= 1;
            if subscription.wanted == 0 {
                self.topics.remove(&topic);
                gone.push(topic);
            }
        }
        gone
    }

    /// The server has confirmed a subscription.
    fn activate(&mut self, topic: &Topic) {
        let Some(subscription) = self.topics.get_mut(topic) else { return };
        subscription.is_active = true;
        subscription.waiting.drain(..).for_each(|waiter| waiter.one_done());
    }

    /// The server has refused a subscription.
    fn refuse(&mut self, topic: &Topic, error: &Error) {
        let Some(subscription) = self.topics.get_mut(topic) else { return };
        subscription.waiting.drain(..).for_each(|waiter| waiter.answer(Err(error.clone())));
    }

    /// The connection is gone, and with it all subscriptions.
    fn deactivate(&mut self) {
        self.topics.values_mut().for_each(|subscription| subscription.is_active = false);
    }

    /// Everything that is wanted, in the order in which it was.
    fn in_order(&self) -> Vec<Topic> {
        let mut topics: Vec<_> = self.topics.iter().collect();
        topics.sort_unstable_by_key(|(_, subscription)| subscription.number);
        topics.into_iter().map(|(topic, _)| topic.clone()).collect()
    }

    fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

/// The task of a feed.
struct FeedTask {
    place: Place,
    servers: Arc<Servers>,
    status: Arc<Status>,
    listener: Arc<dyn Listener>,
    limits: FeedLimits,
    trouble: watch::Sender<Option<String>>,
    subscriptions: Subscriptions,
    /// There was a connection, whose loss was told.
    is_lost: bool,
}

impl FeedTask {
    /// Runs until the last handle is gone.
    async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut backoff = Backoff::new(FIRST_PAUSE, self.limits.max_backoff);
        loop {
            while self.subscriptions.is_empty() {
                self.restore();
                match requests.recv().await {
                    Some(request) => self.note(request),
                    None => return,
                }
            }
            let ended = match self.connect(&mut requests).await {
                Connecting::Done(session) => {
                    backoff.reset();
                    session.run(&mut self, &mut requests).await
                }
                Connecting::Failed(error) => Some(error.to_string()),
                Connecting::Closed => None,
            };
            let Some(reason) = ended else { return };
            self.lose(reason);
            if !self.pause(backoff.next_pause(), &mut requests).await {
                return;
            }
        }
    }

    async fn connect(&mut self, requests: &mut mpsc::Receiver<Request>) -> Connecting {
        let servers = Arc::clone(&self.servers);
        let place = self.place.clone();
        let connecting = async move { servers.open(&place, "receive").await };
        tokio::pin!(connecting);
        loop {
            tokio::select! {
                opened = &mut connecting => return match opened {
                    Ok((address, socket)) => Connecting::Done(Session::new(address, socket)),
                    Err(error) => Connecting::Failed(error),
                },
                request = requests.recv() => match request {
                    Some(request) => self.note(request),
                    None => return Connecting::Closed,
                },
            }
            if self.subscriptions.is_empty() {
                return Connecting::Failed(Error::new(ErrorKind::Disconnected, "nothing is wanted from it any more"));
            }
        }
    }

    /// Without a connection: what is wanted is subscribed to when there is one.
    fn note(&mut self, request: Request) {
        match request {
            Request::Subscribe(topics, done) => drop(self.subscriptions.want(topics, done)),
            Request::Unsubscribe(topics, done) => {
                self.subscriptions.unwant(topics);
                let _ = done.send(Ok(()));
            }
        }
    }

    fn lose(&mut self, reason: String) {
        let was_active = self.subscriptions.topics.values().any(|subscription| subscription.is_active);
        self.subscriptions.deactivate();
        if was_active && !std::mem::replace(&mut self.is_lost, true) {
            self.status.set_deaf(true);
            self.listener.lost(&reason);
        }
        tracing::debug!(place = ?self.place, %reason, "the receiving connection is down");
        self.trouble.send_replace(Some(reason));
    }

    /// All subscriptions are active.
    fn restore(&mut self) {
        self.trouble.send_replace(None);
        if std::mem::take(&mut self.is_lost) {
            self.status.set_deaf(false);
            self.status.reconnected();
            self.listener.restored();
        }
    }

    /// False when the last handle is gone. Ends early when nothing is wanted any more.
    async fn pause(&mut self, pause: Duration, requests: &mut mpsc::Receiver<Request>) -> bool {
        let sleep = tokio::time::sleep(pause);
        tokio::pin!(sleep);
        while !self.subscriptions.is_empty() {
            tokio::select! {
                () = &mut sleep => return true,
                request = requests.recv() => match request {
                    Some(request) => self.note(request),
                    None => return false,
                },
            }
        }
        true
    }
}

enum Connecting {
    Done(Session),
    Failed(Error),
    Closed,
}
