//! Who takes part where.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use tokio::sync::watch;
use trunkline_backend::decoder::InboundDecoder;
use trunkline_core::{
    Error, ErrorKind, NodeId, NodeKey, NodeMetrics, Result, Room,
    model::Delivery,
    transport::{Inbox, InboxSender, JoinRequest, RoomFilter, inbox},
};

use crate::channel;

/// A node of this process.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) node: NodeKey,
    pub(crate) decoder: InboundDecoder,
    wanted: Arc<dyn RoomFilter>,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) inbox: Arc<InboxSender>,
    /// What was stored up to here happened before the node was there.
    since: AtomicI64,
}

impl Taken {
    fn new(seat: JoinRequest) -> (Self, Inbox) {
        let (inbox, receiver) = inbox(seat.limits, Arc::clone(&seat.metrics));
        let inbox = Arc::new(inbox);
        let decoder = InboundDecoder::with_pending_joins(&inbox, &seat);
        let JoinRequest { node, room_filter: wanted, metrics, .. } = seat;
        (Self { node, decoder, wanted, metrics, inbox, since: AtomicI64::new(0) }, receiver)
    }

    /// Whether a message for the room is wanted once everything in the inbox is applied.
    pub(crate) fn may_have_members(&self, room: &Room) -> bool {
        self.inbox.may_have_members(&*self.wanted, room)
    }

    /// Whether a stored message happened since the node is there.
    pub(crate) fn expects(&self, offset: Option<i64>) -> bool {
        offset.is_none_or(|offset| offset > self.since.load(Ordering::Relaxed))
    }

    pub(crate) fn begins_after(&self, offset: i64) {
        self.since.store(offset, Ordering::Relaxed);
    }
}

/// The nodes of one channel; most often one.
pub(crate) type Row = Arc<[Arc<Taken>]>;

/// All channels with nodes of this process.
pub(crate) type Plan = HashMap<Arc<str>, Row>;

/// Who takes part where. Readers look at a plan that never changes; a change makes a new one.
pub(crate) struct Seats {
    prefix: String,
    /// One change at a time.
    changing: Mutex<()>,
    plan: watch::Sender<Arc<Plan>>,
}

impl Seats {
    pub(crate) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), changing: Mutex::new(()), plan: watch::Sender::default() }
    }

    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }

    /// Gives a node a seat, and returns it with its channel.
    pub(crate) fn take(&self, seat: JoinRequest) -> Result<(Arc<str>, Arc<Taken>, Inbox)> {
        let channel: Arc<str> = channel::name(&self.prefix, &seat.node.namespace)?.into();
        let (taken, receiver) = Taken::new(seat);
        let taken = Arc::new(taken);
        let _changing = self.lock();
        let mut plan = Plan::clone(&self.plan());
        let row = plan.entry(Arc::clone(&channel)).or_default();
        if row.iter().any(|other| other.node.id == taken.node.id) {
            let context = format!("node {} is already in namespace {}", taken.node.id, taken.node.namespace);
            return Err(Error::new(ErrorKind::Config, context));
        }
        *row = row.iter().chain([&taken]).cloned().collect();
        self.plan.send_replace(Arc::new(plan));
        Ok((channel, taken, receiver))
    }

    /// Gives a seat back. Returns its channel if nobody is left there.
    pub(crate) fn give_back(&self, node: &NodeKey) -> Option<Arc<str>> {
        let channel = channel::name(&self.prefix, &node.namespace).ok()?;
        let _changing = self.lock();
        let mut plan = Plan::clone(&self.plan());
        let (channel, row) = plan.remove_entry(channel.as_str())?;
        let rest: Row = row.iter().filter(|taken| taken.node.id != node.id).cloned().collect();
        let is_empty = rest.is_empty();
        if !is_empty {
            plan.insert(Arc::clone(&channel), rest);
        }
        self.plan.send_replace(Arc::new(plan));
        is_empty.then_some(channel)
    }

    /// Ends all inboxes.
    pub(crate) fn clear(&self) {
        let _changing = self.lock();
        self.plan.send_replace(Arc::default());
    }

    /// The channel on which a node, or an emitter, publishes.
    pub(crate) fn channel_of(&self, from: &NodeKey) -> Result<Arc<str>> {
        let name = channel::name(&self.prefix, &from.namespace)?;
        if from.id.is_emitter() {
            return Ok(name.into());
        }
        match self.plan().get_key_value(name.as_str()) {
            Some((channel, row)) if row.iter().any(|taken| taken.node.id == from.id) => Ok(Arc::clone(channel)),
            _ => Err(no_seat(from)),
        }
    }

    pub(crate) fn find(&self, channel: &str, node: &NodeId) -> Option<Arc<Taken>> {
        self.plan().get(channel)?.iter().find(|taken| taken.node.id == *node).cloned()
    }

    /// Tells every node.
    pub(crate) fn tell(&self, delivery: &Delivery) {
        self.each(|taken| {
            taken.inbox.push([delivery.clone()]);
        });
    }

    pub(crate) fn each(&self, tell: impl Fn(&Taken)) {
        self.plan().values().flat_map(|row| row.iter()).for_each(|taken| tell(taken));
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_seat(from: &NodeKey) -> Error {
    Error::new(ErrorKind::Closed, format!("node {} is not in namespace {}", from.id, from.namespace))
}

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.plan().iter().map(|(channel, row)| (channel, row.len()))).finish()
    }
}
