//! MessagePack, read and written token by token, without a value tree.
//!
//! `rmp` reads and writes markers, lengths and numbers. What stands here is what it does not know: values as slices of
//! the data, one pass between the encodings, the rules of the official Node.js encoders, JavaScript's dates and
//! numbers, liberal reading, the depth limit.

mod decoder;
mod scanner;
mod stream;
mod timestamp;
mod writer;

use std::borrow::Cow;

pub(crate) use decoder::Decoder;
pub use scanner::{Scanner, Token};
pub(crate) use stream::{skip, stream, validate};
pub use timestamp::iso_date;
pub use writer::{Rules, Writer, write_array_len, write_binary, write_map_len, write_number, write_text};

/// Decodes the bytes of a [`Token::Text`]. What is not UTF-8 in it becomes U+FFFD.
#[inline]
#[must_use]
pub fn text(bytes: &[u8]) -> Cow<'_, str> {
    // Most text is valid, and finding that out alone is faster.
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}
