//! What the tests share.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::time::timeout;
use trunkline_conformance::{
    Setup,
    kit::{TestCluster, TestNode, TestSocket, eventually},
};
use trunkline_core::{
    Backend, Event, GapCause, IdScheme, Message, Namespace, NodeId, NodeKey, NodeMetrics, Payload, Room, Target,
    model::Delivery,
    transport::{Inbox, InboxLimits, JoinRequest, Unfiltered},
};
use trunkline_redis::{Config, connect};

/// How long to wait for what has to come.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// A configuration that notices faults soon.
pub(crate) fn config(url: &str, parameters: &str) -> Config {
    let quick = "connect_timeout=2s&response_timeout=2s&ping_interval=500ms&max_backoff=300ms";
    Config::from_url(&format!("{url}?mode=sharded&{quick}&{parameters}")).unwrap()
}

/// A member of a cluster without a server.
pub(crate) struct Member {
    pub(crate) backend: Backend,
    pub(crate) node: NodeKey,
    inbox: Inbox,
    batch: VecDeque<Delivery>,
}

impl Member {
    pub(crate) async fn join(url: &str, parameters: &str) -> Self {
        let backend = connect(config(url, parameters)).await.unwrap();
        Self::over(&backend, IdScheme::Hex16.node_id(), "/").await
    }

    pub(crate) async fn over(backend: &Backend, id: NodeId, namespace: &str) -> Self {
        let node = NodeKey { id, namespace: Namespace::new(namespace) };
        let metrics = Arc::<NodeMetrics>::default();
        let request = JoinRequest::new(node.clone(), Arc::new(Unfiltered), metrics, InboxLimits::default());
        let inbox = backend.transport.join(request).await.unwrap();
        Self { backend: backend.clone(), node, inbox, batch: VecDeque::new() }
    }

    pub(crate) async fn enter(&self, room: impl Into<Room>) {
        if let Some(interest) = &self.backend.interest {
            interest.room_created(&self.node, &room.into()).await.unwrap();
        }
    }

    pub(crate) async fn emit(&self, target: Target, number: u64) {
        let message = Message::Broadcast { request: None, target, payload: Payload::event("e", &number).unwrap() };
        self.backend.transport.publish(&self.node, message).await.unwrap();
    }

    /// The next message or answer.
    pub(crate) async fn next(&mut self) -> Delivery {
        let next = async {
            loop {
                while self.batch.is_empty() {
                    assert!(self.inbox.next_batch(&mut self.batch).await, "the inbox has ended");
                }
                let next = self.batch.pop_front();
                if let Some(delivery @ (Delivery::Message { .. } | Delivery::Response { .. })) = next {
                    return delivery;
                }
            }
        };
        timeout(TIMEOUT, next).await.expect("something arrives")
    }

    /// The number of the next broadcast.
    pub(crate) async fn number(&mut self) -> u64 {
        loop {
            if let Delivery::Message { message: Message::Broadcast { payload, .. }, .. } = self.next().await {
                return payload.arguments::<(u64,)>().unwrap().0;
            }
        }
    }
}

/// A cluster that has the servers for itself.
pub(crate) fn cluster(url: &str, parameters: &str) -> TestCluster {
    let config = config(url, parameters);
    TestCluster::new(&Setup::new(move |_| connect(config.clone())))
}

pub(crate) fn is_lost(event: &Event) -> bool {
    matches!(event, Event::Lost(_))
}

pub(crate) fn is_gap(event: &Event) -> bool {
    matches!(event, Event::Gap(gap) if gap.cause == GapCause::ConnectionLost)
}

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    eventually(TIMEOUT, || what.into(), condition).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// Broadcasts a number to room `r`.
pub(crate) async fn send(node: &TestNode, number: usize) {
    node.broadcast(Target::room("r"), Payload::event("n", &number).unwrap()).await.unwrap();
}

/// The numbers that a client got so far: in order, and each once.
pub(crate) fn numbers(socket: &TestSocket) -> Vec<usize> {
    let numbers: Vec<_> =
        socket.packets().iter().map(|packet| packet.payload.arguments::<(usize,)>().unwrap().0).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
    numbers
}
