//! A serde deserializer for MessagePack as JavaScript reads it: floats that carry integers are integers, dates are
//! text, keys are text (and may be read as integers, as `serde_json` does), what is not UTF-8 becomes U+FFFD.
//!
//! `rmp_serde::Deserializer` has no place for these rules. It hands over text that is not UTF-8 as bytes, which a
//! visitor cannot tell from binary; and for the other rules its visitors, sequences, maps, enums and keys all would
//! have to be wrapped, which is as much code as this.

use std::borrow::Cow;

use serde::{
    Deserializer,
    de::{
        self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, VariantAccess, Visitor,
        value::{BorrowedBytesDeserializer, CowStrDeserializer, Error},
    },
    forward_to_deserialize_any,
};

use super::{
    Scanner, Token,
    stream::{Extension, extension, key_text},
    timestamp,
};
use crate::payload::{Fault, MAX_DEPTH, Number};

/// Deserializer that reads one value after the other.
pub(crate) struct Decoder<'de> {
    scanner: Scanner<'de>,
    depth: usize,
}

impl<'de> Decoder<'de> {
    pub(crate) fn new(bytes: &'de [u8]) -> Self {
        Self { scanner: Scanner::new(bytes, 0), depth: MAX_DEPTH + 8 }
    }

    fn token(&mut self) -> Result<Token<'de>, Error> {
        self.scanner.token().map_err(de::Error::custom)
    }

    fn enter<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Error>) -> Result<T, Error> {
        self.depth = self.depth.checked_sub(1).ok_or_else(|| de::Error::custom(Fault::TooDeep))?;
        let value = read(self);
        self.depth += 1;
        value
    }

    fn visit<V: Visitor<'de>>(&mut self, token: Token<'de>, visitor: V) -> Result<V::Value, Error> {
        match token {
            Token::Null => visitor.visit_unit(),
            Token::Boolean(value) => visitor.visit_bool(value),
            Token::Number(number) => visit_number(number, visitor),
            Token::Text(text) => visit_text(text, visitor),
            Token::Binary(data) => visitor.visit_borrowed_bytes(data),
            Token::Extension(kind, data) => visit_extension(kind, data, visitor),
            Token::Array(len) => self.enter(|decoder| visitor.visit_seq(Entries { decoder, len })),
            Token::Map(len) => self.enter(|decoder| visitor.visit_map(Entries { decoder, len })),
        }
    }
}

fn visit_number<'de, V: Visitor<'de>>(number: Number, visitor: V) -> Result<V::Value, Error> {
    match number.normalized() {
        Number::Unsigned(value) => visitor.visit_u64(value),
        Number::Negative(value) => visitor.visit_i64(value),
        Number::Float(value) => visitor.visit_f64(value),
    }
}

fn visit_text<'de, V: Visitor<'de>>(text: &'de [u8], visitor: V) -> Result<V::Value, Error> {
    match super::text(text) {
        Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
        Cow::Owned(text) => visitor.visit_string(text),
    }
}

fn visit_extension<'de, V: Visitor<'de>>(kind: i8, data: &'de [u8], visitor: V) -> Result<V::Value, Error> {
    match extension(kind, data) {
        Extension::Undefined | Extension::Date(None) => visitor.visit_unit(),
        Extension::Date(Some(milliseconds)) => visitor.visit_string(timestamp::iso(milliseconds)),
        Extension::Buffer => visitor.visit_borrowed_bytes(data),
        Extension::Unknown => visitor.visit_seq(Pair { kind: Some(kind), data: Some(data) }),
    }
}

impl<'de> Deserializer<'de> for &mut Decoder<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let token = self.token()?;
        self.visit(token, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let before = self.scanner.clone();
        if self.token()? == Token::Null {
            return visitor.visit_none();
        }
        self.scanner = before;
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.token()? {
            Token::Text(name) => visitor.visit_enum(super::text(name).into_deserializer()),
            Token::Map(1) => self.enter(|decoder| visitor.visit_enum(Variant { decoder })),
            _ => Err(de::Error::custom("an enum is text or a map of one entry")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Remaining entries of an array or map.
struct Entries<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    len: usize,
}

impl<'de> SeqAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if self.len == 0 {
            return Ok(None);
        }
        self.len -= 1;
        seed.deserialize(&mut *self.decoder).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len)
    }
}

impl<'de> MapAccess<'de> for Entries<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if self.len == 0 {
            return Ok(None);
        }
        self.len -= 1;
        let key = key_text(self.decoder.token()?).map_err(de::Error::custom)?;
        seed.deserialize(Key(key)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(&mut *self.decoder)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.len)
    }
}

/// Key of a map: text, which is parsed for maps with integer keys.
struct Key<'de>(Cow<'de, str>);

macro_rules! integer_keys {
    ($($method:ident: $type:ty, $visit:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            match self.0.parse::<$type>() {
                Ok(key) => visitor.$visit(key),
                Err(_) => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Key<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        CowStrDeserializer::new(self.0).deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        CowStrDeserializer::new(self.0).deserialize_enum(name, variants, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    integer_keys! {
        deserialize_u8: u8, visit_u8;
        deserialize_u16: u16, visit_u16;
        deserialize_u32: u32, visit_u32;
        deserialize_u64: u64, visit_u64;
        deserialize_i8: i8, visit_i8;
        deserialize_i16: i16, visit_i16;
        deserialize_i32: i32, visit_i32;
        deserialize_i64: i64, visit_i64;
        deserialize_bool: bool, visit_bool;
    }

    forward_to_deserialize_any! {
        i128 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// Variant of an enum with content: a map of one entry.
struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
}

impl<'de> EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Error> {
        let name = seed.deserialize(&mut *self.decoder)?;
        Ok((name, self))
    }
}

impl<'de> VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        de::Deserialize::deserialize(self.decoder)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.decoder.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.decoder.deserialize_any(visitor)
    }
}

/// Elements of an unknown extension: its type, then its data.
struct Pair<'de> {
    kind: Option<i8>,
    data: Option<&'de [u8]>,
}

impl<'de> SeqAccess<'de> for Pair<'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if let Some(kind) = self.kind.take() {
            return seed.deserialize(kind.into_deserializer()).map(Some);
        }
        self.data.take().map(|data| seed.deserialize(BorrowedBytesDeserializer::new(data))).transpose()
    }
}
