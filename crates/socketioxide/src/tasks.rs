//! Tracking and cancellation of the tasks of one namespace.

use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The tasks of one namespace's adapter: they are cancelled when it is closed or dropped.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    closing: CancellationToken,
}

impl Tasks {
    /// Runs `task` on the current runtime until it ends or the adapter does. Returns `false`, and drops it, if
    /// `MAX_TASKS` are running.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> bool {
        let Ok(runtime) = Handle::try_current() else { return false };
        if self.is_closed() || self.tracker.len() >= MAX_TASKS {
            return false;
        }
        let task = self.closing.clone().run_until_cancelled_owned(task);
        self.tracker.spawn_on(task, &runtime);
        true
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closing.is_cancelled()
    }

    /// Cancels all tasks.
    pub(crate) fn close(&self) {
        self.closing.cancel();
        self.tracker.close();
    }

    /// Waits until all tasks have ended, after [`Tasks::close`].
    pub(crate) async fn closed(&self) {
        self.tracker.wait().await;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.close();
    }
}

/// Acknowledged broadcasts and server-side events that may be pending at a time.
const MAX_TASKS: usize = 10_000;
