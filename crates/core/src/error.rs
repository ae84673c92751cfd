//! Errors: their kind, context and source, and whether trying again helps.

use std::{error, fmt, sync::Arc};

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of an operation: its kind, what was tried, and the cause. Never contains credentials or payloads.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
}

/// Kind of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting or URL is wrong.
    Config,
    /// This backend, broker version or server cannot do it.
    Unsupported,
    /// The adapter or transport was closed.
    Closed,
    /// The broker is away and the operation needs it now.
    Disconnected,
    /// The queue of held publishes is full.
    QueueFull,
    /// The message exceeds the transport's limit; nothing was sent.
    TooLarge,
    /// Not every node answered in time; a [`RequestError`](crate::RequestError) has what arrived.
    Timeout,
    /// Data that is not what the protocol says.
    Malformed,
    /// The broker refused an operation.
    Broker,
    /// The history no longer holds what was asked for.
    HistoryLost,
}

impl ErrorKind {
    fn describe(self) -> &'static str {
        match self {
            Self::Config => "configuration",
            Self::Unsupported => "not supported",
            Self::Closed => "closed",
            Self::Disconnected => "broker not connected",
            Self::QueueFull => "publish queue full",
            Self::TooLarge => "message too large",
            Self::Timeout => "timed out",
            Self::Malformed => "malformed data",
            Self::Broker => "broker error",
            Self::HistoryLost => "history lost",
        }
    }
}

impl Error {
    /// An error of a kind; `context` says what was tried and with which value.
    #[must_use]
    pub fn new(kind: ErrorKind, context: impl Into<String>) -> Self {
        Self { kind, context: context.into(), source: None }
    }

    /// A [`ErrorKind::Malformed`] error.
    #[must_use]
    pub fn malformed(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, context)
    }

    /// What was tried, and with which value: the text without the kind.
    #[must_use]
    pub fn context(&self) -> &str {
        &self.context
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Kind of the error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Disconnected | ErrorKind::QueueFull | ErrorKind::Timeout | ErrorKind::Broker)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.kind.describe(), self.context)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
