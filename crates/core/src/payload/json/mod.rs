//! JSON text, read and written token by token, without a value tree.
//!
//! `serde_json` serves between Rust values and JSON. Between encodings it cannot: its strings must not have lone
//! surrogates, which `JSON.stringify` writes and receivers accept; its depth limit is another one; and it reads no
//! message from both ends.

mod scanner;
mod stream;
mod text;
mod writer;

pub use scanner::{RawText, Scanner};
pub(crate) use stream::{has_false_placeholder, placeholders, stream, validate};
pub use text::{escape, unescape};
pub use writer::{Binary, Writer};
