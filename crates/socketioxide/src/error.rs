//! The error of socketioxide's own operations.

use std::{error, fmt};

use socketioxide_core::{adapter::errors::AdapterError, adapter::errors::BroadcastError};
use trunkline_core::Partial;

/// Error of socketioxide's own operations (`io.ns`, `fetch_sockets`, `join`, …) on the cluster: an [`Error`](trunkline_core::Error) in the
/// form that socketioxide requires. It converts into that with `?`.
#[derive(Clone, Debug)]
pub struct SocketIoError(trunkline_core::Error);

impl SocketIoError {
    /// The answers that arrived before a request timed out, and the nodes that did not answer.
    #[must_use]
    pub fn partial(&self) -> Option<&Partial> {
        self.0.partial()
    }

    /// The error with its kind.
    #[must_use]
    pub fn inner(&self) -> &trunkline_core::Error {
        &self.0
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

impl From<trunkline_core::Error> for SocketIoError {
    fn from(error: trunkline_core::Error) -> Self {
        Self(error)
    }
}

impl From<SocketIoError> for trunkline_core::Error {
    fn from(SocketIoError(error): SocketIoError) -> Self {
        error
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
