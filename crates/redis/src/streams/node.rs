//! A node that has joined, and the decoding of what comes for it over pub/sub and from the stream.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use trunkline_core::{
    Offset, Result,
    codec::{self, Body},
    model::{Delivery, Message, SeqChannel, SeqNo},
};

use super::{
    deferred::Deferred,
    entry::{Entry, EntryId},
    pending::PendingOwn,
};
use crate::{
    subscribe::PubSubMessage,
    transport_core::{ChannelKind, Hello, JoinedNode, NodeInbox},
};

/// A node that has joined.
#[derive(Debug)]
pub(super) struct StreamNode {
    pub(super) inbox: NodeInbox,
    /// Index of the stream that holds its messages.
    pub(super) stream: usize,
    /// Ends of all streams when the node joined: earlier entries are not for it.
    since: Vec<EntryId>,
    pub(super) pending_own: PendingOwn,
    deferred: Mutex<Deferred>,
    /// Its inbox was full for too long: the reader does not wait for it until that is over.
    pub(super) stuck: AtomicBool,
}

impl JoinedNode for StreamNode {
    type Kind = ChannelKind;

    fn inbox(&self) -> &NodeInbox {
        &self.inbox
    }

    fn decode(&self, message: &PubSubMessage, kind: ChannelKind) -> Option<Delivery> {
        self.inbox.decode(&message.payload, kind).map(|delivery| self.defer_heartbeat(delivery))
    }

    /// What lasts is in the stream; how many requests were missed the heartbeats tell.
    fn missed(&self) {}

    fn hello(&self) -> Option<&Hello> {
        None
    }
}

impl StreamNode {
    pub(super) fn new(inbox: NodeInbox, stream: usize, since: Vec<EntryId>) -> Self {
        Self {
            inbox,
            stream,
            since,
            pending_own: PendingOwn::default(),
            deferred: Mutex::default(),
            stuck: AtomicBool::new(false),
        }
    }

    /// Holds the high-water marks of a heartbeat back. Requests do not overtake it.
    fn defer_heartbeat(&self, mut delivery: Delivery) -> Delivery {
        match &mut delivery {
            Delivery::Message { from: Some(from), message: Message::Leaving, .. } => self.deferred().forget(from),
            Delivery::Message { from: Some(from), message: Message::Heartbeat(heartbeat), .. }
                if !heartbeat.high_water_marks.is_empty() =>
            {
                let without = heartbeat.clone().with_marks_following();
                let mut with = std::mem::replace(heartbeat, without);
                with.initial = false;
                self.deferred().put(from, with);
            }
            Delivery::Message { from: Some(from), seq_no: Some(seq_no), .. }
            | Delivery::Skipped { from, seq_no: Some(seq_no) } => self.deferred().raise(from, *seq_no),
            _ => (),
        }
        delivery
    }

    fn deferred(&self) -> MutexGuard<'_, Deferred> {
        self.deferred.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reader is about to ask for what it has not read.
    pub(super) fn asking(&self) {
        self.deferred().asking();
    }

    /// The reader has read these entries, of other nodes.
    pub(super) fn has_read(&self, entries: &[Entry]) {
        let mut deferred = self.deferred();
        if deferred.is_empty() {
            return;
        }
        for entry in entries.iter().filter(|entry| self.concerns(self.stream, entry)) {
            if let (Some(from), Some(seq_no)) = (&entry.from, entry.seq_no) {
                deferred.raise(from, seq_no);
            }
        }
    }

    /// The reader has read to the end of the stream.
    pub(super) fn at_end(&self) {
        // Under the lock: none is handed over behind a leave.
        let mut deferred = self.deferred();
        for (from, heartbeat) in deferred.at_end() {
            let message = Message::Heartbeat(heartbeat);
            self.inbox.push(Delivery::Message { from: Some(from), seq_no: None, offset: None, message });
        }
    }

    /// Whether an entry of a stream concerns this node.
    pub(super) fn concerns(&self, stream: usize, entry: &Entry) -> bool {
        let namespace = self.inbox.node.namespace.as_str().as_bytes();
        self.since.get(stream).is_some_and(|since| entry.id > *since) && entry.namespace.as_deref() == Some(namespace)
    }

    /// Makes a delivery of an entry of the stream that is not an own one.
    pub(super) fn read(&self, entry: &Entry) -> Option<Delivery> {
        self.try_read(entry).unwrap_or_else(|error| self.inbox.decoder.refused(&error))
    }

    /// As [`StreamNode::read`], for an entry of a stream that holds other namespaces. It cannot be replayed, and has no
    /// place among those that are numbered.
    pub(super) fn read_elsewhere(&self, entry: &Entry) -> Option<Delivery> {
        match self.read(entry)? {
            Delivery::Message { from, message, .. } => {
                Some(Delivery::Message { from, seq_no: None, offset: None, message })
            }
            Delivery::Skipped { .. } => None,
            other => Some(other),
        }
    }

    pub(super) fn is_own(&self, entry: &Entry) -> bool {
        entry.from.as_ref() == Some(&self.inbox.node.id)
    }

    fn try_read(&self, entry: &Entry) -> Result<Option<Delivery>> {
        let kind = entry.kind()?;
        let data = entry.data()?;
        if let Some(room) = codec::peek_room(kind, &data)
            && !self.inbox.decoder.may_have_members(&room)
        {
            return Ok(self.inbox.decoder.skipped(entry.from.as_ref(), entry.seq_no));
        }
        let from = entry.from.clone();
        Ok(Some(match entry.body(kind, &self.inbox.decoder.own(&data))? {
            Body::Response(response) => Delivery::Response { from, response },
            Body::Message(message) => {
                let offset = offset_of(&message, entry.id);
                Delivery::Message { from, seq_no: entry.seq_no, offset, message }
            }
        }))
    }

    /// Deliveries for an own entry that has come back, the bytes that are free again in the outbox, and how many
    /// entries were confirmed.
    pub(super) fn returned(&self, id: EntryId, number: u64) -> (Vec<Delivery>, usize, usize) {
        let returned = self.pending_own.returned(number);
        let lost = returned.lost.into_iter().map(|(number, message)| stored(number, message, None));
        let mut deliveries: Vec<_> = lost.collect();
        deliveries.push(match returned.found {
            Some(message) => stored(number, message, Some(id)),
            None => Delivery::Skipped { from: self.inbox.node.id.clone(), seq_no: Some(in_stream(number)) },
        });
        (deliveries, returned.bytes, returned.written)
    }

    /// Waits until the inbox is below its limits, for a while, unless that was in vain before.
    pub(super) async fn ready(&self, max_hold: Duration) {
        if self.stuck.load(Ordering::Relaxed) && self.inbox.is_full() {
            return;
        }
        let waited = tokio::time::timeout(max_hold, self.inbox.ready()).await;
        self.stuck.store(waited.is_err(), Ordering::Relaxed);
    }
}

/// Delivery of an own broadcast: with the id of its entry, or without one if it is not in the stream.
pub(super) fn stored(number: u64, message: Message, id: Option<EntryId>) -> Delivery {
    let offset = id.and_then(|id| offset_of(&message, id));
    Delivery::Stored { seq_no: Some(in_stream(number)), message, offset }
}

fn in_stream(number: u64) -> SeqNo {
    SeqNo { channel: SeqChannel::ALL, number }
}

/// Offset of a message for clients: only what can be replayed has one.
fn offset_of(message: &Message, id: EntryId) -> Option<Offset> {
    match message {
        Message::Broadcast { request: None, target, .. } if !target.flags.is_volatile() => id.to_offset(),
        _ => None,
    }
}

/// Whether a message that this node appends is delivered to its own sockets when it comes back.
pub(super) fn comes_back(message: &Message) -> bool {
    message.changes_sockets() || matches!(message, Message::Broadcast { request: None, .. })
}
