//! A node of this process, as the subscriber delivers to it.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::timeout;
use trunkline_backend::decoder::InboundDecoder;
use trunkline_core::{
    model::{Delivery, NodeId, NodeKey, NodeMetrics},
    transport::{Inbox, InboxSender, JoinRequest, inbox},
};

use crate::wire::ReceivedDocument;

/// A node that has joined a namespace.
#[derive(Debug)]
pub(crate) struct JoinedNode {
    pub(crate) key: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) inbox: Arc<InboxSender>,
    /// The id under which the outbox numbers its messages.
    pub(crate) sequence_id: NodeId,
    decoder: InboundDecoder,
    /// Deliveries to push into the inbox together: one by one, each would wake the node.
    batch: Mutex<Vec<Delivery>>,
    /// Whether its inbox stayed full for [`PUSH_TIMEOUT`], and was not seen below its limits since.
    is_stalled: AtomicBool,
}

/// How long a full inbox holds up the change stream, and with it all other namespaces. A node that takes nothing for
/// longer loses messages.
const PUSH_TIMEOUT: Duration = Duration::from_secs(1);

impl JoinedNode {
    pub(crate) fn new(request: JoinRequest) -> (Self, Inbox) {
        let (inbox, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
        let inbox = Arc::new(inbox);
        let decoder = InboundDecoder::with_pending_joins(&inbox, &request);
        let JoinRequest { node: key, metrics, .. } = request;
        let sequence_id = sequence_id(&key);
        let (batch, is_stalled) = Default::default();
        (Self { key, metrics, inbox, sequence_id, decoder, batch, is_stalled }, receiver)
    }

    /// Decodes a document of its namespace, for the next [`JoinedNode::flush`].
    pub(crate) async fn receive(&self, document: &ReceivedDocument<'_>) {
        let Some(delivery) = self.decode(document) else { return };
        let is_join = delivery.is_join();
        self.batch().push(delivery);
        // The decoder finds joins in the inbox: they decide which rooms have members.
        if is_join {
            self.flush().await;
        }
    }

    fn decode(&self, document: &ReceivedDocument<'_>) -> Option<Delivery> {
        let is_own = document.from.as_ref() == Some(&self.key.id);
        if !is_own && document.to.as_ref().is_some_and(|to| *to != self.key.id) {
            return None;
        }
        let header = document.header();
        self.decoder.decode_with(header.as_ref(), true, || document.decode())
    }

    /// Pushes what was received into the inbox. The server keeps what comes next, so a full inbox is waited for.
    pub(crate) async fn flush(&self) {
        if self.batch().is_empty() {
            return;
        }
        if !self.inbox.is_full() {
            self.is_stalled.store(false, Ordering::Relaxed);
        } else if !self.is_stalled.load(Ordering::Relaxed) && timeout(PUSH_TIMEOUT, self.inbox.ready()).await.is_err() {
            tracing::debug!(node = %self.key.id, namespace = %self.key.namespace, "a node does not take its messages");
            self.is_stalled.store(true, Ordering::Relaxed);
        }
        self.inbox.push(self.batch().drain(..));
    }

    fn batch(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.batch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node id serves all namespaces of a process, but sequence numbers are counted per namespace.
fn sequence_id(key: &NodeKey) -> NodeId {
    let mut hasher = DefaultHasher::new();
    (&key.id, &key.namespace).hash(&mut hasher);
    // Sixteen digits are never too long.
    NodeId::new(format!("{:016x}", hasher.finish())).unwrap_or_else(|_| key.id.clone())
}
