//! The embedded backend: a cluster within one process.
//!
//! Any number of nodes and namespaces meet in a hub; hubs of different names do not hear each other. Nothing can be
//! lost on the way, so this is the transport to develop with, and the one against which the conformance suite itself is
//! checked.

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
    error::{Error, ErrorKind, Result},
    model::{Capabilities, IdScheme, Membership, Message, NodeId, NodeKey, Offset, Response, Room, Session, SessionId},
    transport::{Backend, Health, History, Inbox, JoinRequest, MissedBroadcast, RestoredSession, Transport},
};

/// Options of a hub. All backends of one hub must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MemoryConfig {
    /// What is kept for clients that come back; `None`, the default, for nothing.
    pub history: Option<HistoryLimits>,
}

/// How many messages and sessions a hub keeps, and for how long.
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

/// Backend of the hub with this name, which is made if it does not exist yet.
///
/// # Errors
/// `Config` if the hub exists with other options.
///
/// ```
/// use trunkline_core::memory::{MemoryConfig, backend};
///
/// let backend = backend("chat", MemoryConfig::default())?;
/// assert!(backend.capabilities()?.total_order);
/// # Ok::<(), trunkline_core::Error>(())
/// ```
pub fn backend(name: &str, config: MemoryConfig) -> Result<Backend> {
    let hub = hub(name, config)?;
    let transport = Arc::new(MemoryTransport { hub });
    let backend = Backend::new(Arc::clone(&transport) as Arc<dyn Transport>, IdScheme::Hex16).with_name("memory");
    Ok(if config.history.is_some() { backend.with_history(transport) } else { backend })
}

/// Hubs by name. They live as long as a backend of theirs is held.
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

/// Transport over one hub.
#[derive(Debug)]
pub struct MemoryTransport {
    hub: Arc<Hub>,
}

#[async_trait]
impl Transport for MemoryTransport {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(Membership::Heartbeats)
            .with_total_order(true)
            .with_acknowledged_in_order(true)
            .with_numbered(true)
            .with_announced_leave(true)
            .with_named_answers(true)
            .with_all_rooms_request(true)
            .with_room_interest(true)
    }

    async fn join(&self, request: JoinRequest) -> Result<Inbox> {
        self.hub.join(request)
    }

    fn try_publish(&self, from: &NodeKey, message: Message) -> Result<Option<Message>> {
        self.hub.try_publish(from, message)
    }

    async fn publish(&self, from: &NodeKey, message: Message) -> Result<()> {
        self.hub.publish(from, message).await
    }

    async fn send(&self, from: &NodeKey, to: &NodeId, response: &Response) -> Result<()> {
        self.hub.send(from, to, response)
    }

    async fn leave(&self, node: &NodeKey) -> Result<()> {
        self.hub.leave(node);
        Ok(())
    }

    /// What was published has arrived.
    async fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn health(&self) -> Health {
        Health::default().with_connected(true)
    }

    /// There is nothing to end: nodes end by themselves.
    async fn close(&self) {}
}

#[async_trait]
impl History for MemoryTransport {
    async fn persist(&self, node: &NodeKey, session: Session) -> Result<()> {
        self.hub.persist(node, session);
        Ok(())
    }

    async fn restore(&self, node: &NodeKey, id: &SessionId, since: &Offset) -> Result<Option<RestoredSession>> {
        self.hub.restore(node, id, since)
    }

    async fn replay(&self, node: &NodeKey, since: &Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.hub.replay(node, since, rooms)
    }

    async fn reach(&self, _: &NodeKey) -> Result<Option<Duration>> {
        Ok(self.hub.reach())
    }
}
