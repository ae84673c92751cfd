//! JSON text: scanning, streaming and writing it without a value tree.

mod scanner;
mod stream;
mod text;
mod writer;

pub use scanner::{RawText, Scanner};
pub(crate) use stream::{placeholders, stream, validate};
pub use text::{escape, unescape};
pub use writer::{Binary, Writer};
