//! Errors of starting and controlling brokers.

use std::{fmt, io};

/// Result of a broker operation.
pub type Result<T> = std::result::Result<T, Error>;

/// A broker could not be started or controlled. Tests fail with it: a missing broker never counts as a pass.
pub enum Error {
    /// A program is not installed.
    Missing {
        /// Name of the program.
        program: String,
        /// How to install it.
        install: &'static str,
    },
    /// The broker ended, or did not get ready in time.
    NotReady {
        /// Name of the broker.
        broker: String,
        /// What happened.
        reason: String,
        /// The end of its output.
        log: String,
    },
    /// An external program failed.
    Failed {
        /// Name of the program.
        command: String,
        /// Its output.
        output: String,
    },
    /// The operating system refused an operation.
    Io {
        /// The operation.
        what: String,
        /// The error.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        |source| Self::Io { what: what.into(), source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { program, install } => write!(f, "{program} is not installed: {install}"),
            Self::NotReady { broker, reason, log } => write!(f, "{broker} is not ready: {reason}\n{log}"),
            Self::Failed { command, output } => write!(f, "{command} failed: {output}"),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl fmt::Debug for Error {
    /// Formats as `Display`, so that `unwrap` in a test prints the sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
