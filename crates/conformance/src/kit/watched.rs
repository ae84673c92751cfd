//! State that tests wait on.

use std::{
    panic::Location,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::failure::{Checked, Failure};

/// State behind a mutex that notifies waiting tests of each change.
#[derive(Debug, Default)]
pub(super) struct Watched<S> {
    state: Mutex<S>,
    changed: Notify,
}

impl<S> Watched<S> {
    pub(super) fn read<R>(&self, read: impl FnOnce(&S) -> R) -> R {
        read(&self.lock())
    }

    pub(super) fn update<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Waits until `find` returns something. After `limit` fails at `at` with what `describe` says of the state.
    pub(super) async fn until<R>(
        &self,
        at: &'static Location<'static>,
        limit: Duration,
        mut find: impl FnMut(&S) -> Option<R>,
        describe: impl FnOnce(&S) -> String,
    ) -> Checked<R> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = self.read(&mut find) {
                    return found;
                }
                changed.await;
            }
        };
        match timeout(limit, found).await {
            Ok(found) => Ok(found),
            Err(_) => Err(Failure::at(at, format!("{} after {limit:?}", self.read(describe)))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        // Each change is whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
