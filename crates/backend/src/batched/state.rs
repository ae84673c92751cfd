//! What the tasks of one transport share.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_core::{Namespace, NodeKey, Result, model::Delivery, transport::Health};

use super::{
    BatchBroker,
    node::{JoinedNode, NamespaceState},
    publish::Outgoing,
};
use crate::{
    Outbox, batch,
    connection::CurrentConnection,
    joined::{JoinedNodes, Namespaces},
    link_state::Loss,
};

/// What the tasks of one transport share.
#[derive(Debug)]
pub struct TransportState<B: BatchBroker> {
    /// The broker.
    pub broker: B,
    /// The tasks of the transport; it is closed when they have ended.
    pub tasks: TaskTracker,
    /// For readers.
    pub(super) inbound: CurrentConnection<B::Connection>,
    /// For writers: a connection that readers use already, so that answers find them.
    pub outbound: CurrentConnection<B::Connection>,
    /// Messages on their way to the writer.
    pub outbox: Outbox<Outgoing<B>>,
    /// Cancelled when the transport is to close.
    pub(super) closing: CancellationToken,
    /// Cancelled when nothing more is published.
    pub writer_ended: CancellationToken,
    /// Cancelled when nothing more is stored by a task of its own, or nothing ever was.
    pub history_writer_ended: CancellationToken,
    pub(super) nodes: JoinedNodes<JoinedNode<B>>,
    namespaces: Namespaces<NamespaceState<B>>,
    reconnects: AtomicU64,
    loss: Mutex<Loss>,
}

/// Longer than the last write and a goodbye may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

impl<B: BatchBroker> TransportState<B> {
    pub(super) fn new(broker: B) -> Self {
        Self {
            outbox: Outbox::new(broker.settings().outbox),
            broker,
            tasks: TaskTracker::new(),
            inbound: CurrentConnection::default(),
            outbound: CurrentConnection::default(),
            closing: CancellationToken::new(),
            writer_ended: CancellationToken::new(),
            history_writer_ended: CancellationToken::new(),
            nodes: JoinedNodes::default(),
            namespaces: Namespaces::default(),
            reconnects: AtomicU64::new(0),
            loss: Mutex::default(),
        }
    }

    pub(super) fn namespace(&self, namespace: &Namespace) -> Result<Arc<NamespaceState<B>>> {
        self.namespaces.of(namespace, || NamespaceState::new(&self.broker, namespace))
    }

    /// The namespace that a node or an emitter publishes to.
    ///
    /// # Errors
    /// `Closed` if the node has not joined, or left.
    pub fn namespace_of(&self, from: &NodeKey) -> Result<Arc<NamespaceState<B>>> {
        match self.nodes.publishing(from)? {
            Some(node) => Ok(Arc::clone(&node.namespace)),
            None => self.namespace(&from.namespace),
        }
    }

    /// A node of this process.
    #[must_use]
    pub fn node(&self, node: &NodeKey) -> Option<Arc<JoinedNode<B>>> {
        self.nodes.find(node)
    }

    pub(super) fn remove(&self, node: &NodeKey) {
        self.nodes.remove(node);
        self.outbox.forget(&node.id);
    }

    pub(super) fn has_history(&self) -> bool {
        self.broker.settings().has_history
    }

    pub(super) fn set_connected(&self, connection: &Arc<B::Connection>, number: u64) {
        self.reconnects.store(number - 1, Ordering::Relaxed);
        self.loss().end();
        self.outbox.set_connected(true);
        self.outbound.send_replace(Some(Arc::clone(connection)));
    }

    pub(super) fn set_disconnected(&self, reason: &str) {
        self.loss().note(reason);
        self.outbox.set_connected(false);
        self.inbound.send_replace(None);
        self.outbound.send_replace(None);
    }

    /// Another attempt to connect has failed.
    pub(super) fn not_reconnected(&self, reason: &str) {
        self.loss().note(reason);
    }

    /// The connection stands, and the broker takes nothing, for this reason; or it takes messages again. To the nodes a
    /// broker that takes nothing is lost: who does not hear them cannot answer.
    pub(super) fn set_blocked(&self, reason: Option<&str>) {
        match reason {
            Some(reason) => self.loss().note(reason),
            None => self.loss().end(),
        }
        self.outbox.set_connected(reason.is_none());
        let delivery = reason.map_or(Delivery::Connected, |reason| Delivery::Lost(reason.to_owned()));
        self.nodes.all().iter().for_each(|node| node.push(delivery.clone()));
    }

    fn loss(&self) -> MutexGuard<'_, Loss> {
        // Valid after each step.
        self.loss.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to end all tasks: nodes leave, what is queued is written, then the connection is closed.
    pub(super) fn begin_close(&self) {
        self.closing.cancel();
        self.nodes.close().iter().for_each(|node| node.leaving.cancel());
        self.outbox.close();
        self.tasks.close();
    }

    pub(super) async fn close(&self) {
        self.begin_close();
        if timeout(CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("the {} client has not ended within {CLOSE_TIMEOUT:?}", B::NAME);
        }
    }

    /// The largest message that can be published, without the number that it gets in the outbox.
    pub(super) fn max_message_bytes(&self) -> usize {
        /// The longest number, with its name.
        const SEQ_NO: usize = 48;
        self.broker.max_batch_bytes().saturating_sub(batch::HEADER + batch::PER_MESSAGE + SEQ_NO)
    }

    pub(super) fn health(&self) -> Health {
        let (connected, queued_messages, queued_bytes) = self.outbox.status();
        let health = Health::default()
            .with_connected(connected)
            .with_queued_messages(queued_messages)
            .with_queued_bytes(queued_bytes)
            .with_reconnects(self.reconnects.load(Ordering::Relaxed));
        self.loss().add_to(health)
    }
}
