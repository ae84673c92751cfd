//! Sessions of sockets that are still connected, as far as their server knows, while their clients come back elsewhere.
//!
//! A client may reconnect long before its former connection is known to be dead: no session is stored then. The node
//! that is to restore it asks the others with a server-side event. Official peers have no handler for it, and are not
//! waited for.
//!
//! A client may also begin anew under its session id, when no node could restore it. Each node tells which socket has a
//! session from now on, with a mark that has its place in the history: all nodes agree which socket was the last one.
//! What another node stores of an older socket is out of date, however late it notices that this one is gone.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::{Instant, sleep, timeout};

use super::{ClusterNode, handle::Shared};
use crate::{
    codec::session,
    error::{ErrorKind, Result},
    model::{HistoryKind, HistoryOutcome, Message, Offset, Room, Session, SessionId, SocketId, SocketInfo, Target},
    payload::Payload,
    server::Local,
    transport::RestoredSession,
};

/// The event that asks for a session by its id; as a mark, it tells its id and that of the socket that has it now.
const EVENT: &str = "trunkline:session";

/// How long the other nodes are waited for.
const LIMIT: Duration = Duration::from_secs(2);

/// Pause between two looks for a session that is just being stored.
const PAUSE: Duration = Duration::from_millis(50);

/// Sockets whose session is out of date that are remembered, and sessions of the whole cluster with their sockets.
const MAX_REMEMBERED: usize = 1 << 16;

/// From so many sessions on, those of closed sockets are looked for.
const SWEEP_MIN: usize = 64;

/// The sessions of the sockets of one node.
#[derive(Debug, Default)]
pub(super) struct LiveSessions {
    state: Mutex<State>,
    /// When the node last began to catch up with what others had told.
    caught_up: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Debug, Default)]
struct State {
    sockets: HashMap<SessionId, LiveSocket>,
    sweep_at: usize,
    /// Sockets whose client has come back: what is to be stored of them is out of date.
    taken: Recent<SocketId, ()>,
    /// Sessions, and the sockets of any node that had them last.
    latest: Recent<SessionId, SocketId>,
}

/// A connected socket that has a session.
#[derive(Debug)]
struct LiveSocket {
    id: SocketId,
    /// Whether the mark that tells it has come back: a later one of another node is for a later socket.
    is_told: bool,
}

/// A map that forgets its oldest keys.
#[derive(Debug)]
struct Recent<K, V> {
    entries: HashMap<K, V>,
    oldest: VecDeque<K>,
}

/// Where a session is that is not stored.
enum Found {
    /// Here: its socket is closed now.
    Session(Session),
    /// Its socket is gone, and it is not stored yet.
    Closing,
}

impl LiveSessions {
    /// Returns whether that is to be told.
    fn set(&self, id: SessionId, socket: &SocketId, is_open: impl Fn(&SocketId) -> bool) -> bool {
        let mut state = self.lock();
        if let Some(own) = state.sockets.get(&id).filter(|own| own.id == *socket) {
            return !own.is_told;
        }
        if let Some(former) = state.sockets.insert(id, LiveSocket { id: socket.clone(), is_told: false }) {
            state.taken.insert(former.id, ());
        }
        if state.sockets.len() >= state.sweep_at {
            state.sockets.retain(|_, other| other.id == *socket || is_open(&other.id));
            state.sweep_at = (state.sockets.len() * 2).max(SWEEP_MIN);
        }
        true
    }

    /// Notes which socket of any node has a session now, if the mark tells that. To be called in the order of the
    /// history.
    pub(super) fn note(&self, mark: &Payload) {
        if mark.event_name().as_deref() != Some(EVENT) {
            return;
        }
        let Ok((id, socket)) = mark.arguments::<(String, String)>() else { return };
        let (Ok(id), Ok(socket)) = (SessionId::new(id), SocketId::new(socket)) else { return };
        let mut state = self.lock();
        match state.sockets.get_mut(&id) {
            Some(own) if own.id == socket => own.is_told = true,
            Some(own) if own.is_told => {
                let former = own.id.clone();
                state.sockets.remove(&id);
                state.taken.insert(former, ());
            }
            _ => {}
        }
        state.latest.insert(id, socket);
    }

    /// Whether the session is that of a socket of which [`ClusterNode::set_session`] told.
    fn is_known(&self, session: &Session) -> bool {
        self.lock().has(&session.id, &session.socket)
    }

    /// Whether the client of the session's socket has come back already.
    fn is_out_of_date(&self, session: &Session) -> bool {
        self.lock().taken.get(&session.socket).is_some()
    }

    /// Whether another socket has had the session since.
    fn is_superseded(&self, session: &Session) -> bool {
        self.lock().latest.get(&session.id).is_some_and(|socket| *socket != session.socket)
    }

    fn stored(&self, session: &SessionId, socket: &SocketId) {
        let mut state = self.lock();
        if state.has(session, socket) {
            state.sockets.remove(session);
        }
    }

    /// Takes a session from its socket, and disconnects that.
    fn hand_over(&self, id: &SessionId, local: &dyn Local) -> Option<Found> {
        let socket = self.lock().sockets.get(id)?.id.clone();
        let mut target = Target::room(socket.as_str());
        let (found, others): (Vec<_>, _) = local.sockets(&target).into_iter().partition(|other| other.id == socket);
        let Some(SocketInfo { mut rooms, data, .. }) = found.into_iter().next() else { return Some(Found::Closing) };
        {
            let mut state = self.lock();
            if !state.has(id, &socket) {
                return None;
            }
            state.sockets.remove(id);
            state.taken.insert(socket.clone(), ());
        }
        // Any socket may have joined a room of this name.
        for other in others {
            target = target.except(other.id.as_str());
        }
        local.disconnect(&target, true);
        let own_room = Room::from(socket.as_str());
        rooms.retain(|room| *room != own_room);
        let session = Session::new(id.clone(), socket, rooms);
        // What a socket without data is described with.
        let data = data.filter(|data| data.as_json_text() != Some("{}"));
        Some(Found::Session(session.with_data(data)))
    }

    /// The answer to another node that asks; `None` to any other event.
    pub(super) fn answer(&self, event: &Payload, local: &dyn Local) -> Option<Option<Payload>> {
        if event.event_name().as_deref() != Some(EVENT) {
            return None;
        }
        let (id,): (String,) = event.arguments().ok()?;
        let found = self.hand_over(&SessionId::new(&id).ok()?, local);
        Some(found.and_then(|found| match found {
            Found::Closing => Payload::value(&false).ok(),
            Found::Session(session) => session::encode(session).map(binary).ok(),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has(&self, session: &SessionId, socket: &SocketId) -> bool {
        self.sockets.get(session).is_some_and(|own| own.id == *socket)
    }
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_none() {
            self.oldest.push_back(key);
        }
        if self.oldest.len() > MAX_REMEMBERED {
            self.oldest.pop_front().iter().for_each(|oldest| drop(self.entries.remove(oldest)));
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), oldest: VecDeque::new() }
    }
}

impl ClusterNode {
    /// Tells under which id the session of a connected socket is known to its client, here and to all nodes of ours. If
    /// the client comes back before this node has noticed that it was gone, [`ClusterNode::restore_session`] finds the
    /// session: the former socket is disconnected. Nothing is stored any more for a socket that had the session before.
    ///
    /// # Errors
    /// `Unsupported` without history; otherwise as [`ClusterNode::broadcast`].
    pub async fn set_session(&self, id: SessionId, socket: &SocketId) -> Result<()> {
        self.check_open()?;
        self.history()?;
        let local = self.local()?;
        let payload = Payload::event(EVENT, &(id.as_str(), socket.as_str()))?;
        let is_open = |socket: &SocketId| local.has_room(&Room::from(socket.as_str()));
        if !self.shared.sessions.set(id, socket, is_open) {
            return Ok(());
        }
        self.publish(Message::Broadcast { request: None, target: Target::mark(), payload }).await
    }

    /// Keeps the session of a client that may come back; not if it has come back already, here or at another node of
    /// ours: if [`ClusterNode::set_session`] told of the socket, what other nodes have told is heard first.
    ///
    /// # Errors
    /// `Unsupported` without history.
    pub async fn persist_session(&self, session: Session) -> Result<()> {
        self.check_open()?;
        let history = self.history()?;
        let Shared { node, sessions, .. } = &*self.shared;
        if sessions.is_known(&session) {
            self.catch_up().await;
        }
        if sessions.is_out_of_date(&session) {
            tracing::debug!(socket = %session.socket, "a session is not stored: its client has come back");
            return Ok(());
        }
        let (id, socket) = (session.id.clone(), session.socket.clone());
        let stored = history.persist(node, session).await;
        self.note_history(HistoryKind::Persist, &stored, |()| (HistoryOutcome::Complete, 0));
        stored?;
        sessions.stored(&id, &socket);
        Ok(())
    }

    /// Takes a session, once, with what it missed since `since`; `None` if it is unknown or expired. A session that is
    /// not stored yet is taken from its socket ([`ClusterNode::set_session`]); nodes of ours that do not answer are
    /// waited for up to 2 s.
    ///
    /// # Errors
    /// `Unsupported` without history, `HistoryLost` if the history no longer reaches back that far.
    pub async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        self.check_open()?;
        let result = self.find_and_restore(id, since).await;
        self.note_history(HistoryKind::Restore, &result, |restored| match restored {
            Some(restored) => (HistoryOutcome::Complete, restored.missed.len()),
            None => (HistoryOutcome::Unknown, 0),
        });
        result
    }

    async fn find_and_restore(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        let (history, Shared { node, sessions, .. }) = (self.history()?, &*self.shared);
        let stored = history.restore(node, &id, &since).await?;
        if stored.as_ref().is_some_and(|stored| !sessions.is_superseded(&stored.session)) {
            return Ok(stored);
        }
        let limit = Instant::now() + LIMIT.min(self.shared.config.request_timeout);
        let found = match self.find_session(&id).await {
            Err(error) if stored.is_none() => return Err(error),
            found => found.ok().flatten(),
        };
        let Some(Found::Session(session)) = found else {
            // It may have been stored meanwhile, or is about to be.
            loop {
                let restored = history.restore(node, &id, &since).await?;
                if restored.is_some() || found.is_none() || Instant::now() > limit {
                    return Ok(restored.or(stored));
                }
                sleep(PAUSE).await;
            }
        };
        match self.replay(since, &session.rooms_with_own()).await {
            Ok(missed) => Ok(Some(RestoredSession { session, missed })),
            Err(error) => {
                // It can be asked for again, as one that was stored.
                history.persist(node, session).await?;
                Err(error)
            }
        }
    }

    /// Returns when everything that other nodes have told until now has been heard here: a message that changes no socket
    /// has come back from the history. Ends after the request time-out: a session that might be out of date is better
    /// than none. Those who wait at the same time share one message.
    async fn catch_up(&self) {
        let asked = Instant::now();
        let mut caught_up = self.shared.sessions.caught_up.lock().await;
        if caught_up.is_some_and(|began| began >= asked) {
            return;
        }
        *caught_up = Some(Instant::now());
        let message = Message::Leave { target: Target::mark(), rooms: Vec::new() };
        let applied = self.shared.returning.expect(&message);
        match self.publish(message).await {
            Ok(()) => drop(timeout(self.shared.config.request_timeout, applied).await),
            Err(error) => tracing::debug!(%error, "sessions are stored without a look at what other nodes have told"),
        }
    }

    async fn find_session(&self, id: &SessionId) -> Result<Option<Found>> {
        if let Some(found) = self.shared.sessions.hand_over(id, &*self.local()?) {
            return Ok(Some(found));
        }
        let event = Payload::event(EVENT, &(id.as_str(),))?;
        let limit = LIMIT.min(self.shared.config.request_timeout);
        let answers = match self.request_session(event, limit).await {
            Ok(answers) => answers,
            Err(error) if error.kind() == ErrorKind::Timeout => error.into_received()?,
            Err(error) => return Err(error.into()),
        };
        let Some(answer) = answers.into_iter().flatten().next() else { return Ok(None) };
        match attachment(&answer) {
            Some(bytes) => session::decode(id, &bytes).map(|session| Some(Found::Session(session))),
            None => Ok(Some(Found::Closing)),
        }
    }
}

/// A value that is nothing but bytes.
fn binary(bytes: Vec<u8>) -> Payload {
    Payload::from_trusted_json(r#"{"_placeholder":true,"num":0}"#, vec![bytes.into()])
}

fn attachment(value: &Payload) -> Option<Bytes> {
    value.to_json().attachments.first().cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_bytes_is_known_in_both_encodings() {
        let value = binary(vec![1, 2, 3]);
        assert_eq!(attachment(&value).unwrap().as_ref(), [1, 2, 3]);
        assert_eq!(attachment(&Payload::value(&Bytes::from_static(b"ab")).unwrap()).unwrap().as_ref(), b"ab");
        assert_eq!(attachment(&Payload::value(&false).unwrap()), None);
    }

    #[test]
    fn sockets_whose_session_was_taken_are_forgotten_in_the_end() {
        let sessions = LiveSessions::default();
        let socket = |number: usize| SocketId::new(number.to_string()).unwrap();
        let session = |number| Session::new(SessionId::new("s").unwrap(), socket(number), Vec::new());
        for number in 0..=MAX_REMEMBERED + 1 {
            sessions.set(SessionId::new("s").unwrap(), &socket(number), |_| true);
        }
        assert!(!sessions.is_out_of_date(&session(0)));
        assert!(sessions.is_out_of_date(&session(1)));
        assert!(!sessions.is_out_of_date(&session(MAX_REMEMBERED + 1)), "it is the present one");
    }

    #[test]
    fn sessions_of_closed_sockets_do_not_accumulate() {
        let sessions = LiveSessions::default();
        for number in 0..10_000 {
            let id = number.to_string();
            sessions.set(SessionId::new(&id).unwrap(), &SocketId::new(&id).unwrap(), |_| false);
        }
        assert!(sessions.lock().sockets.len() <= SWEEP_MIN);
    }
}
