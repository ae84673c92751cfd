//! A node's seat: what it makes of what arrives.

use std::{
    collections::HashMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use trunkline_core::{
    NodeId, Offset, Result,
    codec::{self, Body},
    model::{Delivery, Heartbeat, Message, SeqNo},
};

use super::{
    entry::{Entry, EntryId},
    unread::Unread,
};
use crate::{
    envelope::{self, Door},
    feed::Arrival,
    seats::{Member, Wants},
};

/// Senders whose claims are kept at most.
const MAX_CLAIMS: usize = 4096;

/// A node that has joined.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) member: Member,
    /// Which stream holds its messages.
    pub(super) stream: usize,
    /// Where the stream ended when the node joined: what came before is not for it.
    since: EntryId,
    pub(super) unread: Unread,
    /// What heartbeats say about what their senders have put into the stream, until as much of it has been read.
    claims: Mutex<HashMap<NodeId, Heartbeat>>,
    /// It did not make room in time: nobody waits for it until it has.
    pub(super) stuck: AtomicBool,
}

impl AsRef<Member> for Seat {
    fn as_ref(&self) -> &Member {
        &self.member
    }
}

impl Seat {
    pub(super) fn new(member: Member, stream: usize, since: EntryId) -> Self {
        Self {
            member,
            stream,
            since,
            unread: Unread::default(),
            claims: Mutex::default(),
            stuck: AtomicBool::new(false),
        }
    }

    /// Makes a delivery of what came over pub/sub.
    pub(super) fn take(&self, arrival: &Arrival, door: Door, wants: &Wants<'_>) -> Option<Delivery> {
        let delivery = envelope::take(&self.member, &arrival.payload, door, wants)?;
        Some(self.keep_claim(delivery))
    }

    /// Heartbeats overtake the stream. What they count would be taken for missing while it waits there to be read, so it is told later.
    fn keep_claim(&self, mut delivery: Delivery) -> Delivery {
        if let Delivery::Message { from: Some(from), message: Message::Heartbeat(heartbeat), .. } = &mut delivery
            && !heartbeat.high_water_marks.is_empty()
        {
            let metrics = std::mem::take(&mut heartbeat.high_water_marks);
            let claim = Heartbeat { initial: false, metrics, buckets: heartbeat.buckets };
            let mut claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
            if claims.len() < MAX_CLAIMS || claims.contains_key(from) {
                claims.insert(from.clone(), claim);
            }
        }
        delivery
    }

    /// What was claimed so far.
    pub(super) fn take_claims(&self) -> Vec<Delivery> {
        let claims = std::mem::take(&mut *self.claims.lock().unwrap_or_else(PoisonError::into_inner));
        let told = |(from, claim)| Delivery::Message {
            from: Some(from),
            seq_no: None,
            offset: None,
            message: Message::Heartbeat(claim),
        };
        claims.into_iter().map(told).collect()
    }

    /// Whether an entry of the stream concerns this node.
    pub(super) fn concerns(&self, entry: &Entry) -> bool {
        entry.id > self.since && entry.namespace.as_deref() == Some(self.member.node.namespace.as_str().as_bytes())
    }

    /// Makes a delivery of an entry of the stream that is not an own one.
    pub(super) fn read(&self, entry: &Entry, wants: &Wants<'_>) -> Option<Delivery> {
        self.try_read(entry, wants).unwrap_or_else(|error| {
            envelope::refuse(&self.member, &error);
            None
        })
    }

    pub(super) fn is_own(&self, entry: &Entry) -> bool {
        entry.from.as_ref() == Some(&self.member.node.id)
    }

    fn try_read(&self, entry: &Entry, wants: &Wants<'_>) -> Result<Option<Delivery>> {
        let kind = entry.kind()?;
        let data = entry.data()?;
        if let Some(room) = codec::peek_room(kind, &data)
            && !wants.room(&room)
        {
            return Ok(self.skip(entry.from.as_ref(), entry.seq_no));
        }
        let from = entry.from.clone();
        Ok(Some(match entry.body(kind, &data)? {
            Body::Response(response) => Delivery::Response { from, response },
            Body::Message(message) => {
                let offset = offset_of(&message, entry.id);
                Delivery::Message { from, seq_no: entry.seq_no, offset, message }
            }
        }))
    }

    fn skip(&self, from: Option<&NodeId>, seq_no: Option<SeqNo>) -> Option<Delivery> {
        match from {
            Some(from) if seq_no.is_some() => Some(Delivery::Skipped { from: from.clone(), seq_no }),
            _ => {
                self.member.metrics.unwanted.increment();
                None
            }
        }
    }

    /// What own clients get for an entry of this node, and what else has become clear.
    pub(super) fn returned(&self, id: EntryId, number: u64) -> (Vec<Delivery>, usize, usize) {
        let returned = self.unread.returned(number);
        let mut deliveries: Vec<_> = returned.lost.into_iter().map(|message| stored(message, None)).collect();
        match returned.found {
            Some(message) => deliveries.push(stored(message, Some(id))),
            None => self.member.metrics.own_echoes.increment(),
        }
        (deliveries, returned.bytes, returned.written)
    }

    /// Waits for room in the inbox, unless the node is stuck.
    pub(super) async fn await_room(&self, patience: Duration) {
        if self.stuck.load(Ordering::Relaxed) && self.member.is_full() {
            return;
        }
        let waited = tokio::time::timeout(patience, self.member.room()).await;
        self.stuck.store(waited.is_err(), Ordering::Relaxed);
    }
}

/// An own broadcast in its place, or one that has none.
pub(super) fn stored(message: Message, id: Option<EntryId>) -> Delivery {
    let offset = id.and_then(|id| offset_of(&message, id));
    Delivery::Stored { message, offset }
}

/// Only what can be replayed tells clients where it lies.
fn offset_of(message: &Message, id: EntryId) -> Option<Offset> {
    match message {
        Message::Broadcast { request: None, target, .. } if !target.flags.is_volatile() => id.to_offset(),
        _ => None,
    }
}

/// Whether entries of this kind are own broadcasts that are waited for.
pub(super) fn comes_back(message: &Message) -> bool {
    matches!(message, Message::Broadcast { request: None, .. })
}
