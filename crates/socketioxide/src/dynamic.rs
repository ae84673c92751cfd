//! Dynamic namespaces: each leaves the cluster when it has been empty for a while, and joins again for its next client.
//!
//! socketioxide tells an adapter neither of a client that connects nor of one that has gone, and keeps a namespace for
//! ever. So the sockets of all dynamic namespaces are looked at now and then.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::future::BoxFuture;
use socketioxide_core::adapter::{BroadcastFlags, BroadcastOptions, SocketEmitter};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep},
};
use trunkline_core::{Error, ErrorKind, Result};

use crate::{
    adapter::Trunkline,
    namespace::{OpenNamespace, Sockets as _},
    tasks::Tasks,
};

/// The dynamic namespaces of a server.
pub(crate) struct DynamicNamespaces {
    /// How long one may be empty before it leaves the cluster.
    empty_for: Duration,
    limit: usize,
    /// One permit for each that is in the cluster.
    free: Arc<Semaphore>,
    all: Mutex<All>,
    /// The task that looks at them, and those that join and leave.
    tasks: Tasks,
    refused: Mutex<Refused>,
}

/// Namespaces that were not admitted.
#[derive(Default)]
struct Refused {
    count: u64,
    last: Option<Instant>,
}

/// All that the server keeps, in the cluster or not.
#[derive(Default)]
struct All {
    namespaces: Vec<Weak<dyn Dynamic>>,
    /// Whether a task looks at them.
    watched: bool,
}

/// A dynamic namespace, whatever the type of its adapter.
pub(crate) trait Dynamic: Send + Sync {
    /// Leaves the cluster if there has been neither a socket nor an operation for this long; joins again if there are
    /// sockets.
    fn look(self: Arc<Self>, empty_for: Duration, tasks: &Tasks);

    /// The namespace for an operation; joins the cluster if it has left.
    fn join_again(self: Arc<Self>) -> BoxFuture<'static, Result<Arc<OpenNamespace>>>;

    /// Whether the server has closed it.
    fn is_closed(&self) -> bool;
}

impl DynamicNamespaces {
    pub(crate) fn new(empty_for: Duration, limit: usize) -> Self {
        let limit = limit.min(Semaphore::MAX_PERMITS);
        Self {
            empty_for,
            limit,
            free: Arc::new(Semaphore::new(limit)),
            all: Mutex::default(),
            tasks: Tasks::default(),
            refused: Mutex::default(),
        }
    }

    /// Looks after a namespace from now on, until it is dropped.
    pub(crate) fn add(self: &Arc<Self>, namespace: Weak<dyn Dynamic>) {
        let mut all = self.lock();
        all.namespaces.push(namespace);
        all.watched = all.watched || self.tasks.spawn(look_at_all(Arc::downgrade(self)));
    }

    /// A place in the cluster for one namespace, until the permit is dropped.
    ///
    /// # Errors
    /// `Limit` if all places are taken, `Closed` if the server has left the cluster.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit> {
        if self.tasks.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "this server has left the cluster"));
        }
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(permit);
        }
        // Empty ones give way early, but not one whose first client is just being connected.
        self.look(self.empty_for.min(MIN_EMPTY));
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let reached = self.limit_reached();
            if self.note_refusal() {
                tracing::warn!("{reached}: clients that name further ones are disconnected");
            }
            Error::new(ErrorKind::Limit, reached)
        })
    }

    fn limit_reached(&self) -> String {
        format!("{} dynamic namespaces are in use on this server, and no more are allowed", self.limit)
    }

    /// Returns whether there was none for a while.
    fn note_refusal(&self) -> bool {
        let mut refused = self.refused();
        refused.count += 1;
        refused.last.replace(Instant::now()).is_none_or(|last| last.elapsed() > RECENT)
    }

    /// What is wrong, if clients were refused within the last minute.
    pub(crate) fn fault(&self) -> Option<String> {
        let Refused { count, last } = *self.refused();
        let is_recent = last?.elapsed() <= RECENT;
        is_recent.then(|| format!("{}; refused so far: {count}", self.limit_reached()))
    }

    fn refused(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Ends the tasks and admits no namespace any more.
    pub(crate) fn close(&self) {
        self.tasks.close();
    }

    /// Waits until the tasks have ended, after [`DynamicNamespaces::close`], or when the server has closed all
    /// namespaces. Returns at once while one of them is in use.
    pub(crate) async fn closed(&self) {
        if self.are_closed() {
            self.close();
        }
        if self.tasks.is_closed() {
            self.tasks.closed().await;
        }
    }

    /// Whether there were some, and the server has closed all of them.
    fn are_closed(&self) -> bool {
        let all = self.lock();
        let is_closed = |namespace: &Weak<dyn Dynamic>| namespace.upgrade().is_none_or(|it| it.is_closed());
        !all.namespaces.is_empty() && all.namespaces.iter().all(is_closed)
    }

    fn look(&self, empty_for: Duration) {
        let all: Vec<_> = self.lock().namespaces.iter().filter_map(Weak::upgrade).collect();
        all.into_iter().for_each(|namespace| namespace.look(empty_for, &self.tasks));
    }

    /// Forgets those that were dropped. Returns whether there are others; otherwise nothing looks at them any more.
    fn retain(&self) -> bool {
        let mut all = self.lock();
        all.namespaces.retain(|namespace| namespace.strong_count() > 0);
        all.watched = !all.namespaces.is_empty();
        all.watched
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        // The list is valid after each step.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look_at_all(namespaces: Weak<DynamicNamespaces>) {
    let mut pause = EVERY;
    loop {
        sleep(pause).await;
        let Some(namespaces) = namespaces.upgrade() else { return };
        let began = Instant::now();
        if !namespaces.retain() {
            return;
        }
        namespaces.look(namespaces.empty_for);
        // No more than a twentieth of the time.
        pause = EVERY.max(began.elapsed() * 20);
    }
}

impl<E: SocketEmitter> Trunkline<E> {
    /// Keeps this namespace, which a client has named, no longer in the cluster than it is used.
    pub(crate) fn become_dynamic(self: &Arc<Self>) {
        let this: Weak<dyn Dynamic> = Arc::<Self>::downgrade(self);
        self.is_dynamic.store(true, Ordering::Relaxed);
        self.cluster().named(self.name(), &self.handlers, Weak::clone(&this));
        self.cluster().dynamic().add(this);
    }

    /// Joins again, in a task, if a socket is in this namespace while it is not in the cluster.
    pub(crate) fn look_for_clients(self: Arc<Self>, tasks: &Tasks) {
        if self.is_open() || self.joining.try_lock().is_err() || !self.has_sockets() {
            return;
        }
        tasks.spawn(async move {
            match self.joined().await {
                Ok(_) => {}
                // They would hear nothing, and are told so.
                Err(error) if matches!(error.kind(), ErrorKind::Limit | ErrorKind::Closed) => self.remove_sockets(),
                Err(error) => {
                    tracing::error!(%error, "dynamic namespace {} could not join again", self.name());
                    let _joining = self.joining.lock().await;
                    sleep(AFTER_FAILURE).await;
                }
            }
        });
    }

    fn has_sockets(&self) -> bool {
        let mut known = self.known_socket.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|socket| self.is_connected(socket)) {
            return true;
        }
        let mut all = BroadcastOptions::default();
        all.add_flag(BroadcastFlags::Broadcast);
        *known = self.local.sockets(all).first().copied();
        known.is_some()
    }
}

impl<E: SocketEmitter> Dynamic for Trunkline<E> {
    fn look(self: Arc<Self>, empty_for: Duration, tasks: &Tasks) {
        let Ok(open) = self.namespace() else { return self.look_for_clients(tasks) };
        if self.has_sockets() {
            open.used(Duration::ZERO);
            return;
        }
        // One that joins at this moment is not empty for long, and is looked at again.
        let Ok(joining) = Arc::clone(&self.joining).try_lock_owned() else { return };
        if let Some(left) = self.take_unused(empty_for) {
            left.close();
            tasks.spawn(async move {
                left.closed().await;
                drop(joining);
            });
        }
    }

    fn join_again(self: Arc<Self>) -> BoxFuture<'static, Result<Arc<OpenNamespace>>> {
        Box::pin(async move { self.used().await })
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for DynamicNamespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DynamicNamespaces").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// The pause between two looks at all of them: a client that comes back may hear nothing for so long.
const EVERY: Duration = Duration::from_millis(100);

/// How long one is empty at least while its first client is being connected.
const MIN_EMPTY: Duration = Duration::from_secs(1);

/// How long a refusal is told.
const RECENT: Duration = Duration::from_secs(60);

/// The pause before the next attempt to join.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
