//! The embedded transport: a cluster within one process.
//!
//! Any number of nodes and namespaces meet in a hub; hubs of different names do not hear each other. Nothing can be lost on the way, so
//! this is the transport to develop with, and the one against which the conformance suite itself is checked.

mod hub;
mod ring;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;

use self::hub::Hub;
use crate::{
    capabilities::{Capabilities, Membership},
    error::{Error, ErrorKind, Result},
    id::{IdScheme, Node, NodeId, Offset, SessionId},
    inbox::Inbox,
    message::{Message, Response, Session},
    room::Room,
    settings::{Bytes, Query, redact},
    transport::{Backend, Health, History, Missed, Restored, Seat, Transport},
};

/// Options of a hub. Those who meet in a hub must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MemoryConfig {
    /// Keep messages and sessions for clients that come back. Off by default.
    pub history: Option<HistoryLimits>,
}

/// How much a hub keeps, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Messages, over all namespaces. Default 10,000.
    pub messages: usize,
    /// Bytes of payload, over all namespaces. Default 64 MiB.
    pub bytes: usize,
    /// How long a session can be restored, as `maxDisconnectionDuration` of Socket.IO. Default 2 min.
    pub session_ttl: Duration,
    /// Sessions that may wait; beyond it the oldest goes. Default 100,000.
    pub sessions: usize,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self { messages: 10_000, bytes: 64 << 20, session_ttl: Duration::from_secs(120), sessions: 100_000 }
    }
}

/// The backend of the hub with this name, which is made if nobody is in it yet.
///
/// # Errors
/// `Config` if the hub exists with other options.
///
/// ```
/// use trunkline_core::memory::{MemoryConfig, backend};
///
/// let backend = backend("chat", MemoryConfig::default())?;
/// assert!(backend.transport.capabilities().total_order);
/// # Ok::<(), trunkline_core::Error>(())
/// ```
pub fn backend(name: &str, config: MemoryConfig) -> Result<Backend> {
    let hub = hub(name, config)?;
    let transport = Arc::new(MemoryTransport { hub });
    let history = config.history.map(|_| Arc::clone(&transport) as Arc<dyn History>);
    Ok(Backend { transport, history, interest: None, census: None, ids: IdScheme::Hex16 })
}

impl MemoryConfig {
    /// Reads the name of the hub and its options from a URL: `memory:`, `memory://NAME` and the parameters of
    /// [the table in the facade's README](https://docs.rs/trunkline).
    ///
    /// # Errors
    /// `Config`, naming what is wrong and what is allowed.
    pub fn from_url(url: &str) -> Result<(String, Self)> {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        let name = match address.strip_prefix("memory:") {
            Some("" | "//") => "",
            Some(rest) => rest.strip_prefix("//").filter(|name| is_hub_name(name)).ok_or_else(|| not_a_hub(url))?,
            None => return Err(not_a_hub(url)),
        };
        let mut query = Query::parse(query);
        let defaults = HistoryLimits::default();
        let is_on = query.take("history")?.unwrap_or(false);
        let limits = HistoryLimits {
            messages: query.take("history_messages")?.unwrap_or(defaults.messages),
            bytes: query.take("history_bytes")?.map_or(defaults.bytes, |Bytes(bytes)| bytes),
            session_ttl: query.take("session_ttl")?.unwrap_or(defaults.session_ttl),
            sessions: query.take("sessions")?.unwrap_or(defaults.sessions),
        };
        query.finish()?;
        Ok((name.to_owned(), Self { history: is_on.then_some(limits) }))
    }
}

fn is_hub_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
}

fn not_a_hub(url: &str) -> Error {
    let context =
        format!("{:?} names no hub; allowed are memory: and memory://NAME with letters, digits, - _ .", redact(url));
    Error::new(ErrorKind::Config, context)
}

/// Hubs live as long as someone holds a backend of theirs.
static HUBS: Mutex<Option<HashMap<String, Weak<Hub>>>> = Mutex::new(None);

fn hub(name: &str, config: MemoryConfig) -> Result<Arc<Hub>> {
    let mut hubs = HUBS.lock().unwrap_or_else(PoisonError::into_inner);
    let hubs = hubs.get_or_insert_default();
    if let Some(hub) = hubs.get(name).and_then(Weak::upgrade) {
        if hub.config() == config {
            return Ok(hub);
        }
        let context = format!("hub {name:?} exists with {:?}, not {config:?}", hub.config());
        return Err(Error::new(ErrorKind::Config, context));
    }
    hubs.retain(|_, hub| hub.strong_count() > 0);
    let hub = Arc::new(Hub::new(name, config));
    hubs.insert(name.to_owned(), Arc::downgrade(&hub));
    Ok(hub)
}

/// The transport over one hub.
#[derive(Debug)]
pub struct MemoryTransport {
    hub: Arc<Hub>,
}

#[async_trait]
impl Transport for MemoryTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            membership: Membership::Heartbeats,
            total_order: true,
            acknowledged_in_order: true,
            numbered: true,
            announced_leave: true,
            named_answers: true,
            all_rooms_request: true,
            room_interest: true,
            history: self.hub.config().history.is_some(),
            max_message_bytes: None,
        }
    }

    async fn join(&self, seat: Seat) -> Result<Inbox> {
        self.hub.join(seat)
    }

    async fn publish(&self, from: &Node, message: Message) -> Result<()> {
        self.hub.publish(from, message).await
    }

    async fn send(&self, from: &Node, to: &NodeId, response: Response) -> Result<()> {
        self.hub.send(from, to, response)
    }

    async fn leave(&self, node: &Node) -> Result<()> {
        self.hub.leave(node);
        Ok(())
    }

    fn health(&self) -> Health {
        Health { connected: true, ..Health::default() }
    }

    /// There is nothing to end: seats end with their nodes.
    async fn close(&self) {}
}

#[async_trait]
impl History for MemoryTransport {
    async fn persist(&self, node: &Node, session: Session) -> Result<()> {
        self.hub.persist(node, session);
        Ok(())
    }

    async fn restore(&self, node: &Node, id: &SessionId, since: &Offset) -> Result<Option<Restored>> {
        self.hub.restore(node, id, since)
    }

    async fn replay(&self, node: &Node, since: &Offset, rooms: &[Room]) -> Result<Vec<Missed>> {
        self.hub.replay(node, since, rooms)
    }
}
