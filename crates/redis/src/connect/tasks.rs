//! The tasks of a transport, which owns them.

use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// Spawns tasks. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tasks {
    tracker: TaskTracker,
    closed: CancellationToken,
}

impl Tasks {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let task = self.closed.clone().run_until_cancelled_owned(task);
        self.tracker.spawn(async {
            let _ = task.await;
        });
    }

    /// Ends all tasks. Returns when they have ended.
    pub(crate) async fn close(&self) {
        self.closed.cancel();
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// Ends all tasks when it is dropped.
    pub(crate) fn end_on_drop(&self) -> DropGuard {
        self.closed.clone().drop_guard()
    }
}
