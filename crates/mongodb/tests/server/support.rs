//! What the tests share.

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

/// How long to wait for what has to come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// The database of all tests.
pub(crate) const DATABASE: &str = "socket_io";

/// A configuration that notices faults soon.
pub(crate) fn config(url: &str, parameters: &str) -> Config {
    let quick = "operation_timeout=3s&stream_timeout=2s&serverSelectionTimeoutMS=2000&connectTimeoutMS=2000";
    Config::from_url(&format!("{url}&{quick}&{parameters}")).unwrap()
}

/// A configuration that waits for a server with much to do.
pub(crate) fn patient(url: &str, parameters: &str) -> Config {
    Config::from_url(&format!("{url}&operation_timeout=30s&stream_timeout=20s&{parameters}")).unwrap()
}

/// A name that no other collection has.
pub(crate) fn fresh() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("c{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A node without a cluster around it.
pub(crate) struct Member {
    pub(crate) backend: Backend,
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    inbox: Inbox,
    batch: VecDeque<Delivery>,
}

impl Member {
    pub(crate) async fn join(config: Config) -> Self {
        Self::of(connect(config).await.unwrap(), "/").await
    }

    pub(crate) async fn of(backend: Backend, namespace: &str) -> Self {
        let node = NodeKey { id: backend.ids.node_id(), namespace: Namespace::new(namespace) };
        let metrics = Arc::<NodeMetrics>::default();
        let seat = JoinRequest {
            node: node.clone(),
            wanted: Arc::new(Unfiltered),
            metrics: Arc::clone(&metrics),
            limits: InboxLimits::default(),
        };
        let inbox = backend.transport.join(seat).await.unwrap();
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
        timeout(PATIENCE, next).await.expect("something arrives")
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

    /// The number of the next broadcast, an own one included, and where it lies.
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
            | Delivery::Stored { message: Message::Broadcast { payload, .. }, offset } => {
                (payload.arguments::<(usize, String)>().unwrap().0, offset)
            }
            _ => unreachable!(),
        }
    }

    /// Waits for these numbers: without holes, repeats or disorder.
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

/// Waits until something holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, condition: impl Fn() -> F) {
    eventually(PATIENCE, || what.into(), condition).await.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A client of the driver, to do what operators and official peers do.
pub(crate) async fn client(url: &str) -> Client {
    Client::with_uri_str(url).await.unwrap()
}

pub(crate) async fn admin(server: &Server, command: Document) -> Document {
    client(server.url()).await.database("admin").run_command(command).await.unwrap()
}

pub(crate) async fn documents(url: &str, collection: &str) -> Collection<Document> {
    client(url).await.database(DATABASE).collection(collection)
}

/// Makes the server fail commands.
pub(crate) async fn fail(server: &Server, mode: impl Into<mongodb::bson::Bson>, command: &str, code: i32) {
    let data = doc! { "failCommands": [command], "errorCode": code };
    admin(server, doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data }).await;
}

pub(crate) fn id(text: &str) -> NodeId {
    NodeId::new(text).unwrap()
}
