//! BSON in one pass, by the rules of the Node.js driver.
//!
//! The `bson` crate builds a tree of values, one allocation per string and container; its raw types build every nested
//! document in a buffer of its own and copy it into the one around it. Here a payload goes from JSON to BSON and back
//! without either: arguments of any size cost the buffer they end in. Numbers get the type that the Node.js driver
//! would choose, so that official adapters see no difference.

mod reader;
mod writer;

pub(crate) use reader::BsonReader;
pub(crate) use writer::{BsonWriter, date, object_id};

/// Element types, by their number in the encoding.
mod kind {
    pub(super) const END: u8 = 0x00;
    pub(super) const DOUBLE: u8 = 0x01;
    pub(super) const TEXT: u8 = 0x02;
    pub(super) const DOCUMENT: u8 = 0x03;
    pub(super) const ARRAY: u8 = 0x04;
    pub(super) const BINARY: u8 = 0x05;
    pub(super) const UNDEFINED: u8 = 0x06;
    pub(super) const OBJECT_ID: u8 = 0x07;
    pub(super) const BOOLEAN: u8 = 0x08;
    pub(super) const DATE: u8 = 0x09;
    pub(super) const NULL: u8 = 0x0a;
    pub(super) const REGEX: u8 = 0x0b;
    pub(super) const POINTER: u8 = 0x0c;
    pub(super) const CODE: u8 = 0x0d;
    pub(super) const SYMBOL: u8 = 0x0e;
    pub(super) const SCOPED_CODE: u8 = 0x0f;
    pub(super) const INT32: u8 = 0x10;
    pub(super) const TIMESTAMP: u8 = 0x11;
    pub(super) const INT64: u8 = 0x12;
    pub(super) const DECIMAL: u8 = 0x13;
    pub(super) const MAX_KEY: u8 = 0x7f;
    pub(super) const MIN_KEY: u8 = 0xff;
}
