//! The nodes of this process, and which subscription brings messages to which of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use trunkline_core::{
    Error, ErrorKind, Gap, GapCause, NodeKey, NodeMetrics, Result, Room,
    model::{Delivery, Message},
    transport::{Inbox, InboxSender, JoinRequest, RoomFilter, inbox},
};

use crate::subscribe::{MessageHandler, PubSubMessage, Topic};

/// The sending end of a node's inbox, and what comes with it.
#[derive(Debug)]
pub(crate) struct NodeInbox {
    pub(crate) node: NodeKey,
    pub(crate) metrics: Arc<NodeMetrics>,
    wanted: Arc<dyn RoomFilter>,
    sender: InboxSender,
}

impl NodeInbox {
    pub(crate) fn new(seat: JoinRequest) -> (Self, Inbox) {
        let JoinRequest { node, room_filter: wanted, metrics, limits } = seat;
        let (sender, receiver) = inbox(limits, Arc::clone(&metrics));
        (Self { node, metrics, wanted, sender }, receiver)
    }

    /// Hands over what was received together. Each delivery is decoded when it is its turn, and told which rooms will have members by then.
    pub(crate) fn deliver<T>(
        &self,
        received: impl Iterator<Item = T>,
        decode: impl Fn(&T, &PendingRooms<'_>) -> Option<Delivery>,
    ) {
        let mut batch = Vec::new();
        let mut rooms = PendingRooms { inbox: self, follows_join: false };
        for item in received {
            let Some(delivery) = decode(&item, &rooms) else { continue };
            rooms.follows_join |= matches!(delivery, Delivery::Message { message: Message::Join { .. }, .. });
            batch.push(delivery);
        }
        if !batch.is_empty() {
            self.sender.push(batch);
        }
    }

    pub(crate) fn push(&self, delivery: Delivery) {
        self.sender.push([delivery]);
    }

    /// Waits until the inbox is below its limits, or gone.
    pub(crate) async fn ready(&self) {
        self.sender.ready().await;
    }

    /// Whether what is handed over now would be dropped.
    pub(crate) fn is_full(&self) -> bool {
        self.sender.is_full()
    }

    pub(crate) fn missed(&self) {
        self.push(Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }));
    }

    fn lost(&self, reason: &str) {
        self.push(Delivery::Lost(reason.to_owned()));
    }

    fn restored(&self) {
        self.metrics.reconnects.increment();
        self.push(Delivery::Connected);
    }
}

/// Which rooms will have local members when a message that is decoded now is delivered.
#[derive(Debug)]
pub(crate) struct PendingRooms<'a> {
    inbox: &'a NodeInbox,
    /// In the same batch sockets join rooms before.
    follows_join: bool,
}

impl PendingRooms<'_> {
    pub(crate) fn may_have_members(&self, room: &Room) -> bool {
        self.follows_join || self.inbox.sender.may_have_members(&*self.inbox.wanted, room)
    }
}

/// What a transport keeps for a node that has joined.
pub(crate) trait JoinedNode: fmt::Debug + Send + Sync + 'static {
    /// What a subscription means to a node.
    type Kind: Copy + Eq + fmt::Debug + Send + Sync;

    fn inbox(&self) -> &NodeInbox;

    /// Makes a delivery of a message, or counts why not.
    fn decode(&self, message: &PubSubMessage, kind: Self::Kind, rooms: &PendingRooms<'_>) -> Option<Delivery>;

    /// Messages may have been missed.
    fn missed(&self);
}

/// The nodes of a transport, and the topics that bring messages for them.
#[derive(Debug)]
pub(crate) struct JoinedNodes<N: JoinedNode>(RwLock<State<N>>);

#[derive(Debug)]
struct State<N: JoinedNode> {
    nodes: HashMap<NodeKey, Arc<N>>,
    topics: HashMap<Topic, Vec<(Arc<N>, N::Kind)>>,
}

impl<N: JoinedNode> Default for JoinedNodes<N> {
    fn default() -> Self {
        Self(RwLock::new(State { nodes: HashMap::new(), topics: HashMap::new() }))
    }
}

impl<N: JoinedNode> JoinedNodes<N> {
    /// # Errors
    /// `Config` if the node has joined already.
    pub(crate) fn add(&self, joined: &Arc<N>, topics: impl IntoIterator<Item = (Topic, N::Kind)>) -> Result<()> {
        let node = &joined.inbox().node;
        let mut state = self.write();
        if state.nodes.contains_key(node) {
            let context = format!("node {} of namespace {} has joined already", node.id, node.namespace);
            return Err(Error::new(ErrorKind::Config, context));
        }
        state.nodes.insert(node.clone(), Arc::clone(joined));
        for (topic, kind) in topics {
            state.topics.entry(topic).or_default().push((Arc::clone(joined), kind));
        }
        Ok(())
    }

    pub(crate) fn remove(&self, node: &NodeKey) -> Option<Arc<N>> {
        let mut state = self.write();
        let joined = state.nodes.remove(node)?;
        state.topics.retain(|_, routes| {
            routes.retain(|(other, _)| !Arc::ptr_eq(other, &joined));
            !routes.is_empty()
        });
        Some(joined)
    }

    /// Routes a topic to a node that has joined and not left.
    pub(crate) fn connect(&self, joined: &Arc<N>, topic: Topic, kind: N::Kind) {
        let mut state = self.write();
        if state.nodes.contains_key(&joined.inbox().node) {
            state.topics.entry(topic).or_default().push((Arc::clone(joined), kind));
        }
    }

    /// Stops routing a topic to a node.
    pub(crate) fn disconnect(&self, joined: &Arc<N>, topic: &Topic, kind: N::Kind) {
        let mut state = self.write();
        let Some(routes) = state.topics.get_mut(topic) else { return };
        routes.retain(|(other, as_kind)| !(Arc::ptr_eq(other, joined) && *as_kind == kind));
        if routes.is_empty() {
            state.topics.remove(topic);
        }
    }

    pub(crate) fn find(&self, node: &NodeKey) -> Option<Arc<N>> {
        self.read().nodes.get(node).cloned()
    }

    /// What is kept for a node that publishes; `None` for an emitter.
    ///
    /// # Errors
    /// `Closed` for a node that has not joined.
    pub(crate) fn publishing(&self, node: &NodeKey) -> Result<Option<Arc<N>>> {
        match self.find(node) {
            None if !node.id.is_emitter() => {
                let context = format!("node {} is not in namespace {}", node.id, node.namespace);
                Err(Error::new(ErrorKind::Closed, context))
            }
            joined => Ok(joined),
        }
    }

    pub(crate) fn all(&self) -> Vec<Arc<N>> {
        self.read().nodes.values().cloned().collect()
    }

    /// Removes all nodes. Their inboxes end.
    pub(crate) fn clear(&self) {
        let mut state = self.write();
        state.nodes.clear();
        state.topics.clear();
    }

    fn read(&self) -> RwLockReadGuard<'_, State<N>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State<N>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: JoinedNode> MessageHandler for JoinedNodes<N> {
    fn received(&self, batch: &mut Vec<PubSubMessage>) {
        let state = self.read();
        // Messages of one topic often come in a row.
        for run in batch.chunk_by(|message, next| message.topic == next.topic) {
            for (joined, kind) in state.topics.get(&run[0].topic).into_iter().flatten() {
                joined.inbox().deliver(run.iter(), |message, rooms| joined.decode(message, *kind, rooms));
            }
        }
    }

    fn missed(&self, topics: &[Topic]) {
        let state = self.read();
        let concerned = topics.iter().filter_map(|topic| state.topics.get(topic)).flatten();
        let concerned: HashMap<_, _> = concerned.map(|(joined, _)| (&joined.inbox().node, joined)).collect();
        concerned.values().for_each(|joined| joined.missed());
    }

    fn lost(&self, reason: &str) {
        self.read().nodes.values().for_each(|joined| joined.inbox().lost(reason));
    }

    fn restored(&self) {
        self.read().nodes.values().for_each(|joined| joined.inbox().restored());
    }
}
