//! Entries of a stream: ids, and messages as fields.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use trunkline_core::{
    Error, ErrorKind, Namespace, NodeId, Offset, Result,
    codec::{self, BINARY_KINDS, Body, BodyRef, Format, Kind},
    model::{Message, SeqChannel, SeqNo},
    payload::Rules,
};

/// Id of an entry: `milliseconds-sequence`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EntryId {
    milliseconds: u64,
    sequence: u64,
}

impl EntryId {
    /// Id before the first entry.
    pub(crate) const ZERO: Self = Self { milliseconds: 0, sequence: 0 };

    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let (milliseconds, sequence) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { milliseconds: digits(milliseconds)?, sequence: digits(sequence)? })
    }

    /// # Errors
    /// `Malformed` for what is no id.
    pub(crate) fn of_offset(offset: &Offset) -> Result<Self> {
        Self::parse(offset.as_str().as_bytes())
            .ok_or_else(|| Error::new(ErrorKind::Malformed, format!("{offset:?} is no offset of a stream")))
    }

    pub(crate) fn to_offset(self) -> Option<Offset> {
        Offset::new(self.to_string()).ok()
    }

    /// Id that follows.
    pub(crate) fn next(self) -> Self {
        match self.sequence.checked_add(1) {
            Some(sequence) => Self { sequence, ..self },
            None => Self { milliseconds: self.milliseconds.saturating_add(1), sequence: 0 },
        }
    }
}

/// Reads digits. A sign would be understood by `parse`, but not by Redis.
fn digits(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.milliseconds, self.sequence)
    }
}

/// Encodes the `data` field of a message.
pub(crate) fn encode(message: &Message, plaintext: bool) -> Result<Vec<u8>> {
    let binary = !plaintext && codec::contains_binary(message, &BINARY_KINDS);
    let format = if binary { Format::MsgPack(Rules::MsgpackJs) } else { Format::Json };
    // An entry without data would be read by Node.js servers again and again.
    let data = codec::encode_data(format, message)?
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, "a message without data does not belong into a stream"))?;
    Ok(if binary { BASE64.encode(data).into_bytes() } else { data })
}

/// Fields of an entry. `stamp` carries our sequence number; official adapters ignore it.
pub(crate) fn fields(
    from: &NodeId,
    namespace: &Namespace,
    message: &Message,
    data: Vec<u8>,
    seq_no: Option<SeqNo>,
) -> Vec<(&'static str, Vec<u8>)> {
    let kind = BodyRef::from(message).kind().map_or(0, Kind::number);
    let mut fields = vec![
        ("uid", from.as_str().as_bytes().to_vec()),
        ("nsp", namespace.as_str().as_bytes().to_vec()),
        ("type", kind.to_string().into_bytes()),
        ("data", data),
    ];
    if let Some(SeqNo { channel, number }) = seq_no {
        fields.push(("stamp", format!("{},{number}", channel.0).into_bytes()));
    }
    fields.extend(message.trace().map(|trace| ("traceparent", trace.as_bytes().to_vec())));
    fields
}

/// An entry as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) id: EntryId,
    pub(crate) from: Option<NodeId>,
    pub(crate) namespace: Option<Bytes>,
    pub(crate) seq_no: Option<SeqNo>,
    trace: Option<Bytes>,
    kind: Option<Bytes>,
    data: Option<Bytes>,
}

impl Entry {
    /// Entry with these fields, names and values in pairs.
    pub(crate) fn new(id: EntryId, fields: impl Iterator<Item = (Bytes, Bytes)>) -> Self {
        let mut entry = Self { id, from: None, namespace: None, seq_no: None, trace: None, kind: None, data: None };
        for (name, value) in fields {
            match &*name {
                b"uid" => entry.from = std::str::from_utf8(&value).ok().and_then(|uid| NodeId::new(uid).ok()),
                b"nsp" => entry.namespace = Some(value),
                b"type" => entry.kind = Some(value),
                b"data" => entry.data = Some(value),
                b"stamp" => entry.seq_no = parse_seq_no(&value),
                b"traceparent" => entry.trace = Some(value),
                _ => {}
            }
        }
        entry
    }

    /// Kind of the message.
    ///
    /// # Errors
    /// `Unsupported` for one that we do not know, `Malformed` for none.
    pub(crate) fn kind(&self) -> Result<Kind> {
        let kind = self.kind.as_deref().ok_or_else(|| missing("type"))?;
        let number = std::str::from_utf8(kind).ok().and_then(|kind| kind.parse().ok());
        number.and_then(Kind::from_number).ok_or_else(|| {
            Error::new(ErrorKind::Unsupported, format!("message of unknown type {}", kind.escape_ascii()))
        })
    }

    /// The `data` object, decoded from base64 if it is MessagePack.
    ///
    /// # Errors
    /// `Malformed` if there is none, or it is something else.
    pub(crate) fn data(&self) -> Result<Bytes> {
        let data = self.data.as_ref().ok_or_else(|| missing("data"))?;
        if data.first() == Some(&b'{') {
            return Ok(data.clone());
        }
        let decoded = BASE64.decode(data);
        decoded.map(Into::into).map_err(|error| Error::new(ErrorKind::Malformed, "data: not base64").with_source(error))
    }

    /// The message. `data` comes from [`Entry::data`].
    ///
    /// # Errors
    /// `Malformed`, naming the field.
    pub(crate) fn body(&self, kind: Kind, data: &Bytes) -> Result<Body> {
        let mut body = codec::decode_data(kind, self.from.as_ref(), data)?;
        let trace = self.trace.as_deref().and_then(|trace| std::str::from_utf8(trace).ok());
        if let Body::Message(message) = &mut body {
            message.set_trace(trace.map(Into::into));
        }
        Ok(body)
    }
}

fn missing(field: &str) -> Error {
    Error::new(ErrorKind::Malformed, format!("{field}: missing"))
}

fn parse_seq_no(text: &[u8]) -> Option<SeqNo> {
    let (channel, number) = std::str::from_utf8(text).ok()?.split_once(',')?;
    Some(SeqNo { channel: SeqChannel(channel.parse().ok()?), number: number.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_ordered_by_their_numbers() {
        let id = |text: &str| EntryId::parse(text.as_bytes()).unwrap();
        assert!(id("9-0") < id("10-0") && id("10-9") < id("10-10"));
        assert_eq!(id("5-3").next(), id("5-4"));
        assert_eq!(id("5-18446744073709551615").next(), id("6-0"));
        assert_eq!(id("1795217096325-0").to_string(), "1795217096325-0");
    }

    #[test]
    fn what_is_no_id_is_none() {
        for text in ["abc", "1", "1-", "-1", "+1-2", "1-2-3", "1-x", " 1-2", "99999999999999999999-0"] {
            assert_eq!(EntryId::parse(text.as_bytes()), None, "{text}");
        }
        let error = EntryId::of_offset(&Offset::new("abc").unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Malformed);
    }
}
