//! The error type that socketioxide sees.

use std::{error, fmt};

use socketioxide_core::{adapter::errors::AdapterError, adapter::errors::BroadcastError};
use trunkline_core::Partial;

/// What socketioxide's operations return when the cluster could not do them: a [`trunkline_core::Error`] in the form that socketioxide
/// wants.
#[derive(Clone, Debug)]
pub struct Error(trunkline_core::Error);

impl Error {
    /// What arrived before a request timed out, and who did not answer.
    #[must_use]
    pub fn partial(&self) -> Option<&Partial> {
        self.0.partial()
    }

    /// The error itself: its kind, and whether trying again helps.
    #[must_use]
    pub fn inner(&self) -> &trunkline_core::Error {
        &self.0
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.0.source()
    }
}

impl From<trunkline_core::Error> for Error {
    fn from(error: trunkline_core::Error) -> Self {
        Self(error)
    }
}

impl From<Error> for trunkline_core::Error {
    fn from(Error(error): Error) -> Self {
        error
    }
}

impl From<Error> for AdapterError {
    fn from(error: Error) -> Self {
        Self(Box::new(error))
    }
}

impl From<Error> for BroadcastError {
    fn from(error: Error) -> Self {
        Self::Adapter(error.into())
    }
}
