//! What can go wrong, and whether trying again helps.

use std::{error, fmt, sync::Arc};

use crate::{
    model::{NodeId, Room, SocketInfo},
    payload::Payload,
};

/// Result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and why. Never contains credentials or payloads.
#[derive(Clone, Debug)]
pub struct Error {
    kind: ErrorKind,
    context: String,
    source: Option<Arc<dyn error::Error + Send + Sync>>,
    partial: Option<Box<Partial>>,
}

/// The kinds of [`Error`].
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
    /// Not every node answered in time; see [`Error::partial`].
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
        Self { kind, context: context.into(), source: None, partial: None }
    }

    /// A [`ErrorKind::Malformed`] error.
    #[must_use]
    pub fn malformed(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Malformed, context)
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        self.source = Some(Arc::from(source.into()));
        self
    }

    /// Keeps what had arrived when the request ended.
    #[must_use]
    pub fn with_partial(mut self, partial: Partial) -> Self {
        self.partial = Some(Box::new(partial));
        self
    }

    /// What kind of error.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self.kind, ErrorKind::Disconnected | ErrorKind::QueueFull | ErrorKind::Timeout | ErrorKind::Broker)
    }

    /// What arrived before a request timed out, and who did not answer.
    #[must_use]
    pub fn partial(&self) -> Option<&Partial> {
        self.partial.as_deref()
    }

    /// As [`Error::partial`], by value.
    #[must_use]
    pub fn into_partial(self) -> Option<Partial> {
        self.partial.map(|partial| *partial)
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

/// What a request had gathered when its time was up.
#[derive(Clone, Debug, PartialEq)]
pub struct Partial {
    /// The answers that arrived.
    pub answers: Answers,
    /// The nodes that did not answer.
    pub missing: Vec<NodeId>,
    /// How many more nodes did not answer that only the broker's count knows of (Node.js peers that send no heartbeats).
    pub missing_unnamed: usize,
}

/// Answers of the nodes of a cluster, by kind of request.
#[derive(Clone, Debug, PartialEq)]
pub enum Answers {
    /// Of `fetch_sockets`.
    Sockets(Vec<SocketInfo>),
    /// Of `all_rooms`.
    Rooms(Vec<Room>),
    /// Of a server-side emit: one value per node, `None` for `undefined`.
    Values(Vec<Option<Payload>>),
    /// Of an acknowledged broadcast: how many clients of the missing nodes and of the others were announced, and how many answered.
    Acks {
        /// Clients that the answering nodes announced.
        expected: u64,
        /// Clients that acknowledged.
        received: u64,
    },
}
