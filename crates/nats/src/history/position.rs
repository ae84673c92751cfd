//! The position of a message in the history.

use std::fmt;

use async_nats::jetstream::stream::Info;
use trunkline_core::{Error, ErrorKind, Offset, Result};

/// The position of a message: its stream, its batch in the stream, and how many messages follow in that batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// Tells a stream from one of the same name that was deleted.
    pub(crate) epoch: u32,
    pub(crate) sequence: u64,
    pub(crate) remaining: u32,
}

/// When the stream was created, in milliseconds; as much of it as tells two apart.
pub(crate) fn epoch(info: &Info) -> u32 {
    let milliseconds = info.created.unix_timestamp_nanos() / 1_000_000;
    milliseconds.rem_euclid(1 << 32) as u32
}

impl Position {
    /// # Errors
    /// `Malformed` for what is no offset of this history.
    pub(crate) fn parse(offset: &Offset) -> Result<Self> {
        let malformed = || Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of this history"));
        let mut parts = offset.as_str().split('-');
        let mut part = || parts.next().ok_or_else(malformed);
        let (epoch, sequence, remaining) = (part()?, part()?, part()?);
        let position = Self {
            epoch: u32::from_str_radix(epoch, 16).map_err(|_| malformed())?,
            sequence: sequence.parse().map_err(|_| malformed())?,
            remaining: remaining.parse().map_err(|_| malformed())?,
        };
        // One text per position, and nothing else.
        if position.to_string() == offset.as_str() { Ok(position) } else { Err(malformed()) }
    }

    pub(crate) fn offset(self) -> Offset {
        Offset::new(self.to_string()).expect("three numbers are shorter than 255 bytes")
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}-{}-{}", self.epoch, self.sequence, self.remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offset_is_one_text_and_no_other() {
        let position = Position { epoch: 0xab, sequence: 17, remaining: 3 };
        assert_eq!(position.offset().as_str(), "000000ab-17-3");
        assert_eq!(Position::parse(&position.offset()).unwrap(), position);
        for text in
            ["", "17", "000000ab-17", "000000ab-17-3-1", "000000AB-17-3", "000000ab-017-3", "000000ab-+17-3", "0-1-2"]
        {
            let error = Position::parse(&Offset::new(text).unwrap()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{text}");
        }
    }
}
