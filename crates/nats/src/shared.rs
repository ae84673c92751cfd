//! What the tasks of one transport share.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_core::{
    Error, ErrorKind, Namespace, Node, Result, frame, interest::FreshRooms, outbox::Outbox, transport::Health,
};

use crate::{
    connection::{Connection, Connector},
    history::{HEADERS, Streams},
    place::{Hall, Place},
    subjects::Subjects,
    writer::Item,
};

/// The latest connection; `None` while there is none.
pub(crate) type Line = watch::Sender<Option<Arc<Connection>>>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connector: Connector,
    pub(crate) outbox: Outbox<Item>,
    /// For readers.
    pub(crate) incoming: Line,
    /// For the writer: a connection that readers use already, so that no answer finds nobody.
    pub(crate) outgoing: Line,
    pub(crate) closing: CancellationToken,
    /// Nothing more is written.
    pub(crate) writer_ended: CancellationToken,
    /// Nothing more is stored, or there is no history.
    pub(crate) log_ended: CancellationToken,
    pub(crate) streams: Option<Streams>,
    pub(crate) tasks: TaskTracker,
    max_payload: AtomicUsize,
    reconnects: AtomicU64,
    halls: Mutex<HashMap<Namespace, Arc<Hall>>>,
    places: Mutex<HashMap<Node, Arc<Place>>>,
}

/// Namespaces that are remembered without a node in them, for emitters.
const MAX_IDLE_HALLS: usize = 256;

/// Longer than the last words may take. A client that writes to a server which takes nothing ends only when it notices.
const CLOSING: Duration = Duration::from_secs(5);

impl Shared {
    pub(crate) fn new(connector: Connector) -> Self {
        Self {
            outbox: Outbox::new(connector.config.outbox),
            incoming: Line::default(),
            outgoing: Line::default(),
            closing: CancellationToken::new(),
            writer_ended: CancellationToken::new(),
            log_ended: CancellationToken::new(),
            streams: Streams::new(&connector.config),
            connector,
            tasks: TaskTracker::new(),
            max_payload: AtomicUsize::new(0),
            reconnects: AtomicU64::new(0),
            halls: Mutex::default(),
            places: Mutex::default(),
        }
    }

    /// The namespace of that name.
    pub(crate) fn hall(&self, namespace: &Namespace) -> Result<Arc<Hall>> {
        let mut halls = lock(&self.halls);
        if let Some(hall) = halls.get(namespace) {
            return Ok(Arc::clone(hall));
        }
        let config = &self.connector.config;
        let subjects = Subjects::new(&config.prefix, namespace, config.buckets)?;
        if halls.len() >= MAX_IDLE_HALLS {
            halls.retain(|_, hall| Arc::strong_count(hall) > 1);
        }
        let hall = Arc::new(Hall::new(subjects, FreshRooms::new(config.buckets, config.join_grace)));
        halls.insert(namespace.clone(), Arc::clone(&hall));
        Ok(hall)
    }

    /// Adds a place.
    pub(crate) fn add(&self, place: &Arc<Place>) -> Result<()> {
        let node = &place.node;
        let mut places = lock(&self.places);
        // Whoever closes looks at the places after this token.
        if self.closing.is_cancelled() {
            return Err(Error::new(ErrorKind::Closed, "the transport was closed"));
        }
        if places.contains_key(node) {
            let context = format!("node {} is already in namespace {}", node.id, node.namespace);
            return Err(Error::new(ErrorKind::Config, context));
        }
        places.insert(node.clone(), Arc::clone(place));
        Ok(())
    }

    pub(crate) fn remove(&self, node: &Node) {
        lock(&self.places).remove(node);
        self.outbox.forget(&node.id);
    }

    pub(crate) fn place(&self, node: &Node) -> Option<Arc<Place>> {
        lock(&self.places).get(node).cloned()
    }

    pub(crate) fn places(&self) -> Vec<Arc<Place>> {
        lock(&self.places).values().cloned().collect()
    }

    /// Where a node, or an emitter, publishes.
    pub(crate) fn hall_of(&self, from: &Node) -> Result<Arc<Hall>> {
        if from.id.is_emitter() {
            return self.hall(&from.namespace);
        }
        match self.place(from) {
            Some(place) => Ok(Arc::clone(&place.hall)),
            None => {
                let context = format!("node {} is not in namespace {}", from.id, from.namespace);
                Err(Error::new(ErrorKind::Closed, context))
            }
        }
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
        self.places().iter().for_each(|place| place.leaving.cancel());
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
        most.saturating_sub(frame::HEADER + frame::PER_MESSAGE + STAMP)
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

/// Waits for a connection that stands. `None` if there will be none.
pub(crate) async fn latest(line: &mut watch::Receiver<Option<Arc<Connection>>>) -> Option<Arc<Connection>> {
    loop {
        if let Some(connection) = line.borrow_and_update().clone().filter(|connection| !connection.has_ended()) {
            return Some(connection);
        }
        line.changed().await.ok()?;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Maps are valid after each step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
