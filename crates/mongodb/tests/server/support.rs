//! A node without a cluster around it, and clients that do what operators and official adapters do.

use std::{
    collections::VecDeque,
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering},
    time::Duration,
};

use mongodb::{
    Client, Collection,
    bson::{Document, doc},
};
use tokio::time::timeout;
use trunkline_brokers::MongoDb as Server;
use trunkline_conformance::kit::eventually;
use trunkline_core::{
    Backend, Message, Namespace, NodeId, NodeKey, NodeMetrics, Offset, Payload, Result, Target,
    model::Delivery,
    transport::{History, Inbox, InboxLimits, JoinRequest, Unfiltered},
};
use trunkline_mongodb::{Config, connect};

/// How long a test waits for an expected delivery.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(40);

/// The database of all tests.
pub(crate) const DATABASE: &str = "socket_io";

/// A configuration that detects faults soon.
pub(crate) fn config(url: &str, parameters: &str) -> Config {
    let quick = "response_timeout=3s&stream_timeout=2s&serverSelectionTimeoutMS=2000&connectTimeoutMS=2000";
    Config::from_url(&format!("{url}&{quick}&{parameters}")).unwrap()
}

/// A configuration for a server under load.
pub(crate) fn config_under_load(url: &str, parameters: &str) -> Config {
    Config::from_url(&format!("{url}&response_timeout=30s&stream_timeout=20s&{parameters}")).unwrap()
}

/// A unique name for a collection.
pub(crate) fn unique_name() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("c{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A node that a test drives itself.
pub(crate) struct TestNode {
    pub(crate) backend: Backend,
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    inbox: Inbox,
    batch: VecDeque<Delivery>,
}

impl TestNode {
    pub(crate) async fn join(config: Config) -> Self {
        Self::of(connect(config).await.unwrap(), "/").await
    }

    pub(crate) async fn of(backend: Backend, namespace: &str) -> Self {
        let node = NodeKey { id: backend.ids.node_id(), namespace: Namespace::new(namespace) };
        let metrics = Arc::<NodeMetrics>::default();
        let limits = InboxLimits::default();
        let request = JoinRequest::new(node.clone(), Arc::new(Unfiltered), Arc::clone(&metrics), limits);
        let inbox = backend.transport.join(request).await.unwrap();
        Self { backend, node, metrics, inbox, batch: VecDeque::new() }
    }

    pub(crate) fn history(&self) -> &dyn History {
        &**self.backend.history.as_ref().unwrap()
    }

    pub(crate) async fn emit(&self, number: usize) -> Result<()> {
        self.emit_bytes(number, 0).await
    }

    pub(crate) async fn emit_bytes(&self, number: usize, bytes: usize) -> Result<()> {
        let payload = Payload::event("n", &(number, "x".repeat(bytes)))?;
        let message = Message::Broadcast { request: None, target: Target::all(), payload };
        self.backend.transport.publish(&self.node, message).await
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        let next = async {
            while self.batch.is_empty() {
                assert!(self.inbox.next_batch(&mut self.batch).await, "the inbox has ended");
            }
            self.batch.pop_front().unwrap()
        };
        timeout(TIMEOUT, next).await.expect("something arrives")
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

    /// The number and the offset of the next broadcast, an own one included.
    pub(crate) async fn number(&mut self) -> (usize, Option<Offset>) {
        let is_broadcast = |it: &Delivery| {
            matches!(
                it,
                Delivery::Message { message: Message::Broadcast { .. }, .. }
                    | Delivery::Stored { message: Message::Broadcast { .. }, .. }
            )
        };
        match self.find(is_broadcast).await {
            Delivery::Message { message: Message::Broadcast { payload, .. }, offset, .. }
            | Delivery::Stored { message: Message::Broadcast { payload, .. }, offset, .. } => {
                (payload.arguments::<(usize, String)>().unwrap().0, offset)
            }
            _ => unreachable!(),
        }
    }

    /// Waits for exactly these numbers, in order.
    pub(crate) async fn expect(&mut self, numbers: impl IntoIterator<Item = usize>) {
        for number in numbers {
            assert_eq!(self.number().await.0, number);
        }
    }
}

pub(crate) fn is_lost(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Lost(_))
}

pub(crate) fn is_connected(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Connected)
}

pub(crate) fn is_gap(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Gap(_))
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    eventually(TIMEOUT, || what.into(), condition).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A client of the driver.
pub(crate) async fn client(url: &str) -> Client {
    Client::with_uri_str(url).await.unwrap()
}

pub(crate) async fn admin(server: &Server, command: Document) -> Document {
    client(server.url()).await.database("admin").run_command(command).await.unwrap()
}

pub(crate) async fn documents(url: &str, collection: &str) -> Collection<Document> {
    client(url).await.database(DATABASE).collection(collection)
}

/// Makes the server fail a command, by a failpoint.
pub(crate) async fn set_failpoint(server: &Server, mode: impl Into<mongodb::bson::Bson>, command: &str, code: i32) {
    let data = doc! { "failCommands": [command], "errorCode": code };
    admin(server, doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }).await;
}

pub(crate) fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}
