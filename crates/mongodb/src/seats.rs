//! Who takes part where.

use std::{
    collections::HashMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::watch, time::timeout};
use trunkline_core::{
    Error, ErrorKind, Message, Namespace, NodeId, NodeKey, NodeMetrics, Result, Room,
    model::Delivery,
    transport::{Inbox, InboxSender, JoinRequest, RoomFilter, inbox},
};

/// A node of this process.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    pub(crate) inbox: InboxSender,
    wanted: Arc<dyn RoomFilter>,
    /// Under which its messages are numbered.
    number_key: NodeId,
    /// What the reader hands over next.
    pending: Mutex<Vec<Delivery>>,
    /// Among it, somebody joins something.
    is_joining: AtomicBool,
    /// The node has left its inbox full for so long that nobody waits for it any more.
    is_stuck: AtomicBool,
}

impl Taken {
    fn new(seat: JoinRequest) -> (Self, Inbox) {
        let JoinRequest { node, room_filter: wanted, metrics, limits } = seat;
        let (inbox, receiver) = inbox(limits, Arc::clone(&metrics));
        let number_key = number_key(&node);
        let (pending, is_joining, is_stuck) = Default::default();
        (Self { node, metrics, inbox, wanted, number_key, pending, is_joining, is_stuck }, receiver)
    }

    /// Whether a message for the room is wanted once everything is applied that was handed over before.
    pub(crate) fn may_have_members(&self, room: &Room) -> bool {
        self.is_joining.load(Ordering::Relaxed) || self.inbox.may_have_members(&*self.wanted, room)
    }

    /// Keeps a delivery until [`Taken::flush`].
    pub(crate) fn keep(&self, delivery: Delivery) {
        if matches!(delivery, Delivery::Message { message: Message::Join { .. }, .. }) {
            self.is_joining.store(true, Ordering::Relaxed);
        }
        self.pending().push(delivery);
    }

    /// Hands over what was kept. The server holds what comes next, so a full inbox is waited for, though not for ever: other namespaces
    /// wait too.
    pub(crate) async fn flush(&self) {
        const PATIENCE: Duration = Duration::from_secs(1);
        if self.pending().is_empty() {
            return;
        }
        if !self.inbox.is_full() {
            self.is_stuck.store(false, Ordering::Relaxed);
        } else if !self.is_stuck.load(Ordering::Relaxed) && timeout(PATIENCE, self.inbox.ready()).await.is_err() {
            tracing::debug!(node = %self.node.id, namespace = %self.node.namespace, "a node does not take its messages");
            self.is_stuck.store(true, Ordering::Relaxed);
        }
        self.inbox.push(self.pending().drain(..));
        self.is_joining.store(false, Ordering::Relaxed);
    }

    fn pending(&self) -> MutexGuard<'_, Vec<Delivery>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One id serves all namespaces of a process, but messages are numbered per namespace.
fn number_key(node: &NodeKey) -> NodeId {
    let mut hasher = DefaultHasher::new();
    (&node.id, &node.namespace).hash(&mut hasher);
    // Sixteen digits are never too long.
    NodeId::new(format!("{:016x}", hasher.finish())).unwrap_or_else(|_| node.id.clone())
}

/// The nodes of one namespace; most often one.
pub(crate) type Row = Arc<[Arc<Taken>]>;

/// All namespaces with nodes of this process.
pub(crate) type Plan = HashMap<Namespace, Row>;

/// Who takes part where. Readers look at a plan that never changes; a change makes a new one.
#[derive(Default)]
pub(crate) struct Seats {
    /// One change at a time.
    changing: Mutex<()>,
    plan: watch::Sender<Arc<Plan>>,
}

impl Seats {
    pub(crate) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.plan.borrow())
    }

    pub(crate) fn take(&self, seat: JoinRequest) -> Result<(Arc<Taken>, Inbox)> {
        let (taken, receiver) = Taken::new(seat);
        let taken = Arc::new(taken);
        let _changing = self.lock();
        let mut plan = Plan::clone(&self.plan());
        let row = plan.entry(taken.node.namespace.clone()).or_default();
        if row.iter().any(|other| other.node.id == taken.node.id) {
            let context = format!("node {} is already in namespace {}", taken.node.id, taken.node.namespace);
            return Err(Error::new(ErrorKind::Config, context));
        }
        *row = row.iter().chain([&taken]).cloned().collect();
        self.plan.send_replace(Arc::new(plan));
        Ok((taken, receiver))
    }

    pub(crate) fn give_back(&self, node: &NodeKey) {
        let _changing = self.lock();
        let mut plan = Plan::clone(&self.plan());
        let Some(row) = plan.remove(&node.namespace) else { return };
        let rest: Row = row.iter().filter(|taken| taken.node.id != node.id).cloned().collect();
        if !rest.is_empty() {
            plan.insert(node.namespace.clone(), rest);
        }
        self.plan.send_replace(Arc::new(plan));
    }

    /// Ends all inboxes.
    pub(crate) fn clear(&self) {
        let _changing = self.lock();
        self.plan.send_replace(Arc::default());
    }

    /// Under which the messages of a node are numbered; `None` for emitters, who share one name and number nothing.
    pub(crate) fn number_key(&self, from: &NodeKey) -> Result<Option<NodeId>> {
        if from.id.is_emitter() {
            return Ok(None);
        }
        let no_seat =
            || Error::new(ErrorKind::Closed, format!("node {} is not in namespace {}", from.id, from.namespace));
        self.find(from).map(|taken| Some(taken.number_key.clone())).ok_or_else(no_seat)
    }

    pub(crate) fn find(&self, node: &NodeKey) -> Option<Arc<Taken>> {
        self.plan().get(&node.namespace)?.iter().find(|taken| taken.node.id == node.id).cloned()
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

impl fmt::Debug for Seats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.plan().iter().map(|(namespace, row)| (namespace, row.len()))).finish()
    }
}
