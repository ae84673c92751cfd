//! State that tests wait on.

use std::{
    panic::Location,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

use super::failure::{Checked, Failure};

/// State that grows while a test waits for it to become what it should be.
#[derive(Debug, Default)]
pub(crate) struct Watchable<S> {
    state: Mutex<S>,
    changed: Notify,
}

impl<S> Watchable<S> {
    pub(crate) fn read<R>(&self, look: impl FnOnce(&S) -> R) -> R {
        look(&self.lock())
    }

    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut S) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    /// Waits until `look` finds what it looks for. When `patience` is over, `describe` says what is there instead.
    pub(crate) async fn until<R>(
        &self,
        at: &'static Location<'static>,
        patience: Duration,
        mut look: impl FnMut(&S) -> Option<R>,
        describe: impl FnOnce(&S) -> String,
    ) -> Checked<R> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                if let Some(found) = self.read(&mut look) {
                    return found;
                }
                changed.await;
            }
        };
        match timeout(patience, found).await {
            Ok(found) => Ok(found),
            Err(_) => Err(Failure::at(at, format!("{} after {patience:?}", self.read(describe)))),
        }
    }

    fn lock(&self) -> MutexGuard<'_, S> {
        // Each change is whole before anything in it can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
