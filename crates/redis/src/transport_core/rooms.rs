//! The channels of rooms that a node subscribes to, for transports on which rooms have channels of their own.

use std::{
    collections::HashMap,
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio_util::sync::CancellationToken;
use trunkline_backend::rooms::{
    Interest, RoomKeys, RoomSubscriber, SubscriptionQueue, SubscriptionRequest, subscriptions,
};
use trunkline_core::{ErrorKind, NodeKey, Result, Room};

use super::{JoinedNode, SubscribedNodes, TransportCore};
use crate::subscribe::{Subscriber, Topic};

/// The rooms of a node, for the callers that create and delete them.
#[derive(Debug)]
pub(crate) struct NodeRooms<R: RoomKeys<Key = Bytes>> {
    rooms: RoomSubscriber<R>,
    uses_pattern: Arc<AtomicBool>,
    leaving: CancellationToken,
    has_left: CancellationToken,
}

impl<R: RoomKeys<Key = Bytes>> NodeRooms<R> {
    /// No rooms yet, and the requests for [`RoomSubscriptions`].
    pub(crate) fn new(node: NodeKey, interest: Interest<R>) -> (Self, SubscriptionQueue<R>) {
        let (rooms, queue) = subscriptions(node, interest);
        let (uses_pattern, leaving, has_left) = Default::default();
        (Self { rooms, uses_pattern, leaving, has_left }, queue)
    }

    /// As [`RoomSubscriber::enter`].
    pub(crate) async fn enter(&self, room: &Room) -> Result<()> {
        self.rooms.enter(room).await
    }

    /// As [`RoomSubscriber::leave`].
    pub(crate) fn leave(&self, room: &Room) {
        self.rooms.leave(room);
    }

    /// As [`RoomSubscriber::is_entered`].
    pub(crate) fn is_entered(&self, room: &Room) -> bool {
        self.rooms.is_entered(room)
    }

    /// Number of channels, or 1 for the pattern that has taken their place.
    pub(crate) fn subscriptions(&self) -> usize {
        if self.uses_pattern() { 1 } else { self.rooms.subscriptions() }
    }

    /// Whether a pattern has taken the place of the channels.
    pub(crate) fn uses_pattern(&self) -> bool {
        self.uses_pattern.load(Ordering::Acquire)
    }

    /// Gives up the channels of all rooms. Returns before that is done.
    pub(crate) fn leave_all_later(&self) {
        self.leaving.cancel();
    }

    /// Gives up the channels of all rooms.
    pub(crate) async fn leave_all(&self) {
        self.leave_all_later();
        self.has_left.cancelled().await;
    }
}

/// What a node subscribes to in place of channels when there are too many of them.
#[derive(Debug)]
pub(crate) struct Fallback {
    /// Channels of rooms that a node subscribes to at most.
    pub(crate) max_channels: usize,
    /// Pattern that contains them all.
    pub(crate) pattern: Topic,
    /// Channel that the pattern contains, too, and that the node has subscribed to.
    pub(crate) contained: Topic,
}

/// How the messages of rooms come.
enum Way {
    Channels,
    /// Over the channels, until the pattern is confirmed.
    Turning {
        confirmed: BoxFuture<'static, Result<()>>,
        entered: Vec<Bytes>,
    },
    Pattern,
}

/// The task that subscribes to the channels of a node's rooms, and gives them up.
///
/// While the pattern takes the place of the channels, both are subscribed to, and the server sends a message twice:
/// [`SubscribedNodes`] drops the second one as long as the channel is routed to the node. Hence a channel is routed
/// until the server has confirmed that it is given up.
pub(crate) struct RoomSubscriptions<N: JoinedNode, R: RoomKeys<Key = Bytes>> {
    joined: Arc<N>,
    nodes: Arc<SubscribedNodes<N>>,
    subscriber: Subscriber,
    queue: SubscriptionQueue<R>,
    topic: fn(Bytes) -> Topic,
    kind: N::Kind,
    fallback: Option<Fallback>,
    uses_pattern: Arc<AtomicBool>,
    way: Way,
    /// The number of the latest attempt to subscribe, per channel.
    asked: HashMap<Bytes, u64>,
    attempts: u64,
    answers: FuturesUnordered<BoxFuture<'static, (Bytes, u64, Result<()>)>>,
    given_up: FuturesUnordered<BoxFuture<'static, Topic>>,
}

impl<N: JoinedNode, R: RoomKeys<Key = Bytes>> RoomSubscriptions<N, R> {
    /// Starts the task. It ends when the node [leaves](NodeRooms::leave_all) or is gone.
    pub(crate) fn spawn(
        core: &TransportCore<N>,
        joined: &Arc<N>,
        rooms: &NodeRooms<R>,
        queue: SubscriptionQueue<R>,
        (topic, kind): (fn(Bytes) -> Topic, N::Kind),
        fallback: Option<Fallback>,
    ) {
        let (asked, answers, given_up) = Default::default();
        let task = Self {
            joined: Arc::clone(joined),
            nodes: Arc::clone(&core.nodes),
            subscriber: core.subscriber.clone(),
            queue,
            topic,
            kind,
            fallback,
            uses_pattern: Arc::clone(&rooms.uses_pattern),
            way: Way::Channels,
            asked,
            attempts: 0,
            answers,
            given_up,
        };
        let (leaving, left) = (rooms.leaving.clone(), rooms.has_left.clone().drop_guard());
        core.tasks.spawn(async move {
            task.run(leaving).await;
            drop(left);
        });
    }

    async fn run(mut self, leaving: CancellationToken) {
        loop {
            tokio::select! {
                request = self.queue.next() => match request {
                    Some(SubscriptionRequest::Subscribe(channel)) => self.entered(channel),
                    Some(SubscriptionRequest::Unsubscribe(channels)) => self.expired(channels),
                    // Nodes do not turn to another connection: the subscriber restores its own.
                    Some(SubscriptionRequest::Rebind(_)) => {}
                    None => break,
                },
                Some((channel, attempt, answer)) = self.answers.next() => {
                    if self.asked.get(&channel) == Some(&attempt) {
                        match answer {
                            Ok(()) => self.queue.subscribed(&channel),
                            Err(error) => self.queue.rejected(&channel, error),
                        }
                    }
                }
                answer = self.way.confirmed() => self.turned(answer),
                Some(topic) = self.given_up.next() => self.nodes.disconnect(&self.joined, &topic, self.kind),
                () = leaving.cancelled() => break,
            }
        }
        let Self { queue, subscriber, topic, asked, way, fallback, .. } = self;
        drop(queue);
        let pattern = fallback.filter(|_| !matches!(way, Way::Channels)).map(|fallback| fallback.pattern);
        let topics = asked.into_keys().map(topic).chain(pattern);
        join_all(topics.map(|topic| subscriber.unsubscribe(topic))).await;
    }

    fn entered(&mut self, channel: Bytes) {
        let is_full = |fallback: &Fallback| self.asked.len() >= fallback.max_channels;
        match &mut self.way {
            Way::Pattern => self.queue.subscribed(&channel),
            Way::Turning { entered, .. } => entered.push(channel),
            Way::Channels if !self.asked.contains_key(&channel) && self.fallback.as_ref().is_some_and(is_full) => {
                self.turn(channel);
            }
            Way::Channels => self.subscribe(channel),
        }
    }

    fn subscribe(&mut self, channel: Bytes) {
        let topic = (self.topic)(channel.clone());
        self.attempts += 1;
        let attempt = self.attempts;
        let again = self.asked.insert(channel.clone(), attempt).is_some();
        if !again {
            self.nodes.connect(&self.joined, topic.clone(), self.kind);
        }
        let answer = self.subscriber.subscribe_unless_lost(topic.clone());
        if again {
            // It was asked for before, without success.
            drop(self.subscriber.unsubscribe(topic));
        }
        self.answers.push(async move { (channel, attempt, answer.await) }.boxed());
    }

    fn expired(&mut self, channels: Vec<Bytes>) {
        if let Way::Turning { entered, .. } = &mut self.way {
            entered.retain(|channel| !channels.contains(channel));
        }
        for channel in channels {
            if self.asked.remove(&channel).is_some() {
                self.give_up((self.topic)(channel));
            }
        }
    }

    /// Unsubscribes from a channel, which is routed to the node until that is confirmed.
    fn give_up(&self, topic: Topic) {
        let done = self.subscriber.unsubscribe(topic.clone());
        self.given_up.push(
            async move {
                let _ = done.await;
                topic
            }
            .boxed(),
        );
    }

    // --- the pattern in place of the channels ---

    /// Subscribes to the pattern, since there are too many channels with this one.
    fn turn(&mut self, channel: Bytes) {
        let Some(Fallback { pattern, max_channels, .. }) = &self.fallback else { return };
        let NodeKey { id: node, namespace } = &self.joined.inbox().node;
        tracing::warn!(
            %node, %namespace,
            "more than max_subscriptions={max_channels} rooms have members: from now on the node receives the messages \
             of all rooms of the namespace, by pattern"
        );
        self.nodes.connect(&self.joined, pattern.clone(), self.kind);
        let confirmed = self.subscriber.subscribe_unless_lost(pattern.clone()).boxed();
        self.way = Way::Turning { confirmed, entered: vec![channel] };
    }

    fn turned(&mut self, answer: Result<()>) {
        let Way::Turning { entered, .. } = std::mem::replace(&mut self.way, Way::Channels) else { return };
        let Some(Fallback { pattern, contained, .. }) = &self.fallback else { return };
        if let Err(error) = answer {
            self.nodes.disconnect(&self.joined, pattern, self.kind);
            drop(self.subscriber.unsubscribe(pattern.clone()));
            if error.kind() != ErrorKind::Disconnected {
                tracing::warn!(%error, "the server has no patterns: max_subscriptions does not count");
                self.fallback = None;
            }
            return entered.into_iter().for_each(|channel| self.subscribe(channel));
        }
        self.joined.inbox().metrics.subscription_fallbacks.increment();
        self.uses_pattern.store(true, Ordering::Release);
        self.way = Way::Pattern;
        self.give_up(contained.clone());
        entered.iter().for_each(|channel| self.queue.subscribed(channel));
        for (channel, _) in std::mem::take(&mut self.asked) {
            self.queue.subscribed(&channel);
            self.give_up((self.topic)(channel));
        }
    }
}

impl Way {
    /// The answer to the subscription to the pattern. *Cancel safe.*
    async fn confirmed(&mut self) -> Result<()> {
        match self {
            Self::Turning { confirmed, .. } => confirmed.await,
            Self::Channels | Self::Pattern => pending().await,
        }
    }
}
