//! Tasks with an owner.

use std::{
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
};

use futures_util::future::{AbortHandle, abortable};
use tokio::sync::oneshot;

/// What a task does.
pub(crate) type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A task, or a job of a [crew](crate::crew), that ends with its owner, at the latest.
#[derive(Debug)]
pub(crate) struct Task {
    abort: AbortHandle,
    /// Comes to nothing when it has ended.
    ended: Mutex<Option<oneshot::Receiver<()>>>,
}

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        let (task, work) = Self::new(work);
        tokio::spawn(work);
        task
    }

    /// For somebody else to do the work.
    pub(crate) fn new(work: impl Future<Output = ()> + Send + 'static) -> (Self, Work) {
        let (end, ended) = oneshot::channel();
        let (work, abort) = abortable(work);
        let work = Box::pin(async move {
            // Dropped after the work, however that ends.
            let _end: oneshot::Sender<()> = end;
            let _ = work.await;
        });
        (Self { abort, ended: Mutex::new(Some(ended)) }, work)
    }

    /// Ends it, and returns when it has ended.
    pub(crate) async fn stop(&self) {
        self.abort.abort();
        self.ended().await;
    }

    /// Returns when it has ended by itself. *Cancel safety*: dropped before, it is ended.
    pub(crate) async fn ended(&self) {
        let Some(ended) = self.ended.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let abort = AbortOnDrop(&self.abort);
        let _ = ended.await;
        drop(abort);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.abort.abort();
    }
}

struct AbortOnDrop<'a>(&'a AbortHandle);

impl Drop for AbortOnDrop<'_> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
