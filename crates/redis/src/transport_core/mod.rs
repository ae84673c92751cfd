//! What the three transports have in common: servers, joined nodes, the outbox with its publisher, and the subscriber.

mod joined;
mod node_count;
mod rejections;
mod rooms;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use trunkline_backend::Outbox;
use trunkline_core::{
    Error, ErrorKind, NodeKey, Result,
    model::{SeqChannel, SeqNo},
    transport::Health,
};

pub(crate) use self::{
    joined::{ChannelKind, Hello, JoinedNode, NodeInbox, SubscribedNodes},
    node_count::count_nodes,
    rejections::{RejectionCounter, count_rejected},
    rooms::{Fallback, NodeRooms, RoomSubscriptions},
};
use crate::{
    config::Config,
    connect::{ServerPool, Status, Tasks, slot_of},
    publish::{Command, Publication, PublishObserver, Publisher},
    subscribe::{Subscriber, SubscriberLimits, Topic},
};

/// What a message takes in the outbox beyond its own bytes.
const OVERHEAD: usize = 128;

/// How long the last messages may take when the transport is closed.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Servers, nodes, outbox and tasks of a transport.
#[derive(Debug)]
pub(crate) struct TransportCore<N: JoinedNode> {
    pub(crate) servers: Arc<ServerPool>,
    pub(crate) status: Arc<Status>,
    pub(crate) outbox: Arc<Outbox<Publication>>,
    pub(crate) nodes: Arc<SubscribedNodes<N>>,
    pub(crate) subscriber: Subscriber,
    pub(crate) max_message_bytes: usize,
    pub(crate) tasks: Tasks,
    /// Cancelled when everything is published.
    published: CancellationToken,
    _end: DropGuard,
}

impl<N: JoinedNode> TransportCore<N> {
    /// Starts the tasks. A server has just answered.
    pub(crate) fn new(
        config: &Config,
        servers: Arc<ServerPool>,
        outbox: Arc<Outbox<Publication>>,
        nodes: Arc<SubscribedNodes<N>>,
        observer: Arc<dyn PublishObserver>,
    ) -> Self {
        let (status, tasks) = (Arc::<Status>::default(), Tasks::default());
        outbox.set_connected(true);
        status.set_publishing(None);
        let publisher = Publisher {
            outbox: Arc::clone(&outbox),
            servers: Arc::clone(&servers),
            status: Arc::clone(&status),
            observer,
            tasks: tasks.clone(),
            max_backoff: config.max_backoff,
        };
        let published = CancellationToken::new();
        let done = published.clone();
        tasks.spawn(async move {
            publisher.run().await;
            done.cancel();
        });
        let (pool, max_backoff) = (Arc::clone(&servers), config.max_backoff);
        tasks.spawn(async move { pool.keep_credentials_valid(max_backoff).await });
        let handler = Arc::clone(&nodes) as _;
        let limits = SubscriberLimits::of(config);
        let subscriber = Subscriber::new(Arc::clone(&servers), Arc::clone(&status), handler, limits, tasks.clone());
        let (max_message_bytes, _end) = (config.max_message_bytes, tasks.end_on_drop());
        Self { servers, status, outbox, nodes, subscriber, max_message_bytes, tasks, published, _end }
    }

    /// Adds a node and subscribes to its topics, one after the other: a node that is seen by the last one is counted by
    /// all of them.
    pub(crate) async fn join(&self, joined: &Arc<N>, topics: Vec<(Topic, N::Kind)>) -> Result<()> {
        self.nodes.add(joined, topics.clone())?;
        let mut guard = JoinGuard { core: self, node: Some(joined.inbox().node.clone()), topics: Vec::new() };
        for (topic, _) in topics {
            guard.topics.push(topic.clone());
            self.subscriber.subscribe(topic).await?;
        }
        guard.node = None;
        Ok(())
    }

    /// Forgets a node that was removed, and unsubscribes from its topics in the opposite order.
    pub(crate) async fn leave(&self, node: &NodeKey, topics: Vec<(Topic, N::Kind)>) -> Result<()> {
        self.outbox.forget(&node.id);
        let mut left = Ok(());
        for (topic, _) in topics.into_iter().rev() {
            left = left.and(self.subscriber.unsubscribe(topic).await);
        }
        self.outbox.flushed().await;
        left
    }

    /// Queues an encoded message.
    pub(crate) async fn push(&self, outgoing: Outgoing<'_, impl Complete>) -> Result<()> {
        let Outgoing { from, channel, bytes, make } = outgoing;
        self.outbox.push_message(&from.id, channel, bytes, make).await
    }

    /// As [`TransportCore::push`] without waiting. False if the outbox is full for the moment.
    pub(crate) fn try_push(&self, outgoing: Outgoing<'_, impl Complete>) -> Result<bool> {
        let Outgoing { from, channel, bytes, make } = outgoing;
        self.outbox.try_push_message(&from.id, channel, bytes, make)
    }

    /// Queues something that has no number, such as an answer.
    pub(crate) async fn send(&self, from: &NodeKey, route: Route, payload: Vec<u8>) -> Result<()> {
        self.check_size(payload.len())?;
        self.push(route.outgoing(from, payload.len(), |_, _| payload)).await
    }

    /// # Errors
    /// `TooLarge`.
    pub(crate) fn check_size(&self, bytes: usize) -> Result<()> {
        if bytes <= self.max_message_bytes {
            return Ok(());
        }
        let context = format!("{bytes} bytes, allowed are {}", self.max_message_bytes);
        Err(Error::new(ErrorKind::TooLarge, context))
    }

    pub(crate) fn health(&self) -> Health {
        self.outbox.add_to(self.status.health())
    }

    /// Removes the nodes, publishes what is queued, for a while, and ends all tasks.
    pub(crate) async fn close(&self) {
        self.nodes.close();
        self.status.silence();
        self.outbox.close();
        let _ = timeout(LAST_WORDS, self.published.cancelled()).await;
        self.tasks.close().await;
        self.servers.close();
    }
}

/// A node that is removed again if joining ends early.
struct JoinGuard<'a, N: JoinedNode> {
    core: &'a TransportCore<N>,
    node: Option<NodeKey>,
    topics: Vec<Topic>,
}

impl<N: JoinedNode> Drop for JoinGuard<'_, N> {
    fn drop(&mut self) {
        let Some(node) = self.node.take() else { return };
        self.core.nodes.remove(&node);
        for topic in self.topics.drain(..) {
            // It is asked for at once; the answer does not matter.
            drop(self.core.subscriber.unsubscribe(topic));
        }
    }
}

/// A message that is encoded but for its number.
pub(crate) struct Outgoing<'a, F> {
    pub(crate) from: &'a NodeKey,
    /// The channel on which it is numbered, if it is.
    pub(crate) channel: Option<SeqChannel>,
    /// What it takes in the outbox.
    pub(crate) bytes: usize,
    /// Completes it.
    pub(crate) make: F,
}

/// Gets the number of a message or, without one, the high-water marks that a heartbeat carries.
pub(crate) trait Complete: FnOnce(Option<SeqNo>, &[SeqNo]) -> Publication + Send {}

impl<F: FnOnce(Option<SeqNo>, &[SeqNo]) -> Publication + Send> Complete for F {}

/// Which pub/sub channel a message takes, and as what it is numbered there, if it is.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) sharded: bool,
    pub(crate) channel: Bytes,
    pub(crate) numbered: Option<SeqChannel>,
}

impl Route {
    /// A message of so many bytes. `finish` makes its payload.
    pub(crate) fn outgoing<'a, F>(
        self,
        from: &'a NodeKey,
        bytes: usize,
        finish: F,
    ) -> Outgoing<'a, impl Complete + use<'a, F>>
    where
        F: FnOnce(Option<SeqNo>, &[SeqNo]) -> Vec<u8> + Send,
    {
        let bytes = bytes + OVERHEAD;
        let channel = self.numbered;
        let make = move |seq_no: Option<SeqNo>, marks: &[SeqNo]| {
            let slot = self.sharded.then(|| slot_of(&self.channel));
            let payload = finish(seq_no, marks);
            let command = Command::Publish { sharded: self.sharded, channel: self.channel, payload };
            Publication { from: from.clone(), slot, bytes, command }
        };
        Outgoing { from, channel, bytes, make }
    }
}
