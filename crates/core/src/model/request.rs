//! Errors of requests that several nodes answer, with the answers that arrived.

use std::{error, fmt};

use super::NodeId;
use crate::error::{Error, ErrorKind};

/// Failure of a request to the cluster; if some nodes have not answered, with the answers that arrived.
///
/// Converts into [`Error`], which forgets the answers.
#[derive(Clone, Debug)]
pub struct RequestError<T> {
    error: Error,
    incomplete: Option<Box<Incomplete<T>>>,
}

/// Answers to a request that not every node has answered.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Incomplete<T> {
    /// The answers that arrived.
    pub received: T,
    /// Nodes known by name that did not answer.
    pub missing: Vec<NodeId>,
    /// Number of other nodes that did not answer: Node.js servers that send no heartbeats, known from the broker's
    /// count only.
    pub missing_unnamed: usize,
}

/// Clients of an acknowledged broadcast.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AckCounts {
    /// Clients to which the broadcast was sent, as far as their nodes have told.
    pub expected: u64,
    /// Clients that have acknowledged.
    pub received: u64,
}

/// Names of missing nodes in an error text. More are counted.
const MAX_NAMES: usize = 8;

impl<T> Incomplete<T> {
    /// Answers of some nodes, while `missing` and `missing_unnamed` others did not answer.
    #[must_use]
    pub fn new(received: T, missing: Vec<NodeId>, missing_unnamed: usize) -> Self {
        Self { received, missing, missing_unnamed }
    }

    /// Number of nodes that did not answer.
    #[must_use]
    pub fn missing_nodes(&self) -> usize {
        self.missing.len() + self.missing_unnamed
    }

    /// Which of `total` nodes did not answer, for an error text.
    pub(crate) fn describe(&self, total: usize) -> String {
        let missing = self.missing_nodes();
        let names: Vec<_> = self.missing.iter().take(MAX_NAMES).map(NodeId::as_str).collect();
        match names.as_slice() {
            [] => format!("{missing} of {total} nodes did not answer"),
            names => format!("{missing} of {total} nodes did not answer, among them {}", names.join(", ")),
        }
    }

    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Incomplete<U> {
        let Self { received, missing, missing_unnamed } = self;
        Incomplete { received: change(received), missing, missing_unnamed }
    }
}

impl<T> RequestError<T> {
    /// A request with some answers only.
    pub(crate) fn incomplete_for(error: Error, incomplete: Incomplete<T>) -> Self {
        Self { error, incomplete: Some(Box::new(incomplete)) }
    }

    /// Kind of the error; [`ErrorKind::Timeout`] if not every node answered in time, [`ErrorKind::TooLarge`] if the
    /// broker does not take what a node has to answer.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Whether the same call may succeed later without any change.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.error.is_retryable()
    }

    /// The answers that arrived, and the nodes that are missing; `None` if the request was not sent or the node has
    /// left.
    #[must_use]
    pub fn incomplete(&self) -> Option<&Incomplete<T>> {
        self.incomplete.as_deref()
    }

    /// As [`RequestError::incomplete`], by value.
    #[must_use]
    pub fn into_incomplete(self) -> Option<Incomplete<T>> {
        self.incomplete.map(|incomplete| *incomplete)
    }

    /// The answers that arrived.
    ///
    /// ```
    /// # use trunkline_core::{ClusterNode, RequestError, Result, Room};
    /// # async fn rooms(node: ClusterNode) -> Result<Vec<Room>> {
    /// let rooms = node.all_rooms().await.or_else(RequestError::into_received)?;
    /// # Ok(rooms)
    /// # }
    /// ```
    ///
    /// # Errors
    /// The error itself, if the request was not sent or the node has left.
    pub fn into_received(self) -> Result<T, Error> {
        match self.incomplete {
            Some(incomplete) => Ok(incomplete.received),
            None => Err(self.error),
        }
    }

    /// The error without the answers.
    #[must_use]
    pub fn as_error(&self) -> &Error {
        &self.error
    }

    /// The same error, with the answers changed by `change`.
    #[must_use]
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> RequestError<U> {
        let incomplete = self.incomplete.map(|incomplete| Box::new(incomplete.map(change)));
        RequestError { error: self.error, incomplete }
    }
}

impl<T> From<Error> for RequestError<T> {
    fn from(error: Error) -> Self {
        Self { error, incomplete: None }
    }
}

impl<T> From<RequestError<T>> for Error {
    fn from(error: RequestError<T>) -> Self {
        error.error
    }
}

impl<T> fmt::Display for RequestError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl<T: fmt::Debug> error::Error for RequestError<T> {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.error.source()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(count: usize) -> Vec<NodeId> {
        (0..count).map(|number| NodeId::new(format!("n{number}")).unwrap()).collect()
    }

    #[test]
    fn the_text_names_a_few_missing_nodes_and_counts_all() {
        let text = Incomplete::new((), nodes(4_096), 1).describe(5_000);
        assert!(text.starts_with("4097 of 5000 nodes did not answer, among them n0, n1"), "{text}");
        assert!(text.len() < 200, "{text}");
        assert_eq!(Incomplete::new((), Vec::new(), 2).describe(3), "2 of 3 nodes did not answer");
    }

    #[test]
    fn converting_into_a_plain_error_keeps_kind_and_text() {
        let error = RequestError::incomplete_for(
            Error::new(ErrorKind::Timeout, "1 of 2"),
            Incomplete::new(vec![1], nodes(1), 0),
        );
        assert_eq!(error.incomplete().unwrap().received, [1]);
        assert_eq!(error.clone().into_received().unwrap(), [1]);
        let closed = RequestError::<()>::from(Error::new(ErrorKind::Closed, "left"));
        assert_eq!(closed.into_received().unwrap_err().kind(), ErrorKind::Closed);
        let mapped = error.map(|received| received.len());
        assert_eq!(mapped.incomplete().unwrap().missing, nodes(1));
        let plain = Error::from(mapped);
        assert_eq!((plain.kind(), plain.to_string()), (ErrorKind::Timeout, "timed out: 1 of 2".to_owned()));
    }
}
