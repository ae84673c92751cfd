//! A hub: the cluster of the nodes of one process.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{MemoryConfig, ring::Ring};
use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        Delivery, Message, Namespace, NodeId, NodeKey, Offset, Response, Room, SeqChannel, SeqNo, Session, SessionId,
    },
    transport::{Inbox, InboxSender, JoinRequest, MissedBroadcast, RestoredSession, RoomFilter, Sequencer, inbox},
};

/// How long publishers wait for a node whose inbox is full. After that its messages overflow until it has caught up.
const MAX_WAIT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Hub {
    name: String,
    config: MemoryConfig,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    namespaces: HashMap<Namespace, HashMap<NodeId, JoinedNode>>,
    ring: Option<Ring>,
    sessions: HashMap<(Namespace, SessionId), (Instant, Session)>,
    /// Sessions in the order of their expiry; taken ones are still in it.
    expiries: VecDeque<(Instant, Namespace, SessionId)>,
}

/// A node that has joined.
#[derive(Debug)]
struct JoinedNode {
    inbox: Arc<InboxSender>,
    room_filter: Arc<dyn RoomFilter>,
    sequencer: Sequencer,
    /// Whether it did not make room in time: publishers do not wait for it until it has.
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

    pub(super) fn join(&self, request: JoinRequest) -> Result<Inbox> {
        let JoinRequest { node, room_filter, metrics, limits } = request;
        let (sender, receiver) = inbox(limits, metrics);
        sender.push([Delivery::Connected]);
        let mut state = self.lock();
        let nodes = state.namespaces.entry(node.namespace.clone()).or_default();
        if nodes.get(&node.id).is_some_and(|joined| !joined.inbox.is_closed()) {
            let context = format!("node {} is already in hub {:?}", node.id, self.name);
            return Err(Error::new(ErrorKind::Config, context));
        }
        nodes.insert(
            node.id,
            JoinedNode { inbox: Arc::new(sender), room_filter, sequencer: Sequencer::default(), is_stuck: false },
        );
        Ok(receiver)
    }

    pub(super) fn leave(&self, node: &NodeKey) {
        let mut state = self.lock();
        if let Some(nodes) = state.namespaces.get_mut(&node.namespace) {
            nodes.remove(&node.id);
            if nodes.is_empty() {
                state.namespaces.remove(&node.namespace);
            }
        }
    }

    /// Publishes once every node of the namespace has room, for which it waits a while. Nothing is lost as long as no
    /// node is stuck.
    pub(super) async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        loop {
            let (node, inbox) = {
                let mut state = self.lock();
                match state.full_inbox(&from.namespace) {
                    Some(full) => full,
                    // Under the same lock, or others who have seen the same room would take it first.
                    None if state.publish(from, message) => return Ok(()),
                    None => return Err(self.not_joined(from)),
                }
            };
            if timeout(MAX_WAIT, inbox.ready()).await.is_err() {
                self.set_stuck(&from.namespace, &node);
            }
        }
    }

    /// Hands the message back if a node has no room for it.
    pub(super) fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        let mut state = self.lock();
        if state.full_inbox(&from.namespace).is_some() {
            return Ok(Some(message));
        }
        if state.publish(from, message) { Ok(None) } else { Err(self.not_joined(from)) }
    }

    fn set_stuck(&self, namespace: &Namespace, node: &NodeId) {
        let mut state = self.lock();
        if let Some(joined) = state.namespaces.get_mut(namespace).and_then(|nodes| nodes.get_mut(node)) {
            joined.is_stuck = true;
        }
    }

    fn not_joined(&self, from: &NodeKey) -> Error {
        let context = format!("node {} is not in namespace {} of hub {:?}", from.id, from.namespace, self.name);
        Error::new(ErrorKind::Closed, context)
    }

    pub(super) fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        let state = self.lock();
        if let Some(joined) = state.namespaces.get(&from.namespace).and_then(|nodes| nodes.get(to)) {
            let response = response.clone();
            joined.inbox.push([Delivery::Response { from: Some(from.id.clone()), response }]);
        }
        Ok(())
    }

    pub(super) fn persist(&self, node: &NodeKey, session: Session) {
        let Some(limits) = self.config.history else { return };
        let expiry = Instant::now() + limits.session_ttl;
        let key = (node.namespace.clone(), session.id.clone());
        let mut state = self.lock();
        state.expire_sessions(limits.sessions.saturating_sub(1));
        state.forget_taken();
        state.expiries.push_back((expiry, key.0.clone(), key.1.clone()));
        state.sessions.insert(key, (expiry, session));
    }

    pub(super) fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        let mut state = self.lock();
        // A session is not taken without a valid offset.
        state.ring.as_ref().map(|ring| ring.check(since)).transpose()?;
        state.expire_sessions(usize::MAX);
        let key = (node.namespace.clone(), id.clone());
        let Some((_, session)) = state.sessions.remove(&key) else { return Ok(None) };
        let missed = state.replay(&node.namespace, since, &session.rooms_with_own())?;
        Ok(Some(RestoredSession { session, missed }))
    }

    pub(super) fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.lock().replay(&node.namespace, since, rooms)
    }

    pub(super) fn reach(&self) -> Option<Duration> {
        self.lock().ring.as_ref().and_then(Ring::reach)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn full_inbox(&mut self, namespace: &Namespace) -> Option<(NodeId, Arc<InboxSender>)> {
        for (node, joined) in self.namespaces.get_mut(namespace)? {
            match (joined.inbox.is_full(), joined.is_stuck) {
                (true, false) => return Some((node.clone(), Arc::clone(&joined.inbox))),
                (is_full, _) => joined.is_stuck = is_full,
            }
        }
        None
    }

    /// Publishes a message. Returns `false` if the sender is no emitter and has not joined.
    fn publish(&mut self, from: &NodeKey, mut message: Message) -> bool {
        let mut nodes = self.namespaces.get_mut(&from.namespace);
        let joined = nodes.as_deref_mut().and_then(|nodes| nodes.get_mut(&from.id));
        if joined.is_none() && !from.id.is_emitter() {
            return false;
        }
        let seq_no = joined.and_then(|joined| joined.sequencer.assign(&from.id, SeqChannel::ALL, &mut message));
        let offset = self.ring.as_mut().and_then(|ring| ring.keep(&from.namespace, &message));
        let Some(nodes) = nodes else { return true };
        if let Some(joined) = nodes.get(&from.id)
            && (self.ring.is_some() || matches!(message, Message::Heartbeat(_)))
        {
            joined.inbox.push([match &message {
                message if self.ring.is_some() && returns(message) => {
                    Delivery::Stored { seq_no, message: message.clone(), offset: offset.clone() }
                }
                _ => Delivery::Skipped { from: from.id.clone(), seq_no },
            }]);
        }
        for (_, joined) in nodes.iter().filter(|(node, _)| **node != from.id) {
            joined.deliver(&from.id, seq_no, offset.as_ref(), &message);
        }
        announce_leaves(nodes);
        true
    }

    fn replay(&self, namespace: &Namespace, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        match &self.ring {
            Some(ring) => ring.replay(namespace, since, rooms),
            None => Err(Error::new(ErrorKind::Unsupported, "this hub keeps no history")),
        }
    }

    /// Drops the expiries of sessions that were taken, or persisted again, once they are most of them.
    fn forget_taken(&mut self) {
        if self.expiries.len() <= 2 * self.sessions.len() + 16 {
            return;
        }
        let sessions = &self.sessions;
        self.expiries.retain(|(expiry, namespace, id)| {
            sessions.get(&(namespace.clone(), id.clone())).is_some_and(|(kept, _)| kept == expiry)
        });
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

impl JoinedNode {
    fn deliver(&self, from: &NodeId, seq_no: Option<SeqNo>, offset: Option<&Offset>, message: &Message) {
        let unwanted = match message {
            Message::Broadcast { request: None, target, .. } => {
                target.single_room().is_some_and(|room| !self.inbox.may_have_members(&*self.room_filter, room))
            }
            _ => false,
        };
        self.inbox.push([if unwanted {
            Delivery::Skipped { from: from.clone(), seq_no }
        } else {
            Delivery::Message { from: Some(from.clone()), seq_no, offset: offset.cloned(), message: message.clone() }
        }]);
    }
}

/// Whether a message is delivered to its sender in its place.
fn returns(message: &Message) -> bool {
    matches!(message, Message::Broadcast { .. }) || message.changes_sockets()
}

/// Announces the leave of nodes that were dropped without leaving.
fn announce_leaves(nodes: &mut HashMap<NodeId, JoinedNode>) {
    let gone: Vec<_> =
        nodes.iter().filter(|(_, joined)| joined.inbox.is_closed()).map(|(node, _)| node.clone()).collect();
    for node in &gone {
        nodes.remove(node);
        for joined in nodes.values() {
            joined.deliver(node, None, None, &Message::Leaving);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::{
        memory::HistoryLimits,
        model::{NodeMetrics, SocketId, Target},
        payload::Payload,
        transport::{InboxLimits, Unfiltered},
    };

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new("test", MemoryConfig { history: Some(HistoryLimits::default()) }))
    }

    fn node(name: &str) -> NodeKey {
        NodeKey { id: NodeId::new(name).unwrap(), namespace: Namespace::new("/") }
    }

    fn join_request(name: &str, messages: usize) -> JoinRequest {
        let limits = InboxLimits { messages, ..InboxLimits::default() };
        JoinRequest { node: node(name), room_filter: Arc::new(Unfiltered), metrics: Arc::default(), limits }
    }

    fn broadcast() -> Message {
        Message::Broadcast { request: None, target: Target::all(), payload: Payload::event("e", &()).unwrap() }
    }

    fn session() -> Session {
        let (id, socket) = (SessionId::new("secret").unwrap(), SocketId::new("socket").unwrap());
        Session { id, socket, rooms: Vec::new(), data: None }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn what_several_tasks_publish_at_once_waits_for_room_and_arrives() {
        const TASKS: usize = 8;
        const EACH: usize = 2000;
        let hub = hub();
        let request = join_request("slow", 1);
        let metrics: Arc<NodeMetrics> = Arc::clone(&request.metrics);
        let mut inbox = hub.join(request).unwrap();
        let publish = async |hub: Arc<Hub>| {
            for _ in 0..EACH {
                hub.publish(&NodeKey { id: NodeId::EMITTER, ..node("slow") }, broadcast()).await.unwrap();
            }
        };
        let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(publish(Arc::clone(&hub)))).collect();
        let (mut arrived, mut batch) = (0, VecDeque::new());
        while arrived < TASKS * EACH && metrics.snapshot().inbox_overflow == 0 {
            assert!(inbox.next_batch(&mut batch).await);
            arrived += batch.drain(..).filter(|delivery| matches!(delivery, Delivery::Message { .. })).count();
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        assert_eq!(metrics.snapshot().inbox_overflow, 0);
    }

    #[tokio::test]
    async fn an_offset_that_is_none_takes_no_session_and_the_largest_one_is_no_harm() {
        let hub = hub();
        let _inbox = hub.join(join_request("a", 100)).unwrap();
        hub.persist(&node("a"), session());
        let restore = |offset: &str| hub.restore(&node("a"), &session().id, &Offset::new(offset).unwrap());
        assert_eq!(restore("none").unwrap_err().kind(), ErrorKind::Malformed);
        hub.publish(&node("a"), broadcast()).await.unwrap();
        let first = hub.lock().ring.as_ref().unwrap().offset(1);
        let largest = first.as_str().replace("-1", &format!("-{}", u64::MAX));
        let replayed = hub.replay(&node("a"), &Offset::new(largest).unwrap(), &[]);
        assert_eq!(replayed.unwrap_err().kind(), ErrorKind::HistoryLost);
        assert!(restore(first.as_str()).unwrap().is_some(), "it is still there");
    }

    #[test]
    fn sessions_that_were_taken_leave_nothing_behind() {
        let hub = hub();
        hub.lock().ring.as_mut().unwrap().keep(&node("a").namespace, &broadcast());
        let first = hub.lock().ring.as_ref().unwrap().offset(1);
        for _ in 0..1000 {
            hub.persist(&node("a"), session());
            hub.persist(&node("a"), session());
            assert!(hub.restore(&node("a"), &session().id, &first).unwrap().is_some());
        }
        assert!(hub.lock().expiries.len() < 100);
    }

    #[tokio::test]
    async fn who_has_not_joined_publishes_nothing() {
        let hub = hub();
        assert_eq!(hub.publish(&node("stranger"), broadcast()).await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(hub.lock().ring.as_ref().unwrap().is_empty());
    }
}
