//! The nodes of this process, and which subscription brings messages to whom.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use trunkline_core::{
    Error, ErrorKind, Gap, GapCause, NodeKey, NodeMetrics, Result, Room,
    model::{Delivery, Message},
    transport::{Inbox, InboxSender, JoinRequest, RoomFilter, inbox},
};

use crate::feed::Topic;

/// A node that has joined.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    wanted: Arc<dyn RoomFilter>,
    inbox: InboxSender,
    /// The connection was lost, and that has not been reported as a gap yet.
    gap_due: AtomicBool,
}

impl Member {
    pub(crate) fn new(seat: JoinRequest) -> (Self, Inbox) {
        let JoinRequest { node, room_filter: wanted, metrics, limits } = seat;
        let (sender, receiver) = inbox(limits, Arc::clone(&metrics));
        let member = Self { node, metrics, wanted, inbox: sender, gap_due: AtomicBool::new(false) };
        (member, receiver)
    }

    /// Hands over what arrived together. Each delivery is made when it is its turn, and told whether rooms are wanted by then.
    pub(crate) fn deliver<T>(
        &self,
        arrived: impl Iterator<Item = T>,
        make: impl Fn(&T, &Wants<'_>) -> Option<Delivery>,
    ) {
        let mut batch = Vec::new();
        let mut wants = Wants { member: self, all: false };
        for item in arrived {
            let Some(delivery) = make(&item, &wants) else { continue };
            wants.all |= matches!(delivery, Delivery::Message { message: Message::Join { .. }, .. });
            batch.push(delivery);
        }
        if !batch.is_empty() {
            self.report_gap();
            self.inbox.push(batch);
        }
    }

    pub(crate) fn tell(&self, delivery: Delivery) {
        self.inbox.push([delivery]);
    }

    /// Waits until the inbox has room, or is gone.
    pub(crate) async fn room(&self) {
        self.inbox.ready().await;
    }

    /// Whether what is handed over now would be dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.inbox.is_full()
    }

    /// The connection is gone, and what is sent meanwhile is missed.
    pub(crate) fn lost(&self, reason: &str) {
        self.interrupted(reason);
        self.gap_due.store(true, Ordering::Relaxed);
    }

    /// The connection is gone, but what is sent meanwhile can be read later.
    pub(crate) fn interrupted(&self, reason: &str) {
        self.tell(Delivery::Lost(reason.to_owned()));
    }

    pub(crate) fn restored(&self) {
        self.report_gap();
        self.metrics.reconnects.increment();
        self.tell(Delivery::Connected);
    }

    /// Before the first message that came afterwards.
    fn report_gap(&self) {
        if self.gap_due.swap(false, Ordering::Relaxed) {
            self.tell(Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }));
        }
    }
}

/// Tells whether a room is wanted by the time a message will be delivered.
#[derive(Debug)]
pub(crate) struct Wants<'a> {
    member: &'a Member,
    /// Somebody joins something in front of the message.
    all: bool,
}

impl Wants<'_> {
    pub(crate) fn room(&self, room: &Room) -> bool {
        self.all || self.member.inbox.may_have_members(&*self.member.wanted, room)
    }
}

/// All seats of a transport, and the topics that bring messages for them. `S` is what a transport keeps per seat, `K` what a topic means
/// to a seat.
#[derive(Debug)]
pub(crate) struct Seats<S, K> {
    state: RwLock<State<S, K>>,
}

#[derive(Debug)]
struct State<S, K> {
    by_node: HashMap<NodeKey, Arc<S>>,
    by_topic: HashMap<Topic, Vec<(Arc<S>, K)>>,
}

impl<S, K> Default for Seats<S, K> {
    fn default() -> Self {
        Self { state: RwLock::new(State { by_node: HashMap::new(), by_topic: HashMap::new() }) }
    }
}

impl<S: AsRef<Member>, K: Copy + Eq + Hash> Seats<S, K> {
    /// Takes a seat.
    pub(crate) fn add(&self, seat: &Arc<S>, topics: impl IntoIterator<Item = (Topic, K)>) -> Result<()> {
        let node = &seat.as_ref().as_ref().node;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.by_node.contains_key(node) {
            let context = format!("node {} of namespace {} has joined already", node.id, node.namespace);
            return Err(Error::new(ErrorKind::Config, context));
        }
        state.by_node.insert(node.clone(), Arc::clone(seat));
        for (topic, kind) in topics {
            state.by_topic.entry(topic).or_default().push((Arc::clone(seat), kind));
        }
        Ok(())
    }

    /// Gives a seat back.
    pub(crate) fn remove(&self, node: &NodeKey) -> Option<Arc<S>> {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let seat = state.by_node.remove(node)?;
        state.by_topic.retain(|_, router| {
            router.retain(|(other, _)| !Arc::ptr_eq(other, &seat));
            !router.is_empty()
        });
        Some(seat)
    }

    /// From here on a topic brings messages for a seat that is taken.
    pub(crate) fn connect(&self, seat: &Arc<S>, topic: Topic, kind: K) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if state.by_node.contains_key(&seat.as_ref().as_ref().node) {
            state.by_topic.entry(topic).or_default().push((Arc::clone(seat), kind));
        }
    }

    /// From here on it does not.
    pub(crate) fn disconnect(&self, seat: &Arc<S>, topic: &Topic, kind: K) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let Some(router) = state.by_topic.get_mut(topic) else { return };
        router.retain(|(other, as_kind)| !(Arc::ptr_eq(other, seat) && *as_kind == kind));
        if router.is_empty() {
            state.by_topic.remove(topic);
        }
    }

    /// Whose topics these are.
    pub(crate) fn of_topics(&self, topics: &[Topic]) -> HashMap<NodeKey, Arc<S>> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let seats = topics.iter().filter_map(|topic| state.by_topic.get(topic)).flatten();
        seats.map(|(seat, _)| (seat.as_ref().as_ref().node.clone(), Arc::clone(seat))).collect()
    }

    pub(crate) fn get(&self, node: &NodeKey) -> Option<Arc<S>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).by_node.get(node).cloned()
    }

    /// The seat of a node that publishes; `None` for an emitter.
    ///
    /// # Errors
    /// `Closed` for a node that has not joined.
    pub(crate) fn publishing(&self, node: &NodeKey) -> Result<Option<Arc<S>>> {
        match self.get(node) {
            None if !node.id.is_emitter() => {
                let context = format!("node {} is not in namespace {}", node.id, node.namespace);
                Err(Error::new(ErrorKind::Closed, context))
            }
            seat => Ok(seat),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<S>> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).by_node.values().cloned().collect()
    }

    /// Gives everything away. The inboxes end.
    pub(crate) fn clear(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.by_node.clear();
        state.by_topic.clear();
    }

    /// Hands arrivals to those whom their topics concern, in their order.
    pub(crate) fn route<A>(
        &self,
        arrivals: &[A],
        topic: impl Fn(&A) -> &Topic,
        make: impl Fn(&A, &S, K, &Wants<'_>) -> Option<Delivery>,
    ) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let mut rest = arrivals;
        while let Some(first) = rest.first() {
            // Messages of one topic often come in a row.
            let same = rest.iter().take_while(|arrival| topic(arrival) == topic(first)).count();
            let (run, after) = rest.split_at(same);
            rest = after;
            for (seat, kind) in state.by_topic.get(topic(first)).into_iter().flatten() {
                seat.as_ref().as_ref().deliver(run.iter(), |arrival, wants| make(arrival, seat, *kind, wants));
            }
        }
    }
}
