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
    /// A setting, a URL, a password or a right is wrong: it stays so until it is changed, here or at the broker.
    Config,
    /// This backend, broker version or server cannot do it.
    Unsupported,
    /// The adapter or transport was closed.
    Closed,
    /// The broker is away and the operation needs it now.
    Disconnected,
    /// The queue of held publishes is full.
    QueueFull,
    /// As many of something are in use as may be.
    Limit,
    /// The message exceeds the transport's limit; nothing was sent.
    TooLarge,
    /// Not every node answered in time, or one is not seen by the broker; a [`RequestError`](crate::RequestError) has what arrived.
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
            Self::Limit => "limit reached",
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

    /// The same error with what it is about in front: a URL, a server.
    #[must_use]
    pub fn within(mut self, place: impl fmt::Display) -> Self {
        self.context = format!("{place}: {}", self.context);
        self
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
        matches!(
            self.kind,
            ErrorKind::Disconnected | ErrorKind::QueueFull | ErrorKind::Limit | ErrorKind::Timeout | ErrorKind::Broker
        )
    }
}

impl fmt::Display for Error {
    /// Kind and context, and each cause that they do not quote already, in one line. The cause of malformed data is left
    /// out: it may quote a payload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{}: {}", self.kind.describe(), self.context);
        let mut cause = error::Error::source(self).filter(|_| self.kind != ErrorKind::Malformed);
        while let Some(error) = cause {
            let said = error.to_string();
            let said = said.lines().next().unwrap_or_default();
            if !text.contains(said) {
                text.push_str(": ");
                text.push_str(said);
            }
            cause = error.source();
        }
        f.write_str(&text)
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_each_cause_once() {
        let refused = || std::io::Error::new(std::io::ErrorKind::ConnectionRefused, "refused\nDETAIL: a row");
        let bare = Error::new(ErrorKind::Disconnected, "a:1").with_source(refused());
        assert_eq!(bare.to_string(), "broker not connected: a:1: refused");
        let quoted = Error::new(ErrorKind::Disconnected, "a:1: refused").with_source(refused());
        assert_eq!(quoted.to_string(), bare.to_string());
        let outer = Error::new(ErrorKind::Broker, "history").with_source(bare);
        assert_eq!(outer.to_string(), "broker error: history: broker not connected: a:1: refused");
        assert_eq!(Error::malformed("data").with_source(refused()).to_string(), "malformed data: data");
    }
}
