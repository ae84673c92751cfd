//! Why a case failed, for a reader who has only the log.

use std::{
    fmt::{self, Debug},
    panic::Location,
};

use trunkline_core::{Error, RequestError};

/// Failure of a check: the reason, the line of the case, and the anomalies that its nodes counted.
#[derive(Clone)]
pub struct Failure {
    text: String,
    at: &'static Location<'static>,
    anomalies: String,
}

/// Result of a step of a case.
pub type Checked<T = ()> = Result<T, Failure>;

impl Failure {
    /// Creates a failure at the line of the caller.
    #[track_caller]
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self::at(Location::caller(), text)
    }

    pub(crate) fn at(at: &'static Location<'static>, text: impl Into<String>) -> Self {
        Self { text: text.into(), at, anomalies: String::new() }
    }

    /// Adds what the nodes counted; nothing if that is empty.
    pub(crate) fn with_anomalies(self, anomalies: String) -> Self {
        Self { anomalies, ..self }
    }
}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Self {
        Self::at(Location::caller(), format!("an operation failed: {error}"))
    }
}

impl<T> From<RequestError<T>> for Failure {
    #[track_caller]
    fn from(error: RequestError<T>) -> Self {
        Self::from(Error::from(error))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.text, self.at.file(), self.at.line())?;
        if self.anomalies.is_empty() { Ok(()) } else { write!(f, "; {}", self.anomalies) }
    }
}

impl Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// Fails with `what` unless `condition` holds.
#[track_caller]
pub fn check(condition: bool, what: impl Into<String>) -> Checked {
    if condition { Ok(()) } else { Err(Failure::new(what)) }
}

/// Fails unless both values are equal, and shows them. Takes values, as `assert_eq!` seems to.
#[track_caller]
#[allow(clippy::needless_pass_by_value)]
pub fn check_eq<A: PartialEq<B> + Debug, B: Debug>(actual: A, expected: B, what: &str) -> Checked {
    if actual == expected {
        return Ok(());
    }
    Err(Failure::new(format!("{what}: got {}, expected {}", brief(&actual), brief(&expected))))
}

/// Formats a value with `Debug`, shortened in the middle.
pub(super) fn brief(value: &impl Debug) -> String {
    const MAX_CHARS: usize = 600;
    let text = format!("{value:?}");
    if text.chars().count() <= MAX_CHARS {
        return text;
    }
    let head: String = text.chars().take(MAX_CHARS / 2).collect();
    let tail: String = text.chars().skip(text.chars().count() - MAX_CHARS / 2).collect();
    format!("{head} … {tail}")
}
