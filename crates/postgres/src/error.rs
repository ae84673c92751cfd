//! Errors of the server, and whether trying again helps.

use std::{error::Error as _, fmt, time::Duration};

use tokio_postgres::error::SqlState;
use trunkline_core::{Error, ErrorKind};

/// Error of a statement or of its connection.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server refused a statement.
    Refused(tokio_postgres::Error),
    /// The connection ended, or was given up; the text says why.
    Lost(String),
}

impl Failure {
    pub(crate) fn no_answer(limit: Duration) -> Self {
        Self::Lost(format!("no answer in {limit:?}"))
    }

    /// Whether the same statement may succeed later, on a new connection: the connection broke, or the server is short
    /// of something, read-only or shutting down. Otherwise it will never accept the statement as it is.
    pub(crate) fn may_pass(&self) -> bool {
        let Self::Refused(error) = self else { return true };
        if self.lacks_table() {
            return true;
        }
        // By the class of the SQLSTATE: data exception, constraint, missing object or privilege, feature not supported.
        !matches!(error.code().and_then(|code| code.code().get(..2)), Some("22" | "23" | "42" | "0A"))
    }

    pub(crate) fn is_lost(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// Whether a table is gone: who connects creates it again.
    pub(crate) fn lacks_table(&self) -> bool {
        matches!(self, Self::Refused(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE))
    }

    /// This failure as the error of a call; `what` was tried.
    pub(crate) fn into_error(self, what: impl fmt::Display) -> Error {
        let context = format!("{what}: {self}");
        match self {
            Self::Refused(error) => Error::new(ErrorKind::Broker, context).with_source(error),
            Self::Lost(_) => Error::new(ErrorKind::Disconnected, context),
        }
    }
}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        if error.as_db_error().is_some() { Self::Refused(error) } else { Self::Lost(describe(&error)) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => f.write_str(&describe(error)),
            Self::Lost(reason) => f.write_str(reason),
        }
    }
}

/// The error's message in one line. Details are left out: they may quote rows.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {} (SQLSTATE {})", error.severity(), error.message(), error.code().code());
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
