//! The future that opens a namespace.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::FutureExt;
use socketioxide_core::adapter::Spawnable;
use trunkline_core::ErrorKind;

use crate::error::SocketIoError;

/// Future of `io.ns(…)`, which joins the cluster. When it has resolved, the namespace is open and receives from all
/// other nodes.
#[must_use = "a namespace opens when this is awaited"]
pub struct InitRes {
    joining: Pin<Box<dyn Future<Output = Result<(), SocketIoError>> + Send>>,
    /// What is done first if a client has named the namespace.
    become_dynamic: Box<dyn FnOnce() + Send>,
}

impl InitRes {
    pub(crate) fn new(
        joining: impl Future<Output = Result<(), SocketIoError>> + Send + 'static,
        become_dynamic: impl FnOnce() + Send + 'static,
    ) -> Self {
        Self { joining: Box::pin(joining), become_dynamic: Box::new(become_dynamic) }
    }
}

impl Future for InitRes {
    type Output = Result<(), SocketIoError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.joining.as_mut().poll(cx)
    }
}

/// Opens a dynamic namespace in a task of its own: it is opened by the first client that names it, whose connection
/// does not await it.
impl Spawnable for InitRes {
    /// Joins in this call where the backend can: a second client that names the namespace meanwhile would open it a
    /// second time.
    fn spawn(self) {
        let Self { mut joining, become_dynamic } = self;
        become_dynamic();
        match (&mut joining).now_or_never() {
            Some(joined) => report(joined),
            None => drop(tokio::spawn(joining.map(report))),
        }
    }
}

/// That the limit of dynamic namespaces is reached is said once, and not for each client.
fn report(joined: Result<(), SocketIoError>) {
    if let Err(error) = joined
        && error.as_error().kind() != ErrorKind::Limit
    {
        tracing::error!(%error, "a dynamic namespace could not be opened");
    }
}

impl fmt::Debug for InitRes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InitRes").finish_non_exhaustive()
    }
}
