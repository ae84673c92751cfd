//! Why a broker is not there.

use std::{fmt, io};

/// Short form for this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// A broker could not be started or controlled. Tests fail with it: a missing broker is never a pass.
pub enum Error {
    /// A program is not installed.
    Missing {
        /// What was looked for.
        program: String,
        /// How to get it.
        install: &'static str,
    },
    /// The broker ended, or did not get ready in time.
    NotReady {
        /// Which broker.
        broker: String,
        /// What happened.
        reason: String,
        /// The end of what it printed.
        log: String,
    },
    /// A helper program failed.
    Failed {
        /// The command.
        command: String,
        /// What it printed.
        output: String,
    },
    /// The operating system refused something.
    Io {
        /// What was tried.
        what: String,
        /// How it failed.
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
    /// As `Display`, so that `unwrap` in a test prints the sentence.
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
