//! Receiving what does not last: requests and answers, over pub/sub, sharded or not.

use std::sync::Arc;

use trunkline_core::Result;

use super::transport::Shared;
use crate::{
    crew::Crew,
    feed::{Arrival, Feed, FeedLimits, Listener, Topic},
    shards::{Audience, Shards},
    status::Status,
    task::Task,
    topology::{Place, Servers},
};

/// The receiving connections.
#[derive(Debug)]
pub(super) enum PubSub {
    /// One, to any server.
    Plain(Feed, Task),
    /// In a cluster one per server, each for the channels that it owns.
    Sharded(Shards),
}

impl PubSub {
    pub(super) fn new(
        crew: &Crew,
        servers: Arc<Servers>,
        status: Arc<Status>,
        ears: Ears,
        limits: FeedLimits,
        sharded: bool,
    ) -> Self {
        if sharded {
            return Self::Sharded(Shards::new(crew, servers, status, Arc::new(ears), limits));
        }
        let (feed, receiving) = Feed::new(Place::Anywhere, servers, status, Arc::new(ears), limits);
        Self::Plain(feed, crew.take_on(receiving))
    }

    /// Subscribes. On return, what is published afterwards arrives.
    pub(super) async fn subscribe(&self, topics: Vec<Topic>) -> Result<()> {
        match self {
            Self::Plain(feed, _) => feed.subscribe(topics).await,
            Self::Sharded(shards) => shards.turn().await?.subscribe(topics).await,
        }
    }

    pub(super) async fn unsubscribe(&self, topics: Vec<Topic>) -> Result<()> {
        match self {
            Self::Plain(feed, _) => feed.unsubscribe(topics).await,
            Self::Sharded(shards) => shards.unsubscribe(topics).await,
        }
    }

    pub(super) fn unsubscribe_later(&self, topics: Vec<Topic>) {
        match self {
            Self::Plain(feed, _) => feed.unsubscribe_later(topics),
            Self::Sharded(shards) => shards.unsubscribe_later(topics),
        }
    }

    /// Ends all connections.
    pub(super) async fn close(&self) {
        match self {
            Self::Plain(_, task) => task.stop().await,
            Self::Sharded(shards) => shards.close().await,
        }
    }
}

/// Takes in what comes over pub/sub. What lasts is in the stream; how many requests were missed the counters of heartbeats tell.
#[derive(Debug)]
pub(super) struct Ears(pub(super) Arc<Shared>);

impl Ears {
    fn take(&self, batch: &[Arrival]) {
        self.0.seats.route(
            batch,
            |arrival| &arrival.topic,
            |arrival, seat, door, wants| seat.take(arrival, door, wants),
        );
    }
}

impl Listener for Ears {
    fn arrived(&self, batch: &mut Vec<Arrival>) {
        self.take(batch);
    }

    fn lost(&self, reason: &str) {
        self.0.one_lost(reason);
    }

    fn restored(&self) {
        self.0.one_restored();
    }

    /// Plain channels are everywhere.
    fn moved(&self, _: &Topic) {}
}

impl Audience for Ears {
    fn arrived(&self, batch: &mut Vec<Arrival>) {
        self.take(batch);
    }

    fn lost(&self, reason: &str) {
        self.0.one_lost(reason);
    }

    fn missed(&self, _: Option<&[Topic]>) {}

    fn restored(&self) {
        self.0.one_restored();
    }
}
