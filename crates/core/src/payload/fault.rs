//! [`Fault`]: the error of reading encoded data, small enough for hot loops.

use std::fmt;

use crate::error::Error;

/// Reason why encoded data could not be read. One byte, unlike [`Error`]; it becomes one where the name of the field is
/// known ([`Fault::at`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The data ends in the middle of a value.
    Truncated,
    /// A byte that cannot stand where it stands.
    Syntax,
    /// Arrays and maps nested deeper than [`MAX_DEPTH`](super::MAX_DEPTH).
    TooDeep,
    /// Something follows the value.
    Trailing,
    /// A value of another type than expected.
    Unexpected,
    /// An array, a map or an extension as the key of a map.
    Key,
    /// A number outside the range that its field allows.
    Range,
    /// Text or a list longer than allowed.
    TooLong,
    /// Attachments and the placeholders in the text do not match.
    Attachments,
    /// A required field that is absent.
    Missing,
    /// A field that occurs twice.
    Repeated,
}

impl Fault {
    /// Converts the fault to an error about `what`, the name of the field or format that was read. Data is never part
    /// of the message.
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
