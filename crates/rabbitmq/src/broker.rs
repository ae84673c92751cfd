//! RabbitMQ as a broker of batches: its settings, its routing keys, and how to start.

use std::sync::Arc;

use lapin::types::ShortString;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use trunkline_backend::{
    batch::ConnectionId,
    batched::{BatchBroker, BatchSettings, BatchedTransport, JoinedNode, OutgoingMessage, TransportState},
    connect_failure::look_for_tls,
    rooms::Bucket,
};
use trunkline_core::{Backend, Namespace, Result, transport::History};

use crate::{
    config::Config,
    connection::Connection,
    history::{Recovery, StreamSource},
    names,
    node_queue::NodeQueue,
};

/// Connects to one of the brokers.
///
/// The connection is shared by all namespaces. After a loss it is restored with jittered exponential back-off, on any
/// broker of the cluster.
///
/// # Errors
/// `Config` for settings or credentials that cannot work, `Disconnected` if no broker can be reached, `Broker` if it
/// refuses.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let (servers, is_tls) = (config.servers.clone(), config.tls.required);
    match BatchedTransport::connect(RabbitMq::new(config)?).await {
        Ok(backend) => Ok(backend.with_name("rabbitmq")),
        Err(error) => Err(look_for_tls(error, &servers, is_tls, AMQP).await),
    }
}

/// What a client of AMQP 0-9-1 says first.
const AMQP: &[u8] = b"AMQP\0\0\x09\x01";

/// The brokers of one RabbitMQ cluster.
#[derive(Debug)]
pub(crate) struct RabbitMq {
    pub(crate) config: Config,
    pub(crate) settings: BatchSettings,
    pub(crate) exchange: ShortString,
    /// If connections are encrypted.
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<crate::tls::TlsClient>,
}

impl RabbitMq {
    pub(crate) fn new(config: Config) -> Result<Self> {
        Ok(Self {
            settings: BatchSettings {
                sender: ConnectionId::random(),
                servers: config.servers.clone(),
                buckets: config.buckets,
                linger: config.linger,
                join_grace: config.join_grace,
                connect_timeout: config.connect_timeout,
                outbox: config.outbox,
                has_history: config.history.is_some(),
            },
            exchange: names::exchange(&config.prefix),
            #[cfg(feature = "tls")]
            tls: config.tls.required.then(|| crate::tls::TlsClient::new(&config.tls)).transpose()?,
            config,
        })
    }
}

impl BatchBroker for RabbitMq {
    const NAME: &'static str = "RabbitMQ";
    /// Less makes a history slower (64 KiB: by an eighth). With a batch for each message these are a thousand batches, and
    /// the client looks at all that are unconfirmed whenever some are confirmed, so more would not be faster.
    const WRITE_BYTES: usize = 256 << 10;
    const SIZE_LIMITED_BY: &'static str = "max_message_bytes";
    const KEEPS_UNACKNOWLEDGED: bool = true;
    const RETURNS_UNROUTABLE: bool = true;

    type Address = ShortString;
    type Connection = Connection;
    type Subscription = NodeQueue;
    type HistorySource = StreamSource;

    fn settings(&self) -> &BatchSettings {
        &self.settings
    }

    fn namespace_prefix(&self, namespace: &Namespace) -> Result<String> {
        Ok(names::token(namespace.as_str()))
    }

    fn token(text: &str) -> String {
        names::token(text)
    }

    fn max_batch_bytes(&self) -> usize {
        self.config.max_message_bytes
    }

    async fn open(&self, server: &str, number: u64, tasks: &TaskTracker) -> Result<Connection> {
        Connection::open(self, server, number, tasks).await
    }

    async fn subscribe(
        &self,
        connection: &Arc<Connection>,
        node: &JoinedNode<Self>,
        buckets: &[Bucket],
    ) -> Result<NodeQueue> {
        NodeQueue::open(self, connection, node, buckets).await
    }

    /// Every connection declares the stream: a broker that crashes may forget one that it has only just declared.
    async fn set_up_history(&self, _: &Connection) -> Result<()> {
        Ok(())
    }

    fn history_source(&self, node: &JoinedNode<Self>) -> Option<StreamSource> {
        self.config.history.map(|_| StreamSource::new(self, node))
    }

    fn history(state: &Arc<TransportState<Self>>) -> Option<Arc<dyn History>> {
        let history = state.broker.config.history?;
        Some(Arc::new(Recovery::new(Arc::clone(state), history.session_ttl)))
    }

    /// A stream takes what is published to its routing keys.
    fn start_history_writer(_: &Arc<TransportState<Self>>) -> Option<mpsc::UnboundedSender<OutgoingMessage<Self>>> {
        None
    }
}

#[cfg(test)]
mod tests {
    use trunkline_backend::batched::NamespaceState;
    use trunkline_core::NodeId;

    use super::*;

    #[test]
    fn keys_have_a_fixed_number_of_words_and_fit() {
        let broker = RabbitMq::new(Config::default()).unwrap();
        let keys = NamespaceState::new(&broker, &Namespace::new("/")).unwrap();
        assert_eq!(keys.all.as_str(), "=2F.all");
        let bucket = broker.settings.buckets.of(&"r".into()).unwrap();
        assert_eq!(keys.room(bucket).as_str(), format!("=2F.room.{}", bucket.number()));
        assert_eq!(keys.node(&NodeId::new("a.b").unwrap()).as_str(), "=2F.node.a=2Eb");
        let keys = NamespaceState::new(&broker, &Namespace::new(&"#".repeat(1000))).unwrap();
        assert!(keys.node(&NodeId::new("*".repeat(255)).unwrap()).as_str().len() <= names::MAX_NAME);
    }
}
