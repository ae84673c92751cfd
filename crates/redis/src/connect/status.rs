//! Whether the connections of a transport stand.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;
use trunkline_backend::{Direction, Loss};
use trunkline_core::transport::Health;

use super::topology::Destination;

/// Written by the tasks of the connections.
#[derive(Debug)]
pub(crate) struct Status {
    publishing: Mutex<Publishing>,
    reconnects: AtomicU64,
    inbound: Mutex<Inbound>,
    /// The subscriptions at a server; without an entry there are none.
    listening: watch::Sender<HashMap<Destination, Subscribed>>,
}

/// The subscriptions at one server.
#[derive(Clone, Copy, Debug, Default)]
struct Subscribed {
    /// Whether they are known to stand.
    stands: bool,
    /// How often they did not, any more.
    doubts: usize,
    /// How many [`Hold`]s there are.
    holds: usize,
}

impl Subscribed {
    fn set(&mut self, stands: bool) {
        self.doubts += usize::from(self.stands && !stands);
        self.stands = stands;
    }

    fn may_publish(self) -> bool {
        self.stands && self.holds == 0
    }
}

/// The connections over which something is published.
#[derive(Debug, Default)]
struct Publishing {
    is_connected: bool,
    loss: Loss,
}

/// The connections over which something is received.
#[derive(Debug, Default)]
struct Inbound {
    /// Connections that are down although something is wanted from them, and subscriptions on their way to another
    /// server.
    subscribers_down: usize,
    /// The nodes were told of a loss, and not of the return.
    is_lost: bool,
    loss: Loss,
}

impl Default for Status {
    fn default() -> Self {
        // What is lost for publishing is noted there, too.
        let inbound = Inbound { loss: Loss::of("Redis"), ..Inbound::default() };
        Self {
            publishing: Mutex::default(),
            reconnects: AtomicU64::default(),
            inbound: Mutex::new(inbound),
            listening: watch::Sender::default(),
        }
    }
}

impl Status {
    /// Logs no loss any more: the transport is closing.
    pub(crate) fn silence(&self) {
        self.inbound().loss.silence();
    }

    /// All publishing connections stand, or one does not, for this reason.
    pub(crate) fn set_publishing(&self, failure: Option<&str>) {
        let mut publishing = self.publishing();
        publishing.is_connected = failure.is_none();
        match failure {
            Some(reason) => publishing.loss.note(format!("{}: {reason}", Direction::Outbound)),
            None => publishing.loss.end(),
        }
    }

    pub(crate) fn reconnected(&self) {
        self.reconnects.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether all subscriptions at a server stand; `None` if there are none any more.
    pub(crate) fn set_listening(&self, at: &Destination, is_listening: Option<bool>) {
        self.listening.send_if_modified(|listening| match is_listening {
            Some(stands) => {
                let before = listening.get(at).map(|subscribed| subscribed.stands);
                listening.entry(at.clone()).or_default().set(stands);
                before != Some(stands)
            }
            None => listening.remove(at).is_some(),
        });
    }

    /// A connection to a server has failed: its subscriptions have to show that they stand.
    pub(crate) fn doubt_listening(&self, at: &Destination) {
        self.listening.send_if_modified(|listening| {
            let doubted = listening.get_mut(at).filter(|subscribed| subscribed.stands);
            doubted.map(|subscribed| subscribed.set(false)).is_some()
        });
    }

    /// Holds up what is published to a server whose subscriptions are about to stand again.
    pub(crate) fn hold(self: &Arc<Self>, at: &Destination) -> Hold {
        self.listening.send_modify(|listening| listening.entry(at.clone()).or_default().holds += 1);
        Hold { status: Arc::clone(self), at: at.clone() }
    }

    pub(crate) fn listening_at(&self, destination: &Destination) -> Listening {
        Listening { destination: destination.clone(), listening: self.listening.subscribe() }
    }

    /// A connection is lost. Calls `tell`, with the reason, if all others stood; nothing else changes meanwhile.
    pub(crate) fn connection_lost(&self, side: Direction, reason: &str, tell: impl FnOnce(&str)) {
        let reason = format!("{side}: {reason}");
        let mut inbound = self.inbound();
        inbound.subscribers_down += 1;
        inbound.loss.note(reason.as_str());
        if !std::mem::replace(&mut inbound.is_lost, true) {
            tell(&reason);
        }
    }

    /// A connection that is lost could not be opened again.
    pub(crate) fn connection_refused(&self, reason: &str) {
        let mut inbound = self.inbound();
        if inbound.is_lost {
            inbound.loss.note(format!("{}: {reason}", Direction::Inbound));
        }
    }

    /// A subscription moves to another server. A loss is not over before [`Status::connections_restored`] has been
    /// called for it.
    pub(crate) fn subscription_moves(&self) {
        self.inbound().subscribers_down += 1;
    }

    /// So much of what was down is back. Calls `tell` if nothing is lost any more; nothing else changes meanwhile.
    pub(crate) fn connections_restored(&self, count: usize, tell: impl FnOnce()) {
        let mut inbound = self.inbound();
        inbound.subscribers_down -= count;
        if inbound.subscribers_down == 0 && std::mem::take(&mut inbound.is_lost) {
            inbound.loss.end();
            tell();
        }
    }

    #[cfg(test)]
    fn is_connected(&self) -> bool {
        self.health().connected
    }

    pub(crate) fn health(&self) -> Health {
        let (publishing, inbound) = (self.publishing(), self.inbound());
        let health = Health::default()
            .with_connected(publishing.is_connected && !inbound.is_lost)
            .with_reconnects(self.reconnects.load(Ordering::Relaxed));
        inbound.loss.add_to(publishing.loss.add_to(health))
    }

    fn publishing(&self) -> MutexGuard<'_, Publishing> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbound(&self) -> MutexGuard<'_, Inbound> {
        // Valid after each step.
        self.inbound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is published to a server waits while there is one of these.
#[derive(Debug)]
pub(crate) struct Hold {
    status: Arc<Status>,
    at: Destination,
}

impl Hold {
    /// Waits until the subscriptions at all servers stand. *Cancel safe.*
    pub(crate) fn all_subscribed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut listening = self.status.listening.subscribe();
        async move {
            // Fails only when the transport is closed.
            let _ = listening.wait_for(|servers| servers.values().all(|subscribed| subscribed.stands)).await;
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.status.listening.send_if_modified(|listening| {
            // Without an entry, nothing is subscribed to there any more.
            listening.get_mut(&self.at).is_some_and(|subscribed| {
                subscribed.holds = subscribed.holds.saturating_sub(1);
                subscribed.holds == 0
            })
        });
    }
}

/// Whether what is published to a server may be answered, and heard.
///
/// The broker's count does not include a node without subscriptions: if such a node published, the others would see it
/// come and go.
pub(crate) struct Listening {
    destination: Destination,
    listening: watch::Receiver<HashMap<Destination, Subscribed>>,
}

impl Listening {
    /// Waits until something may be published. Returns how often the subscriptions were in doubt so far: since then, the
    /// server may have become a replica. *Cancel safe.*
    pub(crate) async fn until_open(&mut self) -> usize {
        self.until(|subscribed| subscribed.is_none_or(Subscribed::may_publish)).await;
        self.doubts()
    }

    /// Waits until nothing may be published. *Cancel safe.*
    pub(crate) async fn until_held(&mut self) {
        self.until(|subscribed| subscribed.is_some_and(|subscribed| !subscribed.may_publish())).await;
    }

    /// How often the subscriptions were in doubt so far.
    pub(crate) fn doubts(&self) -> usize {
        self.listening.borrow().get(&self.destination).map_or(0, |subscribed| subscribed.doubts)
    }

    /// Waits until the subscriptions have to show that they stand. *Cancel safe.*
    pub(crate) async fn until_doubted(&mut self) {
        self.until(|subscribed| subscribed.is_some_and(|subscribed| !subscribed.stands)).await;
    }

    async fn until(&mut self, is_so: impl Fn(Option<Subscribed>) -> bool) {
        let destination = &self.destination;
        let is_so = |listening: &HashMap<_, _>| is_so(listening.get(destination).copied());
        if self.listening.wait_for(is_so).await.is_err() {
            // The transport is closed.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_loss_and_the_return_are_told_once_for_all_connections() {
        let (status, told) = (Status::default(), RefCell::new(Vec::new()));
        let lost = || status.connection_lost(Direction::Inbound, "reset", |_| told.borrow_mut().push("lost"));
        let restored = |count| status.connections_restored(count, || told.borrow_mut().push("restored"));
        status.set_publishing(None);
        lost();
        lost();
        assert!(!status.is_connected());
        status.subscription_moves();
        restored(2);
        assert_eq!(told.take(), ["lost"], "a subscription is still on its way");
        restored(1);
        assert_eq!((told.take(), status.is_connected()), (vec!["restored"], true));
    }

    #[test]
    fn a_subscription_that_moves_is_no_loss() {
        let status = Status::default();
        status.set_publishing(None);
        status.subscription_moves();
        assert!(status.is_connected());
        status.connections_restored(1, || panic!("nothing was lost"));
    }
}
