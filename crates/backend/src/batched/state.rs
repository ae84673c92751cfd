//! What the tasks of one transport share.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use tokio::time::{sleep, timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use trunkline_core::{
    Message, Namespace, NodeKey, Result,
    codec::{self, Body, Decoded},
    model::Delivery,
    transport::Health,
};

use super::{
    BatchBroker, BatchConnection as _,
    node::{GONE_FOR, JoinedNode, NamespaceState},
    publish::Outgoing,
};
use crate::{
    Outbox,
    batch::{self, Batch},
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
    away: Mutex<Away>,
}

/// Why the broker cannot be used.
#[derive(Debug, Default)]
struct Away {
    /// Why the last connection was lost; `None` while one stands.
    lost: Option<String>,
    obstacles: BTreeMap<Obstacle, String>,
    /// The first of them, for the health.
    loss: Loss,
}

impl Away {
    fn note(&mut self) {
        match self.lost.as_ref().or_else(|| self.obstacles.values().next()) {
            Some(reason) => self.loss.note(reason.as_str()),
            None => self.loss.end(),
        }
    }
}

/// What keeps a broker from taking messages although the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// An alarm of its own: it reads nothing of what is published.
    Alarm,
    /// There is no room for a message, in a queue or a stream.
    Full,
    /// The history cannot be written to.
    History,
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
            away: Mutex::default(),
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
        let mut away = self.away();
        away.lost = None;
        away.note();
        self.outbox.set_connected(away.obstacles.is_empty());
        drop(away);
        self.outbound.send_replace(Some(Arc::clone(connection)));
    }

    pub(super) fn set_disconnected(&self, reason: &str) {
        let mut away = self.away();
        away.lost = Some(reason.to_owned());
        away.obstacles.remove(&Obstacle::Alarm);
        away.note();
        drop(away);
        self.outbox.set_connected(false);
        self.inbound.send_replace(None);
        self.outbound.send_replace(None);
    }

    /// Notes that something keeps the broker from taking messages, or `None` that it does so no more. It counts as lost
    /// meanwhile: what is published is held, and peers that cannot be heard are not given up.
    pub fn obstruct(&self, obstacle: Obstacle, reason: Option<String>) {
        let mut away = self.away();
        let was_clear = away.obstacles.is_empty();
        match reason {
            Some(reason) => away.obstacles.insert(obstacle, reason),
            None => away.obstacles.remove(&obstacle),
        };
        away.note();
        let reason = away.obstacles.values().next();
        if was_clear == reason.is_none() {
            return;
        }
        self.outbox.set_connected(reason.is_none() && away.lost.is_none());
        match reason {
            Some(reason) => tracing::warn!(reason, "{} takes no messages at the moment", B::NAME),
            None => tracing::info!("{} takes messages again", B::NAME),
        }
        for node in self.nodes.all() {
            match reason {
                Some(reason) => {
                    node.metrics.blocked.increment();
                    node.tell_lost(reason);
                }
                None if node.is_subscribed() && away.lost.is_none() => node.tell_connected(),
                None => {}
            }
        }
    }

    /// Tells a node that has just subscribed what keeps the broker from taking messages.
    pub(super) fn tell_obstacle(&self, node: &JoinedNode<B>) {
        if let Some(reason) = self.away().obstacles.values().next() {
            node.tell_lost(reason);
        }
    }

    fn away(&self) -> MutexGuard<'_, Away> {
        // Valid after each step.
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Handles the return of a probe: there is no queue for a node.
    pub(super) fn queue_gone(self: &Arc<Self>, address: &B::Address, connection: &B::Connection) {
        for node in self.nodes.all() {
            if node.is_subscribed() && node.namespace.node(&node.key.id) == *address {
                connection.abort("the queue of a node is gone, or not bound");
            } else if let Some(peer) = node.peer_queue_gone(address) {
                let (state, closing) = (Arc::clone(self), self.closing.clone());
                let probe_again = async move {
                    sleep(GONE_FOR).await;
                    state.probe(&node, &peer);
                };
                self.tasks.spawn(closing.run_until_cancelled_owned(probe_again));
            }
        }
    }

    /// Says that the broker refuses a batch for good, and counts its messages. With a history, own sockets get what it
    /// did not take.
    pub fn refused(&self, batch: &Bytes, reason: &dyn fmt::Display) {
        let Ok(batch) = Batch::parse(batch.clone()) else { return };
        let messages: Vec<_> = batch.flatten().collect();
        self.outbox.refused(messages.len() as u64, &reason.to_string());
        for message in messages {
            let Ok(Decoded { from: Some(id), namespace: Some(namespace), body, .. }) = codec::decode(&message) else {
                continue;
            };
            let Some(node) = self.node(&NodeKey { id, namespace }) else { continue };
            node.metrics.publish_errors.increment();
            if let Body::Message(message) = body
                && (message.changes_sockets() || matches!(message, Message::Broadcast { .. }))
                && self.has_history()
            {
                node.push(Delivery::Stored { seq_no: None, message, offset: None });
            }
        }
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
        let (connected, ..) = self.outbox.status();
        let health =
            Health::default().with_connected(connected).with_reconnects(self.reconnects.load(Ordering::Relaxed));
        let health = self.outbox.add_to(health);
        // The task that connects anew hears of the end a moment after the readers that tell their nodes.
        let ended = self.outbound.borrow().as_ref().filter(|it| it.has_ended()).map(|it| it.end_reason());
        match ended {
            Some(reason) => health.with_loss(reason, SystemTime::now()),
            None => self.away().loss.add_to(health),
        }
    }
}
