//! NATS as a broker of batches: its settings, its subjects, and how to start.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use async_nats::{Subject, rustls::ClientConfig};
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use trunkline_backend::{
    batch::ConnectionId,
    batched::{BatchBroker, BatchSettings, BatchedTransport, JoinedNode, OutgoingMessage, TransportState, token},
    connect_failure::look_for_tls,
    rooms::Bucket,
    tls,
};
use trunkline_core::{Backend, Error, ErrorKind, Namespace, Result, transport::History};

use crate::{
    config::Config,
    connection::Connection,
    history::{HEADERS, HistoryWriter, Recovery, StreamSource, Streams},
    peers::Peers,
    subscriptions::NodeSubscriptions,
};

/// Connects to one of the servers.
///
/// The connection is shared by all namespaces. After a loss it is restored with jittered exponential back-off, on any
/// server of the cluster.
///
/// # Errors
/// `Config` for settings or credentials that cannot work, `Disconnected` if no server can be reached.
pub async fn connect(config: Config) -> Result<Backend> {
    config.check()?;
    let (servers, is_first) = (config.servers.clone(), config.tls.first);
    match BatchedTransport::connect(Nats::new(config)?).await {
        Ok(backend) => Ok(backend.with_name("nats")),
        // A server says whether it wants TLS, unless it is the first thing that it wants.
        Err(error) => Err(look_for_tls(error, &servers, is_first, b"").await),
    }
}

/// The servers of one NATS cluster.
#[derive(Debug)]
pub(crate) struct Nats {
    pub(crate) config: Config,
    pub(crate) settings: BatchSettings,
    pub(crate) tls: ClientConfig,
    pub(crate) peers: Arc<Peers>,
    pub(crate) streams: Option<Streams>,
    pub(crate) max_payload: AtomicUsize,
}

/// A server refuses lines of more than 4,096 bytes by default, and the longest of ours also names a node.
const MAX_NAMESPACE_PREFIX: usize = 2048;

impl Nats {
    fn new(config: Config) -> Result<Self> {
        let client = config.tls.client.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
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
            tls: tls::client_config(config.tls.ca.as_deref(), client, &config.tls.check)?,
            peers: Arc::default(),
            streams: Streams::new(&config),
            max_payload: AtomicUsize::new(0),
            config,
        })
    }

    /// The first word of every subject.
    pub(crate) fn prefix(&self) -> String {
        token(&self.config.prefix)
    }
}

impl BatchBroker for Nats {
    const NAME: &'static str = "NATS";
    const WRITE_BYTES: usize = 1 << 20;
    const SIZE_LIMITED_BY: &'static str = "the server's max_payload and history_bytes";
    const KEEPS_UNACKNOWLEDGED: bool = false;
    const RETURNS_UNROUTABLE: bool = false;

    type Address = Subject;
    type Connection = Connection;
    type Subscription = NodeSubscriptions;
    type HistorySource = StreamSource;

    fn settings(&self) -> &BatchSettings {
        &self.settings
    }

    fn namespace_prefix(&self, namespace: &Namespace) -> Result<String> {
        let prefix = format!("{}.{}", self.prefix(), token(namespace.as_str()));
        if prefix.len() <= MAX_NAMESPACE_PREFIX {
            return Ok(prefix);
        }
        let context = format!(
            "the namespace's name takes {} bytes in a subject, allowed are {MAX_NAMESPACE_PREFIX}",
            prefix.len()
        );
        Err(Error::new(ErrorKind::Config, context))
    }

    fn token(text: &str) -> String {
        token(text)
    }

    fn max_batch_bytes(&self) -> usize {
        let max_payload = self.max_payload.load(Ordering::Relaxed);
        match &self.config.history {
            // The server would take no batch that the whole stream cannot hold.
            Some(history) => max_payload.min(history.bytes / 2).saturating_sub(HEADERS),
            None => max_payload,
        }
    }

    async fn open(&self, server: &str, _: u64, tasks: &TaskTracker) -> Result<Connection> {
        let connection = Connection::open(self, server, tasks).await?;
        self.max_payload.store(connection.client.max_payload(), Ordering::Relaxed);
        Ok(connection)
    }

    async fn subscribe(
        &self,
        connection: &Arc<Connection>,
        node: &JoinedNode<Self>,
        buckets: &[Bucket],
    ) -> Result<NodeSubscriptions> {
        NodeSubscriptions::open(connection, node, buckets).await
    }

    async fn set_up_history(&self, connection: &Connection) -> Result<()> {
        let Some(streams) = &self.streams else { return Ok(()) };
        if !connection.client.server_info().jetstream {
            let context = "there is no JetStream, which history=on needs: start the server with -js, or write jetstream {} into its configuration";
            return Err(Error::new(ErrorKind::Config, context).within(&connection.server));
        }
        connection.check_rights(&streams.api_subjects(), streams.answer_timeout()).await?;
        streams.set_up(connection.jetstream()?).await.map_err(|error| error.within(&connection.server))
    }

    fn history_source(&self, node: &JoinedNode<Self>) -> Option<StreamSource> {
        let streams = self.streams.clone()?;
        Some(StreamSource::new(streams, node.namespace.log.to_string(), self.config.ping_interval))
    }

    fn history(state: &Arc<TransportState<Self>>) -> Option<Arc<dyn History>> {
        let streams = state.broker.streams.clone()?;
        Some(Arc::new(Recovery::new(Arc::clone(state), streams)))
    }

    fn start_history_writer(state: &Arc<TransportState<Self>>) -> Option<mpsc::UnboundedSender<OutgoingMessage<Self>>> {
        let streams = state.broker.streams.clone()?;
        let (sender, received) = mpsc::unbounded_channel();
        state.tasks.spawn(HistoryWriter::new(Arc::clone(state), streams, received).run());
        Some(sender)
    }
}

#[cfg(test)]
mod tests {
    use trunkline_backend::batched::NamespaceState;
    use trunkline_core::NodeId;

    use super::*;

    fn namespace(prefix: &str, namespace: &Namespace) -> Result<NamespaceState<Nats>> {
        let config = Config { prefix: prefix.into(), ..Config::default() };
        NamespaceState::new(&Nats::new(config)?, namespace)
    }

    #[test]
    fn subjects_have_a_fixed_number_of_tokens() {
        let subjects = namespace("my.app", &Namespace::new("/")).unwrap();
        assert_eq!(subjects.all.as_str(), "my=2Eapp.=2F.all");
        let bucket = Config::default().buckets.of(&"r".into()).unwrap();
        assert_eq!(subjects.room(bucket).as_str(), format!("my=2Eapp.=2F.room.{}", bucket.number()));
        assert_eq!(subjects.node(&NodeId::new("a.b").unwrap()).as_str(), "my=2Eapp.=2F.node.a=2Eb");
    }

    #[test]
    fn an_overlong_namespace_is_refused_and_not_cut() {
        let refusal = namespace("p", &Namespace::new(&"x".repeat(3000))).unwrap_err();
        assert!(refusal.to_string().contains("allowed are 2048"));
    }
}
