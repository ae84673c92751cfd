//! The position of a message in the history.

use std::fmt;

use trunkline_backend::batch::Batch;
use trunkline_core::{Error, ErrorKind, Offset, Result};

/// The position of a message: its batch in the stream, and how many messages follow in that batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) sequence: u64,
    pub(crate) remaining: u32,
    /// The sender of the batch: tells it from one at the same position of a stream of the same name that was deleted.
    pub(crate) sender: String,
}

impl Position {
    /// The position of the message of `batch` that so many others follow.
    pub(crate) fn new(sequence: u64, remaining: usize, batch: &Batch) -> Self {
        Self { sequence, remaining: remaining.try_into().unwrap_or(u32::MAX), sender: batch.sender().to_string() }
    }

    /// # Errors
    /// `Malformed` for what is no offset of this history.
    pub(crate) fn parse(offset: &Offset) -> Result<Self> {
        let malformed = || Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of this history"));
        let mut parts = offset.as_str().split('-');
        let mut part = || parts.next().ok_or_else(malformed);
        let (sequence, remaining, sender) = (part()?, part()?, part()?);
        let is_sender =
            sender.len() == 16 && sender.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let position = Self {
            sequence: sequence.parse().map_err(|_| malformed())?,
            remaining: remaining.parse().map_err(|_| malformed())?,
            sender: sender.to_owned(),
        };
        // One text per position, and nothing else.
        if is_sender && position.to_string() == offset.as_str() { Ok(position) } else { Err(malformed()) }
    }

    pub(crate) fn offset(&self) -> Offset {
        Offset::new(self.to_string()).expect("three numbers are shorter than 255 bytes")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.sequence, self.remaining, self.sender)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_one_text_and_no_other() {
        let position = Position { sequence: 17, remaining: 3, sender: "0123456789abcdef".into() };
        assert_eq!(position.offset().as_str(), "17-3-0123456789abcdef");
        assert_eq!(Position::parse(&position.offset()).unwrap(), position);
        for text in
            ["", "17", "17-3", "17-3-0", "017-3-0123456789abcdef", "17-3-0123456789ABCDEF", "17-3-0123456789abcdef-"]
        {
            let error = Position::parse(&Offset::new(text).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
        }
    }
}
