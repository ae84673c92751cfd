//! Sharded pub/sub: every channel is received from the server that owns its slot, over one connection per server.
//!
//! One task knows what is subscribed to and where. When slots move, servers say that they do not serve a channel any more, or a connection is
//! lost for good: then the map of the cluster is read again and the subscriptions follow. Outside of a cluster there is one place, and nothing
//! moves.

mod ear;
mod entry;
mod switch;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use trunkline_core::{Error, ErrorKind, Result};

use self::{ear::Common, switch::Switch};
use crate::{
    crew::Crew,
    feed::{Arrival, Done, FeedLimits, Topic},
    status::Status,
    task::Task,
    topology::Servers,
};

/// Takes in what is received, from all places.
pub(crate) trait Audience: fmt::Debug + Send + Sync + 'static {
    /// Messages that arrived together, in their order. The places do not wait for each other.
    fn arrived(&self, batch: &mut Vec<Arrival>);

    /// A connection was lost while all others stood.
    fn lost(&self, reason: &str);

    /// Messages of these subscriptions, or of any, may have been missed. Told before the first one that arrives afterwards.
    fn missed(&self, topics: Option<&[Topic]>);

    /// All connections stand again, and everything is subscribed to.
    fn restored(&self);
}

/// Requests that may wait for the task.
const REQUESTS: usize = 1024;

/// What is asked of the task.
#[derive(Debug)]
enum Request {
    /// `impatient`: who asks does not wait for a connection that was lost.
    Subscribe {
        topics: Vec<Topic>,
        done: Done,
        impatient: bool,
    },
    Unsubscribe {
        topics: Vec<Topic>,
        done: Done,
    },
    Close,
}

/// A handle of all receiving connections.
#[derive(Clone, Debug)]
pub(crate) struct Shards {
    requests: mpsc::Sender<Request>,
    task: Arc<Task>,
    patience: Duration,
}

impl Shards {
    pub(crate) fn new(
        crew: &Crew,
        servers: Arc<Servers>,
        status: Arc<Status>,
        audience: Arc<dyn Audience>,
        limits: FeedLimits,
    ) -> Self {
        let (requests, received) = mpsc::channel(REQUESTS);
        let switch = Switch::new(crew.clone(), servers, status, Arc::new(Common::new(audience)), limits);
        let task = Arc::new(Task::spawn(switch.run(received)));
        Self { requests, task, patience: limits.patience }
    }

    /// Waits for a turn to subscribe. What has had its turn is to be unsubscribed from, whatever comes of it.
    pub(crate) async fn turn(&self) -> Result<Turn<'_>> {
        let permit = self.requests.reserve().await.map_err(|_| closed())?;
        Ok(Turn { permit, patience: self.patience })
    }

    /// Unsubscribes.
    pub(crate) async fn unsubscribe(&self, topics: Vec<Topic>) -> Result<()> {
        let (done, answered) = oneshot::channel();
        self.turn().await?.permit.send(Request::Unsubscribe { topics, done });
        in_time(self.patience, answered).await
    }

    /// Asks for an unsubscription without waiting for it: for those who cannot.
    pub(crate) fn unsubscribe_later(&self, topics: Vec<Topic>) {
        let (done, _) = oneshot::channel();
        // A full queue leaves a subscription behind whose messages nobody takes; it ends with the transport.
        let _ = self.requests.try_send(Request::Unsubscribe { topics, done });
    }

    /// Ends all connections. Returns when they have ended.
    pub(crate) async fn close(&self) {
        // Fails only when it has ended.
        let _ = self.requests.send(Request::Close).await;
        self.task.ended().await;
    }
}

/// Leave to subscribe.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    permit: mpsc::Permit<'a, Request>,
    patience: Duration,
}

impl Turn<'_> {
    /// Subscribes. When the answer is there, what is published afterwards arrives.
    pub(crate) fn subscribe(self, topics: Vec<Topic>) -> impl Future<Output = Result<()>> + Send + use<> {
        self.ask(topics, false)
    }

    /// As [`Turn::subscribe`], but with an answer at once while the connection is lost: what is missed until it is back is told anyway.
    pub(crate) fn subscribe_unless_lost(self, topics: Vec<Topic>) -> impl Future<Output = Result<()>> + Send + use<> {
        self.ask(topics, true)
    }

    fn ask(self, topics: Vec<Topic>, impatient: bool) -> impl Future<Output = Result<()>> + Send + use<> {
        let (done, answered) = oneshot::channel();
        self.permit.send(Request::Subscribe { topics, done, impatient });
        in_time(self.patience, answered)
    }
}

async fn in_time(patience: Duration, answered: oneshot::Receiver<Result<()>>) -> Result<()> {
    match timeout(patience, answered).await {
        Ok(answer) => answer.map_err(|_| closed())?,
        Err(_) => Err(Error::new(ErrorKind::Disconnected, format!("no server confirmed within {patience:?}"))),
    }
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the transport was closed")
}
