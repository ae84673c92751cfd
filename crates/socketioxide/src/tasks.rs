//! The tasks of one namespace, and their end.

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Owns every task of one namespace's adapter: they end when it is closed or dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// Runs `task` on the current runtime until it ends or the adapter does. Returns `false`, and drops it, when `MOST` are running.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(runtime) = Handle::try_current() else { return false };
        if self.is_closed() || self.tracker.len() >= MOST {
            return false;
        }
        let task = self.closing.clone().run_until_cancelled_owned(task);
        self.tracker.spawn_on(task, &runtime);
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Tells all tasks to end.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.tracker.close();
    }

    /// Waits until they have, after [`Tasks::close`].
    pub(crate) async fn closed(&self) {
        self.tracker.wait().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.close();
    }
}

/// Acknowledged broadcasts and server-side events that may be under way at a time.
const MOST: usize = 10_000;
