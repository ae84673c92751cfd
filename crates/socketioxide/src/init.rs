//! What adding a namespace returns.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use socketioxide_core::adapter::Spawnable;

use crate::error::Error;

/// Joins the cluster. `io.ns(…)` returns it: await it, and the namespace is open and hears its peers.
#[must_use = "a namespace opens when this is awaited"]
pub struct InitRes(Pin<Box<dyn Future<Output = Result<(), Error>> + Send>>);

impl InitRes {
    pub(crate) fn new(joining: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        Self(Box::pin(joining))
    }
}

impl Future for InitRes {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

/// A dynamic namespace is opened by the client that names it first, and nobody awaits it.
impl Spawnable for InitRes {
    /// Joins at once where the backend can: a second client that names the namespace meanwhile would open it a second time.
    fn spawn(mut self) {
        match (&mut self).now_or_never() {
            Some(joined) => report(joined),
            None => drop(tokio::spawn(self.map(report))),
        }
    }
}

fn report(joined: Result<(), Error>) {
    if let Err(error) = joined {
        tracing::error!(%error, "a dynamic namespace could not be opened");
    }
}

impl fmt::Debug for InitRes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitRes").finish_non_exhaustive()
    }
}
