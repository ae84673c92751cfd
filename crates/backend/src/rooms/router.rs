//! Which messages concern only who has a room.

use std::time::Duration;

use crate::rooms::{Bucket, Buckets, RecentJoins};
use trunkline_core::model::Message;

/// Where the messages of a namespace go, for transports that subscribe to [buckets](Buckets) of rooms.
#[derive(Debug)]
pub struct RoomRouter {
    buckets: Buckets,
    recent_joins: RecentJoins<Bucket>,
}

impl RoomRouter {
    /// `grace` is how long messages for a room go to all nodes after sockets of other nodes were asked to join it.
    #[must_use]
    pub fn new(buckets: Buckets, grace: Duration) -> Self {
        Self { buckets, recent_joins: RecentJoins::new(grace) }
    }

    /// The bucket on which a message is to be published; `None` if all nodes have to receive it.
    ///
    /// A plain broadcast to one room concerns only nodes with members of that room. What is answered, or changes rooms,
    /// concerns all.
    #[must_use]
    pub fn bucket_for(&self, message: &Message) -> Option<Bucket> {
        self.note_join(message);
        let Message::Broadcast { request: None, target, .. } = message else { return None };
        self.buckets.of(target.single_room()?).filter(|bucket| !self.recent_joins.contains(bucket))
    }

    /// Notes which rooms a message lets sockets join, published here or received: nodes may still be subscribing to
    /// these.
    pub fn note_join(&self, message: &Message) {
        if let Message::Join { rooms, .. } = message {
            self.recent_joins.note(rooms.iter().filter_map(|room| self.buckets.of(room)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::{
        model::{RequestId, Target},
        payload::Payload,
    };

    fn broadcast(request: Option<RequestId>, target: Target) -> Message {
        Message::Broadcast { request, target, payload: Payload::event("e", &()).unwrap() }
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_plain_broadcast_to_one_room_that_is_not_fresh_goes_to_a_bucket() {
        let grace = Duration::from_secs(5);
        let router = RoomRouter::new(Buckets::DEFAULT, grace);
        let plain = broadcast(None, Target::room("r"));
        assert_eq!(router.bucket_for(&plain), Buckets::DEFAULT.of(&"r".into()));
        assert_eq!(router.bucket_for(&broadcast(None, Target::all())), None);
        assert_eq!(router.bucket_for(&broadcast(Some(RequestId::new("1").unwrap()), Target::room("r"))), None);
        let join = Message::Join { target: Target::all(), rooms: vec!["r".into()] };
        assert_eq!(router.bucket_for(&join), None);
        assert_eq!(router.bucket_for(&plain), None, "a node may still be subscribing");
        tokio::time::advance(grace).await;
        assert!(router.bucket_for(&plain).is_some());
        router.note_join(&join);
        assert_eq!(router.bucket_for(&plain), None);
    }
}
