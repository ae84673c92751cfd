//! Receiving what is published: subscriptions, over one connection per server.
//!
//! One task, the router, knows what is subscribed to and where. A plain channel or pattern is served by any server; a
//! shard channel, in a Redis Cluster, by the one that owns its slot. Each server has a task of its own, which connects
//! when the first subscription is wanted, restores a lost connection with all its subscriptions, and hands over what it
//! receives. When slots move, servers say that they do not serve a channel any more, or a connection is lost for good:
//! then the slot map of the cluster is read again and the subscriptions follow.

mod connection;
mod node;
mod router;

use std::{
    fmt,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use trunkline_core::{Error, ErrorKind, Result};

use self::router::{Request, SubscriptionRouter};
use crate::{
    config::Config,
    connect::{Hold, ServerPool, Status, Tasks},
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

/// A message that was received.
#[derive(Debug)]
pub(crate) struct PubSubMessage {
    /// The subscription by which it came.
    pub(crate) topic: Topic,
    pub(crate) channel: Bytes,
    pub(crate) payload: Bytes,
    /// Came by a pattern, and just before by the name of its channel.
    pub(crate) came_by_name: bool,
}

/// Takes what the connections receive. Called by their tasks, which do not wait for each other.
pub(crate) trait MessageHandler: fmt::Debug + Send + Sync + 'static {
    /// Messages that one connection has received together, in their order.
    fn received(&self, batch: &mut Vec<PubSubMessage>);

    /// Messages of these subscriptions may have been missed. Called when they are active again, before the first
    /// message that follows.
    fn missed(&self, topics: &[Topic]);

    /// Tells the peers of the nodes that missed messages of these subscriptions that they are back, and lets go of
    /// `hold` once those peers are back themselves, or after a while. Called after [`MessageHandler::missed`].
    fn await_peers(
        &self,
        topics: &[Topic],
        servers: Arc<ServerPool>,
        hold: Hold,
    ) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// A connection was lost while all others stood.
    fn lost(&self, reason: &str);

    /// All connections stand again, and everything is subscribed to.
    fn restored(&self);
}

/// Time limits of the connections.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SubscriberLimits {
    /// How long an answer may take.
    pub(crate) response_timeout: Duration,
    /// How long the server may be silent until it is asked for a sign of life.
    pub(crate) ping_interval: Duration,
    pub(crate) max_backoff: Duration,
    /// How long a caller waits for a confirmation.
    pub(crate) max_wait: Duration,
}

impl SubscriberLimits {
    pub(crate) fn of(config: &Config) -> Self {
        let Config { response_timeout, ping_interval, max_backoff, connect_timeout, .. } = *config;
        Self { response_timeout, ping_interval, max_backoff, max_wait: connect_timeout + response_timeout }
    }
}

/// What the router and the tasks of the connections share.
#[derive(Debug)]
struct Shared {
    servers: Arc<ServerPool>,
    status: Arc<Status>,
    handler: Arc<dyn MessageHandler>,
    limits: SubscriberLimits,
    tasks: Tasks,
    /// Why there was no connection last.
    trouble: Mutex<Option<String>>,
}

type Done = oneshot::Sender<Result<()>>;

/// A handle of all subscriptions of a transport.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    /// Without a bound: each caller has one request under way and waits for it.
    requests: mpsc::UnboundedSender<Request>,
    shared: Arc<Shared>,
}

impl Subscriber {
    pub(crate) fn new(
        servers: Arc<ServerPool>,
        status: Arc<Status>,
        handler: Arc<dyn MessageHandler>,
        limits: SubscriberLimits,
        tasks: Tasks,
    ) -> Self {
        let (requests, received) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { servers, status, handler, limits, tasks, trouble: Mutex::default() });
        shared.tasks.spawn(SubscriptionRouter::new(Arc::clone(&shared)).run(received));
        Self { requests, shared }
    }

    /// Subscribes. When the returned future is ready, what is published afterwards arrives.
    ///
    /// Every call of this is to be followed by one that unsubscribes, whatever it returns and whether it is awaited or
    /// not.
    pub(crate) fn subscribe(&self, topic: Topic) -> impl Future<Output = Result<()>> + Send + use<> {
        self.request(|done| Request::Subscribe { topic, done, unless_lost: false }).wait()
    }

    /// As [`Subscriber::subscribe`], but ready at once while the connection is lost: that messages are missed until it
    /// is back is reported anyway.
    pub(crate) fn subscribe_unless_lost(&self, topic: Topic) -> impl Future<Output = Result<()>> + Send + use<> {
        self.request(|done| Request::Subscribe { topic, done, unless_lost: true }).wait()
    }

    /// Unsubscribes, whether the returned future is awaited or not.
    pub(crate) fn unsubscribe(&self, topic: Topic) -> impl Future<Output = Result<()>> + Send + use<> {
        self.request(|done| Request::Unsubscribe { topic, done }).wait()
    }

    fn request(&self, request: impl FnOnce(Done) -> Request) -> Confirmation {
        let (done, is_done) = oneshot::channel();
        // Fails only when the transport is closed; then `done` is dropped.
        let _ = self.requests.send(request(done));
        Confirmation { is_done, shared: Arc::clone(&self.shared) }
    }
}

/// What a caller waits for.
struct Confirmation {
    is_done: oneshot::Receiver<Result<()>>,
    shared: Arc<Shared>,
}

impl Confirmation {
    async fn wait(self) -> Result<()> {
        match timeout(self.shared.limits.max_wait, self.is_done).await {
            Ok(answer) => answer.map_err(|_| Error::new(ErrorKind::Closed, "the transport was closed"))?,
            Err(_) => Err(self.shared.too_late()),
        }
    }
}

impl Shared {
    fn note_trouble(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    fn too_late(&self) -> Error {
        let trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let context = trouble.unwrap_or_else(|| format!("no server confirmed within {:?}", self.limits.max_wait));
        Error::new(ErrorKind::Disconnected, context)
    }
}
