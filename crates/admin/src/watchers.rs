//! Whether any page is connected to any server of the cluster: while none is, nothing is published.
//!
//! Servers of this crate tell each other how many pages they have. Node.js servers cannot say it, so their pages are looked
//! for now and then, by one of us and only if there are such servers.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use trunkline_socketioxide::{NamespaceHandle, NodeId, RequestError, ServerSideEvent, Target};

/// The pages of the cluster, as far as this server knows.
pub(crate) struct Watchers {
    /// Pages of this server.
    own: AtomicUsize,
    others: Mutex<Others>,
    /// Wakes the task that publishes.
    pub(crate) changed: Notify,
}

#[derive(Default)]
struct Others {
    /// Other servers of this crate.
    servers: HashMap<NodeId, Server>,
    /// Until when pages of Node.js servers are believed to be there.
    pages_elsewhere: Option<Instant>,
    /// When a server has last looked for them.
    looked: Option<Instant>,
}

struct Server {
    pages: usize,
    heard: Instant,
}

/// What servers tell each other: the number of own pages, and why it is said.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Why {
    /// A server has started, and wants to know the others'.
    Greeting = 0,
    Change = 1,
    /// Pages of Node.js servers were looked for: none.
    FoundNone = 2,
    /// Some.
    FoundSome = 3,
}

impl Watchers {
    pub(crate) fn new() -> Self {
        Self { own: AtomicUsize::new(0), others: Mutex::default(), changed: Notify::new() }
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.own.load(Ordering::Relaxed) > 0 || self.is_watched_elsewhere(Instant::now())
    }

    fn is_watched_elsewhere(&self, now: Instant) -> bool {
        let others = self.others();
        others.pages_elsewhere.is_some_and(|until| now < until)
            || others.servers.values().any(|server| server.pages > 0 && now < server.heard + BELIEVED)
    }

    pub(crate) async fn page_connected(&self, handle: &NamespaceHandle) {
        self.own.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
        self.tell(handle, Why::Change).await;
    }

    pub(crate) async fn page_disconnected(&self, handle: &NamespaceHandle) {
        self.own.fetch_sub(1, Ordering::Relaxed);
        self.tell(handle, Why::Change).await;
    }

    /// Handles what another server says.
    pub(crate) async fn heard(&self, handle: &NamespaceHandle, event: ServerSideEvent) {
        let Ok((pages, why)) = event.arguments::<(usize, u8)>() else { return };
        let now = Instant::now();
        {
            let mut others = self.others();
            others.servers.insert(event.from, Server { pages, heard: now });
            if why == Why::FoundSome as u8 {
                others.pages_elsewhere = Some(now + BELIEVED);
            }
            if why == Why::FoundSome as u8 || why == Why::FoundNone as u8 {
                others.looked = Some(now);
            }
        }
        self.changed.notify_one();
        if why == Why::Greeting as u8 {
            self.tell(handle, Why::Change).await;
        }
    }

    /// Greets the others, then repeats what they must not forget and looks for pages of Node.js servers. Never ends.
    pub(crate) async fn keep_known(&self, handle: &NamespaceHandle) {
        self.tell(handle, Why::Greeting).await;
        loop {
            // At other times than the others, so that one of them looks and the others hear what it has found.
            sleep(REPEATED + REPEATED.mul_f64(fastrand::f64())).await;
            if self.own.load(Ordering::Relaxed) > 0 {
                self.tell(handle, Why::Change).await;
            } else if self.should_look(handle).await {
                self.look(handle).await;
            }
        }
    }

    async fn should_look(&self, handle: &NamespaceHandle) -> bool {
        let now = Instant::now();
        let peers = handle.peers();
        let ours = {
            let mut others = self.others();
            others.servers.retain(|id, _| peers.contains(id));
            if others.looked.is_some_and(|looked| now < looked + REPEATED)
                || others.servers.values().any(|server| server.pages > 0 && now < server.heard + BELIEVED)
            {
                return false;
            }
            others.servers.len() + 1
        };
        handle.server_count().await.is_ok_and(|count| count > ours)
    }

    /// No server of this crate has a page, so all that are found are of Node.js servers.
    async fn look(&self, handle: &NamespaceHandle) {
        let pages = handle.fetch_sockets(Target::all().partial()).await.or_else(RequestError::into_received);
        let why = if pages.is_ok_and(|pages| !pages.is_empty()) { Why::FoundSome } else { Why::FoundNone };
        if why == Why::FoundSome {
            self.others().pages_elsewhere = Some(Instant::now() + BELIEVED);
            self.changed.notify_one();
        }
        self.tell(handle, why).await;
    }

    async fn tell(&self, handle: &NamespaceHandle, why: Why) {
        let pages = self.own.load(Ordering::Relaxed);
        if let Err(error) = handle.server_side_emit(EVENT, &(pages, why as u8)).await {
            tracing::debug!(%error, "other servers do not hear of the pages of this one");
        }
    }

    fn others(&self) -> MutexGuard<'_, Others> {
        // Valid after each step.
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server-side event of the page's namespace by which servers of this crate know each other.
pub(crate) const EVENT: &str = "trunkline-admin:pages";

/// How long a server is believed to have pages after it has said so.
const BELIEVED: Duration = Duration::from_secs(12);

/// The shortest pause between two repetitions or looks; the longest is twice that.
const REPEATED: Duration = Duration::from_secs(4);
