//! Rooms, and how the rooms of different servers match.

use std::{
    fmt,
    hash::{Hash, Hasher},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

use super::target::MARK;
use crate::error::{Error, ErrorKind, Result};

/// A room: text, or a number that a Node.js peer used as room.
///
/// Node.js compares rooms by type: a socket in room `42` is not in room `"42"`. `Room` keeps what arrived and compares
/// the same way. A server whose rooms can only be text (socketioxide) keeps a number room under its decimal text
/// ([`Room::to_text`]); there, and only there, `42` and `"42"` are one room.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Room {
    /// A room named by text.
    Text(SmolStr),
    /// A room named by a number.
    Number(RoomNumber),
}

impl Room {
    /// Longest name of a room, in bytes. Nodes drop messages with a longer one.
    pub const MAX_BYTES: usize = 4096;

    /// A room named by text.
    #[must_use]
    pub fn new(name: impl Into<SmolStr>) -> Self {
        Self::Text(name.into())
    }

    /// A room named by a number; `None` if it is not finite.
    #[must_use]
    pub fn number(value: f64) -> Option<Self> {
        RoomNumber::new(value).map(Self::Number)
    }

    /// Refuses a room whose name is longer than [`Room::MAX_BYTES`].
    ///
    /// # Errors
    /// `TooLarge`, with the length and the limit.
    pub fn check(&self) -> Result<()> {
        let length = self.as_text().map_or(0, str::len);
        if length <= Self::MAX_BYTES {
            return Ok(());
        }
        let context = format!("a room name of {length} bytes, allowed are {}", Self::MAX_BYTES);
        Err(Error::new(ErrorKind::TooLarge, context))
    }

    /// Whether it is the room of [`Target::mark`](crate::Target::mark).
    pub(crate) fn is_mark(&self) -> bool {
        self.as_text() == Some(MARK)
    }

    /// The text of a text room.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(name) => Some(name),
            Self::Number(_) => None,
        }
    }

    /// The room as text: its name, or the number as JavaScript prints it (`42`, `1.5`, `1e+21`). Channel names are
    /// built from this.
    #[must_use]
    pub fn to_text(&self) -> SmolStr {
        match self {
            Self::Text(name) => name.clone(),
            Self::Number(number) => SmolStr::new(ryu_js::Buffer::new().format_finite(number.0)),
        }
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(name) => write!(f, "{:?}", name.as_str()),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl From<&str> for Room {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Room {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

impl From<i32> for Room {
    fn from(number: i32) -> Self {
        Self::Number(RoomNumber(f64::from(number)))
    }
}

impl Serialize for Room {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(name) => serializer.serialize_str(name),
            Self::Number(number) => match number.as_integer() {
                Some(integer) => serializer.serialize_i64(integer),
                None => serializer.serialize_f64(number.0),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Room {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RoomVisitor)
    }
}

struct RoomVisitor;

impl de::Visitor<'_> for RoomVisitor {
    type Value = Room;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a room: text or a finite number")
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Room, E> {
        Ok(Room::new(name))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Room, E> {
        Room::number(number).ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Room, E> {
        self.visit_f64(number as f64)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Room, E> {
        self.visit_f64(number as f64)
    }
}

/// A finite number used as a room. JavaScript has one number type, so `42` and `42.0` are the same room, and so are `0`
/// and `-0`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct RoomNumber(f64);

impl RoomNumber {
    /// The number; `None` if it is not finite.
    #[must_use]
    pub fn new(value: f64) -> Option<Self> {
        // `+ 0.0` turns -0 into 0, so that equal numbers have equal bits.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// The value.
    #[must_use]
    pub fn value(self) -> f64 {
        self.0
    }

    /// The value as integer, if it is one that JavaScript can represent exactly (at most 2^53).
    #[must_use]
    pub fn as_integer(self) -> Option<i64> {
        const MAX_SAFE: f64 = 9_007_199_254_740_992.0;
        (self.0.fract() == 0.0 && self.0.abs() <= MAX_SAFE).then_some(self.0 as i64)
    }
}

impl Eq for RoomNumber {}

// The value is finite, so the partial order of floats is total here.
#[allow(clippy::derive_ord_xor_partial_ord)]
impl Ord for RoomNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

impl Hash for RoomNumber {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Display for RoomNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(ryu_js::Buffer::new().format_finite(self.0))
    }
}

impl fmt::Debug for RoomNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_its_text_are_different_rooms() {
        assert_ne!(Room::from(42), Room::from("42"));
        assert_eq!(Room::from(42).to_text(), "42");
    }

    #[test]
    fn a_number_room_is_named_as_javascript_prints_the_number() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (-42.0, "-42"),
            (0.1 + 0.2, "0.30000000000000004"),
            (1e-6, "0.000001"),
            (1.5e-7, "1.5e-7"),
            (2_f64.powi(53), "9007199254740992"),
            (2_f64.powi(63), "9223372036854776000"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-1.25e300, "-1.25e+300"),
            (f64::MAX, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
        ] {
            assert_eq!(Room::number(number).unwrap().to_text(), text);
        }
    }

    #[test]
    fn equal_numbers_are_one_room_whatever_their_encoding() {
        assert_eq!(serde_json::from_str::<Room>("42.0").unwrap(), Room::from(42));
        assert_eq!(serde_json::from_str::<Room>("-0.0").unwrap(), Room::from(0));
        assert_eq!(serde_json::to_string(&Room::from(42)).unwrap(), "42");
        assert_eq!(serde_json::to_string(&Room::number(1.5)).unwrap(), "1.5");
    }

    #[test]
    fn what_is_neither_text_nor_number_is_no_room() {
        let error = serde_json::from_str::<Room>("{}").unwrap_err();
        assert!(error.to_string().contains("a room"), "{error}");
        assert_eq!(Room::number(f64::NAN), None);
    }
}
