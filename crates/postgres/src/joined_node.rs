//! A node of this process that has joined a namespace.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use trunkline_backend::{KnownPeers, decoder::InboundDecoder};
use trunkline_core::{
    NodeKey, NodeMetrics, Room,
    transport::{Inbox, InboxSender, JoinRequest, RoomFilter, inbox},
};

/// A node of this process, with the channel of its namespace and its inbox.
#[derive(Debug)]
pub(crate) struct JoinedNode {
    pub(crate) key: NodeKey,
    pub(crate) channel: Arc<str>,
    pub(crate) decoder: InboundDecoder,
    room_filter: Arc<dyn RoomFilter>,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) inbox: Arc<InboxSender>,
    pub(crate) peers: KnownPeers,
    /// Offset of the last message that was stored before the node joined.
    joined_after: AtomicI64,
}

impl JoinedNode {
    pub(crate) fn new(request: JoinRequest, channel: Arc<str>) -> (Arc<Self>, Inbox) {
        let (inbox, receiver) = inbox(request.limits, Arc::clone(&request.metrics));
        let inbox = Arc::new(inbox);
        let decoder = InboundDecoder::with_pending_joins(&inbox, &request);
        let JoinRequest { node: key, room_filter, metrics, .. } = request;
        let (peers, joined_after) = Default::default();
        let joined = Self { key, channel, decoder, room_filter, metrics, inbox, peers, joined_after };
        (Arc::new(joined), receiver)
    }

    /// Whether the room may have members once everything in the inbox is applied.
    pub(crate) fn may_have_members(&self, room: &Room) -> bool {
        self.inbox.may_have_members(&*self.room_filter, room)
    }

    /// Whether a stored message is newer than the join.
    pub(crate) fn expects(&self, offset: Option<i64>) -> bool {
        offset.is_none_or(|offset| offset > self.joined_after.load(Ordering::Relaxed))
    }

    pub(crate) fn set_joined_after(&self, offset: i64) {
        self.joined_after.store(offset, Ordering::Relaxed);
    }
}
