//! Why encoded data could not be read, small enough for hot loops.

use std::fmt;

use crate::error::Error;

/// Why encoded data could not be read. One byte, unlike [`Error`]; it becomes one where the name of the field is known ([`Fault::at`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The data ends in the middle of a value.
    Truncated,
    /// A byte that cannot stand where it stands.
    Syntax,
    /// Containers nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
    /// Something follows the value.
    Trailing,
    /// A value of another type than expected.
    Unexpected,
    /// The key of a map is itself a container.
    Key,
    /// A number outside the range that its field allows.
    Range,
    /// Text or a list longer than allowed.
    TooLong,
    /// Attachments and the placeholders in the text do not match.
    Attachments,
    /// A field that must be there is not.
    Missing,
    /// A field that occurs twice.
    Repeated,
}

impl Fault {
    /// The error for `what`, the name of the field or format that was read. Data is never part of the message.
    #[must_use]
    pub fn at(self, what: &str) -> Error {
        Error::malformed(format!("{what}: {self}"))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "ends too early",
            Self::Syntax => "invalid syntax",
            Self::TooDeep => "nested too deeply",
            Self::Trailing => "followed by more data",
            Self::Unexpected => "wrong type",
            Self::Key => "a map key that is a container",
            Self::Range => "number out of range",
            Self::TooLong => "too long",
            Self::Attachments => "placeholders do not match the attachments",
            Self::Missing => "missing",
            Self::Repeated => "given twice",
        })
    }
}

impl std::error::Error for Fault {}

/// Result of reading encoded data.
pub type Scan<T> = Result<T, Fault>;
