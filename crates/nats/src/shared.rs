//! What the tasks of one transport share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_backend::{JoinedNodes, Namespaces, Outbox, batch, connection::CurrentConnection, rooms::RoomRouter};
use trunkline_core::{Namespace, NodeKey, Result, transport::Health};

use crate::{
    config::Config,
    connection::{Connection, Connector},
    history::{HEADERS, Streams},
    place::{Hall, Place},
    subjects::Subjects,
    writer::Item,
};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connector: Connector,
    pub(crate) outbox: Outbox<Item>,
    /// For readers.
    pub(crate) incoming: CurrentConnection<Connection>,
    /// For the writer: a connection that readers use already, so that no answer finds nobody.
    pub(crate) outgoing: CurrentConnection<Connection>,
    pub(crate) closing: CancellationToken,
    /// Nothing more is written.
    pub(crate) writer_ended: CancellationToken,
    /// Nothing more is stored, or there is no history.
    pub(crate) log_ended: CancellationToken,
    pub(crate) streams: Option<Streams>,
    pub(crate) tasks: TaskTracker,
    max_payload: AtomicUsize,
    reconnects: AtomicU64,
    halls: Namespaces<Hall>,
    places: JoinedNodes<Place>,
}

/// Longer than the last words may take. A client that writes to a server which takes nothing ends only when it notices.
const CLOSING: Duration = Duration::from_secs(5);

impl Shared {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            outbox: Outbox::new(connector.config.outbox),
            incoming: CurrentConnection::default(),
            outgoing: CurrentConnection::default(),
            closing: CancellationToken::new(),
            writer_ended: CancellationToken::new(),
            log_ended: CancellationToken::new(),
            streams: Streams::new(&connector.config),
            connector,
            tasks: TaskTracker::new(),
            max_payload: AtomicUsize::new(0),
            reconnects: AtomicU64::new(0),
            halls: Namespaces::default(),
            places: JoinedNodes::default(),
        }
    }

    /// The namespace of that name.
    pub(crate) fn hall(&self, namespace: &Namespace) -> Result<Arc<Hall>> {
        let Config { prefix, buckets, join_grace, .. } = &self.connector.config;
        self.halls.of(namespace, || {
            let subjects = Subjects::new(prefix, namespace, *buckets)?;
            Ok(Hall { subjects, router: RoomRouter::new(*buckets, *join_grace) })
        })
    }

    pub(crate) fn add(&self, place: &Arc<Place>) -> Result<()> {
        self.places.add(&place.node, place)
    }

    pub(crate) fn remove(&self, node: &NodeKey) {
        self.places.remove(node);
        self.outbox.forget(&node.id);
    }

    /// The place of a node that should be here.
    pub(crate) fn place_of(&self, node: &NodeKey) -> Result<Arc<Place>> {
        self.places.of(node)
    }

    pub(crate) fn place(&self, node: &NodeKey) -> Option<Arc<Place>> {
        self.places.find(node)
    }

    pub(crate) fn places(&self) -> Vec<Arc<Place>> {
        self.places.all()
    }

    /// Where a node, or an emitter, publishes.
    pub(crate) fn hall_of(&self, from: &NodeKey) -> Result<Arc<Hall>> {
        if from.id.is_emitter() {
            return self.hall(&from.namespace);
        }
        self.place_of(from).map(|place| Arc::clone(&place.hall))
    }

    pub(crate) fn set_connected(&self, connection: &Arc<Connection>) {
        self.max_payload.store(connection.max_payload(), Ordering::Relaxed);
        self.reconnects.store(connection.number - 1, Ordering::Relaxed);
        self.outbox.set_connected(true);
        self.outgoing.send_replace(Some(Arc::clone(connection)));
    }

    pub(crate) fn set_lost(&self) {
        self.outbox.set_connected(false);
        self.incoming.send_replace(None);
        self.outgoing.send_replace(None);
    }

    /// Begins to end all tasks: nodes leave, the writer has its last words, then the connection is closed.
    pub(crate) fn begin_close(&self) {
        self.closing.cancel();
        self.places.close().iter().for_each(|place| place.leaving.cancel());
        self.outbox.close();
        self.tasks.close();
    }

    /// Ends all tasks.
    pub(crate) async fn close(&self) {
        self.begin_close();
        if timeout(CLOSING, self.tasks.wait()).await.is_err() {
            tracing::warn!("the NATS client has not ended within {CLOSING:?}");
        }
    }

    /// The largest message that can be published, without the number that it gets in the queue.
    pub(crate) fn max_message_bytes(&self) -> usize {
        /// The longest number, with its name.
        const STAMP: usize = 48;
        let most = match &self.connector.config.history {
            // The server would take no frame that the whole stream cannot hold.
            Some(history) => self.max_payload().min(history.bytes / 2).saturating_sub(HEADERS),
            None => self.max_payload(),
        };
        most.saturating_sub(batch::HEADER + batch::PER_MESSAGE + STAMP)
    }

    /// The largest message that the server takes.
    pub(crate) fn max_payload(&self) -> usize {
        self.max_payload.load(Ordering::Relaxed)
    }

    pub(crate) fn health(&self) -> Health {
        let (connected, queued_messages, queued_bytes) = self.outbox.status();
        Health { connected, queued_messages, queued_bytes, reconnects: self.reconnects.load(Ordering::Relaxed) }
    }
}
