//! The transports of other processes, and the servers that they are connected to.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::time::Instant;

/// How long a silent peer is remembered: three of its announcements.
const MEMORY: Duration = Duration::from_secs(35);

/// Peers that are remembered. More are not waited for.
const MAX_PEERS: usize = 4096;

/// The longest name that is understood.
const MAX_NAME: usize = 128;

/// What a transport says of itself: its id and the server it is connected to; no server if it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeerHello {
    pub(crate) sender: String,
    pub(crate) server: Option<String>,
}

impl PeerHello {
    pub(crate) fn encode(&self) -> Bytes {
        match &self.server {
            Some(server) => format!("{} {server}", self.sender).into(),
            None => self.sender.clone().into(),
        }
    }

    /// `None` if it cannot be understood. More words may follow one day.
    pub(crate) fn decode(payload: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(payload).ok()?.split_ascii_whitespace();
        let sender = words.next()?.to_owned();
        let server = words.next().map(str::to_owned);
        let fits = |name: &String| name.len() <= MAX_NAME;
        (fits(&sender) && server.as_ref().is_none_or(fits)).then_some(Self { sender, server })
    }
}

/// The peers that were heard, shared by the connections of one transport.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    known: Mutex<HashMap<String, Peer>>,
}

#[derive(Debug)]
struct Peer {
    server: String,
    heard: Instant,
}

impl Peers {
    pub(crate) fn heard(&self, hello: PeerHello) {
        let mut known = self.known();
        let Some(server) = hello.server else {
            known.remove(&hello.sender);
            return;
        };
        let heard = Instant::now();
        if known.len() >= MAX_PEERS {
            known.retain(|_, peer| peer.is_remembered(heard));
        }
        if known.len() < MAX_PEERS || known.contains_key(&hello.sender) {
            known.insert(hello.sender, Peer { server, heard });
        }
    }

    /// Whether every known peer is connected to one of these servers.
    pub(crate) fn are_all_behind(&self, servers: &HashSet<String>) -> bool {
        let now = Instant::now();
        self.known().values().all(|peer| servers.contains(&peer.server) || !peer.is_remembered(now))
    }

    /// Forgets the peers that are connected to other servers. Returns how many they were.
    pub(crate) fn keep_only_behind(&self, servers: &HashSet<String>) -> usize {
        let mut known = self.known();
        let before = known.len();
        known.retain(|_, peer| servers.contains(&peer.server));
        before - known.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.known().is_empty()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Peer>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn is_remembered(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.heard) < MEMORY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(text: &str) -> PeerHello {
        PeerHello::decode(text.as_bytes()).unwrap()
    }

    fn set(servers: &[&str]) -> HashSet<String> {
        servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_hello_reads_as_it_was_written_and_may_say_more() {
        for text in ["a", "a B"] {
            assert_eq!(hello(text).encode(), text);
        }
        assert_eq!(hello("a B later=1").encode(), "a B");
        assert_eq!(PeerHello::decode(b""), None);
        assert_eq!(PeerHello::decode(b"\xff"), None);
        assert_eq!(PeerHello::decode("x".repeat(129).as_bytes()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn peers_count_until_they_leave_move_are_silent_or_forgotten() {
        let peers = Peers::default();
        peers.heard(hello("a A"));
        peers.heard(hello("b B"));
        assert!(!peers.are_all_behind(&set(&["A"])) && peers.are_all_behind(&set(&["A", "B"])));
        peers.heard(hello("b A"));
        assert!(peers.are_all_behind(&set(&["A"])));
        peers.heard(hello("b"));
        assert_eq!(peers.keep_only_behind(&set(&["B"])), 1);
        assert!(peers.is_empty());
        peers.heard(hello("c C"));
        tokio::time::advance(MEMORY).await;
        assert!(peers.are_all_behind(&set(&[])));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_peers_is_bounded() {
        let peers = Peers::default();
        for number in 0..2 * MAX_PEERS {
            peers.heard(hello(&format!("{number} A")));
        }
        assert_eq!(peers.known().len(), MAX_PEERS);
        tokio::time::advance(MEMORY).await;
        peers.heard(hello("new B"));
        assert_eq!(peers.known().len(), 1);
    }
}
