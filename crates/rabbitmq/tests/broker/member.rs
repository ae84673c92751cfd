//! A node without a server: rooms and messages, and nothing in between.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use trunkline_core::{
    Backend, IdScheme, Message, Namespace, NodeKey, NodeMetrics, Payload, Room, Target,
    model::Delivery,
    transport::{Inbox, InboxLimits, JoinRequest, Unfiltered},
};
use trunkline_rabbitmq::{Config, connect};

pub(crate) struct Member {
    pub(crate) backend: Backend,
    pub(crate) node: NodeKey,
    inbox: Inbox,
}

impl Member {
    pub(crate) async fn join(config: Config) -> Self {
        let backend = connect(config).await.unwrap();
        let node = NodeKey { id: IdScheme::Hex16.node_id(), namespace: Namespace::new("/") };
        let metrics = Arc::<NodeMetrics>::default();
        let request = JoinRequest::new(node.clone(), Arc::new(Unfiltered), metrics, InboxLimits::default());
        let inbox = backend.transport.join(request).await.unwrap();
        Self { backend, node, inbox }
    }

    pub(crate) async fn enter(&self, room: &Room) {
        self.backend.interest.as_ref().unwrap().room_created(&self.node, room).await.unwrap();
    }

    pub(crate) async fn leave(&self, room: &Room) {
        self.backend.interest.as_ref().unwrap().room_deleted(&self.node, room).await.unwrap();
    }

    pub(crate) async fn emit(&self, target: Target) {
        let message = Message::Broadcast { request: None, target, payload: Payload::event("e", "x").unwrap() };
        self.backend.transport.publish(&self.node, message).await.unwrap();
    }

    /// The targets of the broadcasts that arrive, up to the one to all.
    pub(crate) async fn targets(&mut self) -> Vec<Target> {
        let mut targets = Vec::new();
        let mut batch = VecDeque::new();
        let all = async {
            loop {
                assert!(self.inbox.next_batch(&mut batch).await, "the inbox has ended");
                for delivery in batch.drain(..) {
                    let Delivery::Message { message: Message::Broadcast { target, .. }, .. } = delivery else {
                        continue;
                    };
                    if target.rooms.is_empty() {
                        return;
                    }
                    targets.push(target);
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("the marker arrives");
        targets
    }
}
