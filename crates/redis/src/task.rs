//! Tasks with an owner.

use std::{
    future::Future,
    sync::{Mutex, PoisonError},
};

use tokio::task::JoinHandle;

/// A task that ends with its owner, at the latest.
#[derive(Debug)]
pub(crate) struct Task(Mutex<Option<JoinHandle<()>>>);

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(Mutex::new(Some(tokio::spawn(work))))
    }

    /// Ends it, and returns when it has ended.
    pub(crate) async fn stop(&self) {
        if let Some(handle) = self.take() {
            handle.abort();
            let _ = handle.await;
        }
    }

    /// Returns when it has ended by itself. *Cancel safety*: dropped before, it is ended.
    pub(crate) async fn ended(&self) {
        let Some(handle) = self.take() else { return };
        let mut handle = AbortOnDrop(handle);
        let _ = (&mut handle.0).await;
    }

    fn take(&self) -> Option<JoinHandle<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(handle) = self.take() {
            handle.abort();
        }
    }
}

struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
