//! The error of socketioxide's own operations.

use std::{error, fmt};

use socketioxide_core::adapter::errors::{AdapterError, BroadcastError};
use trunkline_core::{Error, Incomplete, RequestError, SocketInfo};

/// Error of socketioxide's own operations (`io.ns`, `fetch_sockets`, `join`, …) on the cluster: an [`Error`] in the
/// form that socketioxide requires. It converts into that with `?`.
#[derive(Clone, Debug)]
pub struct SocketIoError(RequestError<Vec<SocketInfo>>);

impl SocketIoError {
    /// The error with its kind.
    #[must_use]
    pub fn as_error(&self) -> &Error {
        self.0.as_error()
    }

    /// The sockets that were fetched before the time ran out, and the nodes that did not answer. With
    /// [`partial`](crate::PartialAnswers::partial) they are the result.
    #[must_use]
    pub fn incomplete(&self) -> Option<&Incomplete<Vec<SocketInfo>>> {
        self.0.incomplete()
    }

    /// The sockets that were fetched before the time ran out: `io.to(…)` reaches each by its id.
    ///
    /// # Errors
    /// The error itself, if it is not about time.
    pub fn into_received(self) -> Result<Vec<SocketInfo>, Error> {
        self.0.into_received()
    }
}

impl fmt::Display for SocketIoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for SocketIoError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()
    }
}

impl From<Error> for SocketIoError {
    fn from(error: Error) -> Self {
        Self(error.into())
    }
}

impl From<RequestError<Vec<SocketInfo>>> for SocketIoError {
    fn from(error: RequestError<Vec<SocketInfo>>) -> Self {
        Self(error)
    }
}

impl From<SocketIoError> for Error {
    fn from(SocketIoError(error): SocketIoError) -> Self {
        error.into()
    }
}

impl From<SocketIoError> for AdapterError {
    fn from(error: SocketIoError) -> Self {
        Self(Box::new(error))
    }
}

impl From<SocketIoError> for BroadcastError {
    fn from(error: SocketIoError) -> Self {
        Self::Adapter(error.into())
    }
}
