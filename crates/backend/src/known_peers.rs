//! The peers of one node: which were heard lately, and which are to be heard again after a loss.
//!
//! What is published while a connection is away is held. If all nodes have lost the same broker, the first one that
//! returns has no subscribed peer yet. So a writer holds it until the peers that were known before are heard again,
//! [`HOLD`] at most ([`until_back`]): each node sends a hello ahead of what it holds, which tells the others that it is
//! subscribed.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{FutureExt as _, future::join_all};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use trunkline_core::model::{Delivery, Message, NodeId};

/// How long what is held waits at most for the peers that were known.
pub const HOLD: Duration = Duration::from_secs(2);

/// How long a silent peer is known: the default heartbeat time-out, and what a suspect has in addition.
const MEMORY: Duration = Duration::from_secs(11);

/// Peers that are remembered. More are not waited for.
const MAX_PEERS: usize = 256;

/// Waits until the awaited peers of these nodes are back, [`HOLD`] at most, or until `given_up` ends. *Cancel safe.*
///
/// If there is something to wait for, calls `report_gap` halfway and in the end. The nodes have reported a gap when they
/// were subscribed again; its size is known when the numbers of their peers come, which are held, too.
pub async fn until_back<'a>(
    nodes: impl IntoIterator<Item = &'a KnownPeers>,
    given_up: impl Future<Output = ()>,
    report_gap: impl Fn(),
) {
    let mut all_back = pin!(join_all(nodes.into_iter().map(KnownPeers::all_back)));
    if (&mut all_back).now_or_never().is_some() {
        return;
    }
    let mut given_up = pin!(given_up);
    for _ in 0..2 {
        let is_over = tokio::select! {
            _ = &mut all_back => true,
            () = &mut given_up => true,
            () = sleep(HOLD / 2) => false,
        };
        report_gap();
        if is_over {
            break;
        }
    }
}

/// Peers of one node that were heard lately.
#[derive(Debug, Default)]
pub struct KnownPeers {
    state: Mutex<State>,
    /// Whether `awaited` has an entry, readable without the lock.
    is_awaiting: AtomicBool,
    back: Notify,
}

#[derive(Debug, Default)]
struct State {
    heard: HashMap<NodeId, Instant>,
    awaited: HashSet<NodeId>,
    last: Option<Instant>,
}

impl KnownPeers {
    /// Notes who is alive by a delivery, and who leaves. Heartbeats tell; while peers are awaited everything else does.
    pub fn note(&self, delivery: &Delivery) {
        match delivery {
            Delivery::Message { from: Some(peer), message: Message::Leaving, .. } => self.left(peer),
            Delivery::Message { from: Some(peer), message: Message::Heartbeat(_), .. } => self.heard(peer),
            Delivery::Message { from: Some(peer), .. }
            | Delivery::Skipped { from: peer, .. }
            | Delivery::Response { from: Some(peer), .. }
                if self.is_awaiting.load(Ordering::Relaxed) =>
            {
                self.heard(peer);
            }
            _ => {}
        }
    }

    fn heard(&self, peer: &NodeId) {
        let (now, mut state) = (Instant::now(), self.lock());
        state.last = Some(now);
        if peer.is_emitter() {
            return;
        }
        if let Some(heard) = state.heard.get_mut(peer) {
            *heard = now;
        } else {
            if state.heard.len() >= MAX_PEERS {
                state.heard.retain(|_, heard| now < *heard + MEMORY);
            }
            if state.heard.len() < MAX_PEERS {
                state.heard.insert(peer.clone(), now);
            }
        }
        self.came(&mut state, peer);
    }

    fn left(&self, peer: &NodeId) {
        let mut state = self.lock();
        state.heard.remove(peer);
        self.came(&mut state, peer);
    }

    fn came(&self, state: &mut State, peer: &NodeId) {
        if state.awaited.remove(peer) && state.awaited.is_empty() {
            self.is_awaiting.store(false, Ordering::Relaxed);
            self.back.notify_waiters();
        }
    }

    /// Notes that the connection is lost: the peers that were known when something was heard last are awaited.
    pub fn lost(&self) {
        let mut state = self.lock();
        let State { heard, awaited, last } = &mut *state;
        let Some(last) = *last else { return };
        heard.retain(|_, heard| last < *heard + MEMORY);
        awaited.extend(heard.keys().cloned());
        self.is_awaiting.store(!awaited.is_empty(), Ordering::Relaxed);
    }

    /// Whether the peer has not been heard since the connection was lost.
    #[must_use]
    pub fn is_awaited(&self, peer: &NodeId) -> bool {
        self.lock().awaited.contains(peer)
    }

    /// Waits until every awaited peer was heard again, or has left. *Cancel safe.*
    pub async fn all_back(&self) {
        loop {
            let back = self.back.notified();
            if self.lock().awaited.is_empty() {
                return;
            }
            back.await;
        }
    }

    /// The peers that were heard and have not left.
    #[must_use]
    pub fn names(&self) -> Vec<NodeId> {
        self.lock().heard.keys().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Valid after each step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, future::pending};

    use trunkline_core::model::Heartbeat;

    use super::*;

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn message(from: &str, message: Message) -> Delivery {
        Delivery::Message { from: Some(id(from)), seq_no: None, offset: None, message }
    }

    fn heartbeat(from: &str) -> Delivery {
        message(from, Message::Heartbeat(Heartbeat::default()))
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_were_heard_before_a_loss_are_awaited_until_they_are_heard_or_leave() {
        let peers = KnownPeers::default();
        peers.lost();
        peers.all_back().await;
        for peer in ["a", "b", "c"] {
            peers.note(&heartbeat(peer));
        }
        assert!(peers.all_back().now_or_never().is_some(), "nothing was lost");
        // A connection that is found dead late: they fell silent because of it.
        tokio::time::advance(MEMORY * 2).await;
        peers.lost();
        assert!(peers.is_awaited(&id("a")));
        peers.note(&heartbeat("a"));
        peers.note(&Delivery::Skipped { from: id("b"), seq_no: None });
        assert!(peers.all_back().now_or_never().is_none());
        peers.note(&message("c", Message::Leaving));
        assert!(peers.all_back().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_silent_for_long_before_a_loss_is_not_awaited() {
        let peers = KnownPeers::default();
        peers.note(&heartbeat("dead"));
        tokio::time::advance(MEMORY).await;
        peers.note(&heartbeat("alive"));
        peers.lost();
        assert!(peers.is_awaited(&id("alive")) && !peers.is_awaited(&id("dead")));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_waits_for_peers_but_not_for_long() {
        let (peers, gaps, begun) = (KnownPeers::default(), Cell::new(0), Instant::now());
        let report_gap = || gaps.set(gaps.get() + 1);
        until_back([&peers], pending(), report_gap).await;
        assert_eq!((begun.elapsed(), gaps.get()), (Duration::ZERO, 0));
        peers.note(&heartbeat("a"));
        peers.lost();
        until_back([&peers], pending(), report_gap).await;
        assert_eq!((begun.elapsed(), gaps.get()), (HOLD, 2));
        until_back([&peers], sleep(HOLD / 4), report_gap).await;
        assert_eq!((begun.elapsed(), gaps.get()), (HOLD + HOLD / 4, 3));
        let back = async { peers.note(&heartbeat("a")) };
        tokio::join!(until_back([&peers], pending(), report_gap), back);
        assert_eq!((begun.elapsed(), gaps.get()), (HOLD + HOLD / 4, 4));
    }

    #[tokio::test(start_paused = true)]
    async fn peers_are_bounded() {
        let peers = KnownPeers::default();
        for number in 0..2 * MAX_PEERS {
            peers.note(&heartbeat(&number.to_string()));
        }
        assert_eq!(peers.names().len(), MAX_PEERS);
    }
}
