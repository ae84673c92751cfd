//! Errors of the server, and whether trying again helps.

use std::{error::Error as _, fmt, time::Duration};

use tokio_postgres::error::SqlState;
use trunkline_backend::ConnectFailure;
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
        if let Some(failure) = self.rejection() {
            return failure.at(what).with_source(self.to_string());
        }
        let context = format!("{what}: {self}");
        match self {
            Self::Refused(error) => {
                let is_missing = error.code() == Some(&SqlState::INVALID_CATALOG_NAME);
                let kind = if is_missing { ErrorKind::Config } else { ErrorKind::Broker };
                match error.into_source() {
                    Some(source) => Error::new(kind, context).with_source(source),
                    None => Error::new(kind, context),
                }
            }
            Self::Lost(_) => Error::new(ErrorKind::Disconnected, context),
        }
    }

    /// Why the server does not accept us, if that is what it is.
    fn rejection(&self) -> Option<ConnectFailure> {
        let text = self.to_string();
        let Self::Refused(error) = self else {
            return match text {
                _ if text.contains("does not support TLS") => Some(ConnectFailure::NoTls),
                _ if text.contains("password missing") => Some(ConnectFailure::Credentials),
                _ => ConnectFailure::of_tls(&text)
                    .map(|failure| failure.or_name("sslmode=verify-ca checks the authority and no name")),
            };
        };
        match error.code()?.code() {
            "28000" if text.contains("certificate") => Some(ConnectFailure::Handshake),
            "28000" if text.contains("no encryption") || text.contains("SSL off") => Some(ConnectFailure::NeedsTls),
            "28P01" | "28000" => Some(ConnectFailure::Credentials),
            "42501" => Some(ConnectFailure::Rights),
            _ => None,
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
