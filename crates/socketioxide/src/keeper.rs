//! The tasks that look after a namespace's sockets.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use socketioxide_core::adapter::SocketEmitter;
use tokio::time::{Instant, sleep, sleep_until};
use trunkline_core::{Adapter, Local, Room};

use crate::{adapter::Trunkline, handle::Opened, lanes::Next};

/// Hands waiting packets on as sockets can take them.
pub(crate) async fn hand_on<E: SocketEmitter>(adapter: Weak<Trunkline<E>>, opened: Arc<Opened>) {
    loop {
        let work = opened.lanes.work();
        let Some(next) = adapter.upgrade().map(|adapter| opened.lanes.flush(Instant::now(), &*adapter)) else { return };
        match next {
            // Whoever has packets to write gets its turn, also on this thread.
            Next::Soon => tokio::task::yield_now().await,
            Next::Never => work.await,
            Next::At(at) => tokio::select! {
                () = work => {}
                () = sleep_until(at) => {}
            },
        }
    }
}

/// Tells the broker, now and then, which rooms have members here: sockets join, leave and close without telling.
pub(crate) async fn reconcile<E: SocketEmitter>(adapter: Weak<Trunkline<E>>, opened: Arc<Opened>, every: Duration) {
    let mut pause = every;
    loop {
        sleep(pause).await;
        let began = Instant::now();
        let Some(rooms) = adapter.upgrade().map(|adapter| Local::rooms(&*adapter)) else { return };
        // Looking takes longer the more sockets there are: no more than a twentieth of the time.
        pause = every.max(began.elapsed() * 20);
        opened.interest.update(&opened, rooms.into_iter().collect()).await;
    }
}

/// The rooms of which the broker knows that they have members here.
#[derive(Debug, Default)]
pub(crate) struct Interest(Mutex<HashSet<Room>>);

impl Interest {
    /// The broker is told about these by an awaited join.
    pub(crate) fn entered(&self, rooms: &[Room]) {
        self.lock().extend(rooms.iter().cloned());
    }

    /// What fails is tried again the next time.
    async fn update(&self, opened: &Opened, now: HashSet<Room>) {
        let (entered, left) = {
            let known = self.lock();
            let entered: Vec<_> = now.difference(&known).cloned().collect();
            let left: Vec<_> = known.difference(&now).cloned().collect();
            (entered, left)
        };
        match opened.node.rooms_created(&entered).await {
            Ok(()) => self.lock().extend(entered),
            Err(error) => tracing::debug!(%error, "the broker was not told about new rooms"),
        }
        match opened.node.rooms_deleted(&left).await {
            Ok(()) => self.lock().retain(|room| !left.contains(room)),
            Err(error) => tracing::debug!(%error, "the broker was not told about rooms that are empty now"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Room>> {
        // The set is valid after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
