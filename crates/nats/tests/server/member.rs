//! A node of a test.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use trunkline_core::{
    Backend, IdScheme, Message, Namespace, NodeKey, NodeMetrics, Payload, Result, Room, Target,
    model::Delivery,
    transport::{Inbox, InboxLimits, JoinRequest, Unfiltered},
};
use trunkline_nats::{Config, connect};

/// A node without an engine: what arrives is seen as the transport hands it over.
pub(crate) struct Member {
    pub(crate) backend: Backend,
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    inbox: Inbox,
    batch: VecDeque<Delivery>,
}

impl Member {
    pub(crate) async fn join(config: Config) -> Self {
        let backend = connect(config).await.unwrap();
        let node = NodeKey { id: IdScheme::Hex16.node_id(), namespace: Namespace::new("/") };
        let metrics = Arc::<NodeMetrics>::default();
        let request =
            JoinRequest::new(node.clone(), Arc::new(Unfiltered), Arc::clone(&metrics), InboxLimits::default());
        let inbox = backend.transport.join(request).await.unwrap();
        Self { backend, node, metrics, inbox, batch: VecDeque::new() }
    }

    pub(crate) async fn emit(&self, target: Target, number: u64) -> Result<()> {
        self.emit_padded(target, number, 0).await
    }

    /// A number and so many bytes more.
    pub(crate) async fn emit_padded(&self, target: Target, number: u64, bytes: usize) -> Result<()> {
        let payload = Payload::event("e", &(number, "x".repeat(bytes)))?;
        let message = Message::Broadcast { request: None, target, payload };
        self.backend.transport.publish(&self.node, message).await
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        let next = async {
            while self.batch.is_empty() {
                assert!(self.inbox.next_batch(&mut self.batch).await, "the inbox has ended");
            }
            self.batch.pop_front().unwrap()
        };
        tokio::time::timeout(Duration::from_secs(40), next).await.expect("something arrives")
    }

    pub(crate) async fn enter(&self, room: &Room) {
        self.backend.interest.as_ref().unwrap().room_created(&self.node, room).await.unwrap();
    }

    /// Waits for a delivery.
    pub(crate) async fn find(&mut self, wanted: impl Fn(&Delivery) -> bool) -> Delivery {
        loop {
            let delivery = self.next().await;
            if wanted(&delivery) {
                return delivery;
            }
        }
    }

    /// The number of the next broadcast.
    pub(crate) async fn number(&mut self) -> u64 {
        let delivery = self.find(|it| matches!(it, Delivery::Message { message: Message::Broadcast { .. }, .. })).await;
        let Delivery::Message { message: Message::Broadcast { payload, .. }, .. } = delivery else { unreachable!() };
        payload.arguments::<(u64, String)>().unwrap().0
    }

    /// The numbers of the broadcasts that arrive, up to this one.
    pub(crate) async fn numbers_until(&mut self, marker: u64) -> Vec<u64> {
        let mut numbers = Vec::new();
        loop {
            match self.number().await {
                number if number == marker => return numbers,
                number => numbers.push(number),
            }
        }
    }
}

/// Times that suit a test.
pub(crate) fn config(url: &str) -> Config {
    let mut config = Config::from_url(url).unwrap();
    config.ping_interval = Duration::from_millis(300);
    config.connect_timeout = Duration::from_secs(2);
    config
}

pub(crate) fn is_connected(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Connected)
}

pub(crate) fn is_gap(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Gap(_))
}
