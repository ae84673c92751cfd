//! JSON text, read and written token by token, without a value tree.
//!
//! `serde_json` serves between Rust values and JSON. Between encodings it cannot: it gives no positions, by which
//! payloads stay slices of the text; it refuses the lone surrogates that `JSON.stringify` writes; and it reads the
//! length of nothing but whole values.

mod scanner;
mod stream;
mod text;
mod writer;

pub use scanner::{RawText, Scanner};
pub(crate) use stream::{placeholders, stream, validate};
pub use text::{escape, unescape};
pub use writer::{Binary, Writer};
