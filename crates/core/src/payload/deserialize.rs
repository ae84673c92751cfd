//! Decoding payloads into Rust values, through serde.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use serde::de::{
    self, Deserialize, DeserializeOwned, Deserializer, IgnoredAny, SeqAccess, Visitor, value::SeqAccessDeserializer,
};

use super::{Encoded, Payload, Rules, msgpack};
use crate::error::{Error, Result};

pub(super) fn value<T: DeserializeOwned>(payload: &Payload) -> Result<T> {
    match &payload.0 {
        Encoded::Json(json) if json.attachments.is_empty() => match serde_json::from_str(&json.text) {
            Ok(value) => Ok(value),
            // serde_json refuses lone surrogates, which JavaScript allows; the conversion replaces them.
            Err(_) if json.text.contains("\\u") => from_msgpack(&payload.to_msgpack(Rules::Notepack)?),
            Err(error) => Err(failed(error)),
        },
        _ => from_msgpack(&payload.to_msgpack(Rules::Notepack)?),
    }
}

pub(super) fn arguments<T: DeserializeOwned>(payload: &Payload) -> Result<T> {
    value::<Arguments<T>>(payload).map(|arguments| arguments.0)
}

fn from_msgpack<T: DeserializeOwned>(bytes: &Bytes) -> Result<T> {
    T::deserialize(&mut msgpack::Decoder::new(bytes)).map_err(failed)
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::malformed("payload of another type than expected").with_source(error)
}

/// Arguments of an event: all elements of its list but the first, the name.
struct Arguments<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Arguments<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ArgumentsVisitor(PhantomData)).map(Self)
    }
}

struct ArgumentsVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ArgumentsVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event: its name and arguments")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<T, A::Error> {
        if list.next_element::<IgnoredAny>()?.is_none() {
            return Err(de::Error::invalid_length(0, &self));
        }
        T::deserialize(SeqAccessDeserializer::new(list))
    }
}
