//! A node that has joined, and the channels of its rooms.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use tokio_util::sync::{CancellationToken, DropGuard};
use trunkline_backend::rooms::{RoomKeys, RoomSubscriber, SubscriptionQueue, SubscriptionRequest};
use trunkline_core::{Namespace, Room, model::Delivery};

use super::names::Names;
use crate::{
    subscribe::{PubSubMessage, Subscriber, Topic},
    transport_core::{ChannelKind, Hello, JoinedNode, NodeInbox, SubscribedNodes},
};

/// The channels of the rooms of a namespace.
#[derive(Debug)]
pub(super) struct RoomChannels {
    pub(super) names: Names,
    pub(super) namespace: Namespace,
}

impl RoomKeys for RoomChannels {
    type Key = Bytes;

    fn key_of(&self, room: &Room) -> Option<Bytes> {
        self.names.room(&self.namespace, room)
    }
}

/// A node that has joined.
#[derive(Debug)]
pub(super) struct ShardedNode {
    pub(super) inbox: NodeInbox,
    hello: Hello,
    pub(super) rooms: RoomSubscriber<RoomChannels>,
    leaving: CancellationToken,
    has_left: CancellationToken,
}

impl ShardedNode {
    pub(super) fn new(inbox: NodeInbox, hello: Hello, rooms: RoomSubscriber<RoomChannels>) -> Self {
        let (leaving, has_left) = Default::default();
        Self { inbox, hello, rooms, leaving, has_left }
    }

    /// To be dropped when [`ShardedNode::follow_rooms`] has ended, however that ends.
    pub(super) fn left_on_drop(&self) -> DropGuard {
        self.has_left.clone().drop_guard()
    }

    /// Subscribes to the channels of rooms, and gives them up, until the node leaves.
    pub(super) async fn follow_rooms(
        self: Arc<Self>,
        nodes: Arc<SubscribedNodes<Self>>,
        subscriber: Subscriber,
        mut queue: SubscriptionQueue<RoomChannels>,
        _left: DropGuard,
    ) {
        // The number of the latest attempt to subscribe, per channel.
        let (mut asked, mut attempts) = (HashMap::<Bytes, u64>::new(), 0);
        let mut answers = FuturesUnordered::new();
        loop {
            tokio::select! {
                request = queue.next() => match request {
                    Some(SubscriptionRequest::Subscribe(channel)) => {
                        let topic = Topic::Shard(channel.clone());
                        attempts += 1;
                        let attempt = attempts;
                        let again = asked.insert(channel.clone(), attempt).is_some();
                        if !again {
                            nodes.connect(&self, topic.clone(), ChannelKind::Public);
                        }
                        let answer = subscriber.subscribe_unless_lost(topic.clone());
                        if again {
                            // It was asked for before, without success.
                            drop(subscriber.unsubscribe(topic));
                        }
                        answers.push(async move { (channel, attempt, answer.await) });
                    }
                    Some(SubscriptionRequest::Unsubscribe(channels)) => {
                        for channel in channels {
                            if asked.remove(&channel).is_some() {
                                let topic = Topic::Shard(channel);
                                nodes.disconnect(&self, &topic, ChannelKind::Public);
                                drop(subscriber.unsubscribe(topic));
                            }
                        }
                    }
                    // Nodes do not turn to another connection: the subscriber restores its own.
                    Some(SubscriptionRequest::Rebind(_)) => {}
                    None => break,
                },
                Some((channel, attempt, answer)) = answers.next() => {
                    if asked.get(&channel) == Some(&attempt) {
                        match answer {
                            Ok(()) => queue.subscribed(&channel),
                            Err(error) => queue.rejected(&channel, error),
                        }
                    }
                }
                () = self.leaving.cancelled() => break,
            }
        }
        drop(queue);
        join_all(asked.into_keys().map(|channel| subscriber.unsubscribe(Topic::Shard(channel)))).await;
    }

    pub(super) fn leave_rooms_later(&self) {
        self.leaving.cancel();
    }

    /// Gives up the channels of all rooms.
    pub(super) async fn leave_rooms(&self) {
        self.leave_rooms_later();
        self.has_left.cancelled().await;
    }
}

impl JoinedNode for ShardedNode {
    type Kind = ChannelKind;

    fn inbox(&self) -> &NodeInbox {
        &self.inbox
    }

    fn decode(&self, message: &PubSubMessage, kind: ChannelKind) -> Option<Delivery> {
        self.inbox.decode(&message.payload, kind)
    }

    fn missed(&self) {
        self.inbox.missed();
    }

    fn hello(&self) -> Option<&Hello> {
        Some(&self.hello)
    }
}
