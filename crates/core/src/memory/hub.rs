//! Where the nodes of one process meet.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{MemoryConfig, ring::Ring};
use crate::{
    error::{Error, ErrorKind, Result},
    id::{Namespace, Node, NodeId, Offset, SessionId},
    inbox::{Delivery, Inbox, InboxSender, inbox},
    message::{Channel, Message, Response, Session, Stamp},
    outbox::Numbering,
    room::Room,
    transport::{Missed, Restored, Seat, Wanted},
};

/// How long publishers wait for a node whose inbox is full. After that its messages overflow until it has caught up.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Hub {
    name: String,
    config: MemoryConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<Namespace, HashMap<NodeId, Place>>,
    ring: Option<Ring>,
    sessions: HashMap<(Namespace, SessionId), (Instant, Session)>,
    /// Sessions in the order of their expiry; taken ones are still in it.
    expiries: VecDeque<(Instant, Namespace, SessionId)>,
}

/// A taken seat.
#[derive(Debug)]
struct Place {
    inbox: Arc<InboxSender>,
    wanted: Arc<dyn Wanted>,
    numbering: Numbering,
    /// It did not make room in time: nobody waits for it until it has.
    is_stuck: bool,
}

impl Hub {
    pub(super) fn new(name: &str, config: MemoryConfig) -> Self {
        let ring = config.history.map(Ring::new);
        Self { name: name.to_owned(), config, state: Mutex::new(State { ring, ..State::default() }) }
    }

    pub(super) fn config(&self) -> MemoryConfig {
        self.config
    }

    pub(super) fn join(&self, seat: Seat) -> Result<Inbox> {
        let Seat { node, wanted, counters, limits } = seat;
        let (sender, receiver) = inbox(limits, counters);
        sender.push([Delivery::Connected]);
        let mut state = self.lock();
        let places = state.namespaces.entry(node.namespace.clone()).or_default();
        if places.get(&node.id).is_some_and(|place| !place.inbox.is_closed()) {
            let context = format!("node {} is already in hub {:?}", node.id, self.name);
            return Err(Error::new(ErrorKind::Config, context));
        }
        places.insert(
            node.id,
            Place { inbox: Arc::new(sender), wanted, numbering: Numbering::default(), is_stuck: false },
        );
        Ok(receiver)
    }

    pub(super) fn leave(&self, node: &Node) {
        let mut state = self.lock();
        if let Some(places) = state.namespaces.get_mut(&node.namespace) {
            places.remove(&node.id);
            if places.is_empty() {
                state.namespaces.remove(&node.namespace);
            }
        }
    }

    /// Waits, for a while, until every node of the namespace has room. Nothing is lost as long as nobody is stuck.
    pub(super) async fn await_room(&self, namespace: &Namespace) {
        while let Some((node, inbox)) = self.full_inbox(namespace) {
            if timeout(PATIENCE, inbox.room()).await.is_err() {
                self.set_stuck(namespace, &node);
            }
        }
    }

    fn full_inbox(&self, namespace: &Namespace) -> Option<(NodeId, Arc<InboxSender>)> {
        let mut state = self.lock();
        let places = state.namespaces.get_mut(namespace)?;
        for (node, place) in places {
            match (place.inbox.is_full(), place.is_stuck) {
                (true, false) => return Some((node.clone(), Arc::clone(&place.inbox))),
                (is_full, _) => place.is_stuck = is_full,
            }
        }
        None
    }

    fn set_stuck(&self, namespace: &Namespace, node: &NodeId) {
        let mut state = self.lock();
        if let Some(place) = state.namespaces.get_mut(namespace).and_then(|places| places.get_mut(node)) {
            place.is_stuck = true;
        }
    }

    pub(super) fn publish(&self, from: &Node, mut message: Message) -> Result<()> {
        let mut state = self.lock();
        let State { namespaces, ring, .. } = &mut *state;
        let offset = ring.as_mut().and_then(|ring| ring.keep(&from.namespace, &message));
        let Some(places) = namespaces.get_mut(&from.namespace) else { return self.no_seat(from) };
        let is_emitter = from.id.is_emitter();
        let stamp = match places.get_mut(&from.id) {
            Some(place) => place.numbering.stamp(&from.id, Channel::ALL, &mut message),
            None if is_emitter => None,
            None => return self.no_seat(from),
        };
        if let Some(place) = places.get(&from.id)
            && ring.is_some()
            && matches!(message, Message::Broadcast { .. })
        {
            place.inbox.push([Delivery::Stored { message: message.clone(), offset: offset.clone() }]);
        }
        for (node, place) in places.iter().filter(|(node, _)| **node != from.id) {
            debug_assert_ne!(*node, from.id);
            place.deliver(&from.id, stamp, offset.as_ref(), &message);
        }
        bury(places);
        Ok(())
    }

    /// Emitters publish from outside; whoever else does must have joined.
    fn no_seat(&self, from: &Node) -> Result<()> {
        if from.id.is_emitter() {
            return Ok(());
        }
        let context = format!("node {} is not in namespace {} of hub {:?}", from.id, from.namespace, self.name);
        Err(Error::new(ErrorKind::Closed, context))
    }

    pub(super) fn send(&self, from: &Node, to: &NodeId, response: Response) -> Result<()> {
        let state = self.lock();
        if let Some(place) = state.namespaces.get(&from.namespace).and_then(|places| places.get(to)) {
            place.inbox.push([Delivery::Response { from: Some(from.id.clone()), response }]);
        }
        Ok(())
    }

    pub(super) fn persist(&self, node: &Node, session: Session) {
        let Some(limits) = self.config.history else { return };
        let expiry = Instant::now() + limits.session_ttl;
        let key = (node.namespace.clone(), session.id.clone());
        let mut state = self.lock();
        state.expire_sessions(limits.sessions.saturating_sub(1));
        state.expiries.push_back((expiry, key.0.clone(), key.1.clone()));
        state.sessions.insert(key, (expiry, session));
    }

    pub(super) fn restore(&self, node: &Node, id: &SessionId, since: &Offset) -> Result<Option<Restored>> {
        let mut state = self.lock();
        state.expire_sessions(usize::MAX);
        let key = (node.namespace.clone(), id.clone());
        let Some((_, session)) = state.sessions.remove(&key) else { return Ok(None) };
        let missed = state.replay(&node.namespace, since, &session.rooms)?;
        Ok(Some(Restored { session, missed }))
    }

    pub(super) fn replay(&self, node: &Node, since: &Offset, rooms: &[Room]) -> Result<Vec<Missed>> {
        self.lock().replay(&node.namespace, since, rooms)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn replay(&self, namespace: &Namespace, since: &Offset, rooms: &[Room]) -> Result<Vec<Missed>> {
        match &self.ring {
            Some(ring) => ring.replay(namespace, since, rooms),
            None => Err(Error::new(ErrorKind::Unsupported, "this hub keeps no history")),
        }
    }

    /// Drops the expired sessions, and the oldest ones beyond `most`.
    fn expire_sessions(&mut self, most: usize) {
        let now = Instant::now();
        while let Some((expiry, ..)) = self.expiries.front() {
            if *expiry > now && self.sessions.len() <= most {
                break;
            }
            let Some((expiry, namespace, id)) = self.expiries.pop_front() else { break };
            let key = (namespace, id);
            // A session that was persisted again since has a later expiry.
            if self.sessions.get(&key).is_some_and(|(kept, _)| *kept == expiry) {
                self.sessions.remove(&key);
            }
        }
    }
}

impl Place {
    fn deliver(&self, from: &NodeId, stamp: Option<Stamp>, offset: Option<&Offset>, message: &Message) {
        let unwanted = match message {
            Message::Broadcast { request: None, target, .. } => {
                target.single_room().is_some_and(|room| !self.inbox.wants(&*self.wanted, room))
            }
            _ => false,
        };
        self.inbox.push([if unwanted {
            Delivery::Skipped { from: from.clone(), stamp }
        } else {
            Delivery::Message { from: Some(from.clone()), stamp, offset: offset.cloned(), message: message.clone() }
        }]);
    }
}

/// Says goodbye for nodes that are gone without a word.
fn bury(places: &mut HashMap<NodeId, Place>) {
    let gone: Vec<_> =
        places.iter().filter(|(_, place)| place.inbox.is_closed()).map(|(node, _)| node.clone()).collect();
    for node in &gone {
        places.remove(node);
        for place in places.values() {
            place.deliver(node, None, None, &Message::Leaving);
        }
    }
}
