//! MessagePack: scanning, streaming and writing it without a value tree.

mod decoder;
mod scanner;
mod stream;
mod timestamp;
mod writer;

pub(crate) use decoder::Decoder;
pub use scanner::{Scanner, Token};
pub(crate) use stream::{skip, stream, validate};
pub use writer::{Rules, Writer, write_array_len, write_binary, write_map_len, write_number, write_text};
