//! Reading BSON.

use std::borrow::Cow;

use bytes::Bytes;
use trunkline_core::{
    Payload,
    codec::{Container, Reader, Shape},
    payload::{Attachments, ByteString, Fault, MAX_DEPTH, Number, Scan, Sink, iso_date, json},
};

use super::kind;

/// A [`Reader`] of one BSON document. It converts payloads to JSON, the format of clients; binary in them stays a slice
/// of the document.
///
/// In BSON the type of a value precedes its key, so the reader keeps the type until the value is read.
#[derive(Clone, Debug)]
pub(crate) struct BsonReader<'a> {
    source: &'a Bytes,
    at: usize,
    /// Type of the next value.
    kind: u8,
}

impl<'a> BsonReader<'a> {
    /// A reader positioned before the document itself.
    pub(crate) fn new(source: &'a Bytes) -> Self {
        Self { source, at: 0, kind: kind::DOCUMENT }
    }

    /// Reads an object id.
    pub(crate) fn object_id(&mut self) -> Scan<[u8; 12]> {
        if self.kind == kind::OBJECT_ID { self.array() } else { Err(Fault::Unexpected) }
    }

    /// Reads a date, in milliseconds since 1970.
    pub(crate) fn date(&mut self) -> Scan<i64> {
        if self.kind == kind::DATE { self.array().map(i64::from_le_bytes) } else { Err(Fault::Unexpected) }
    }

    /// Reads a document without looking into it.
    pub(crate) fn document(&mut self) -> Scan<Bytes> {
        let start = self.at;
        if self.kind != kind::DOCUMENT {
            return Err(Fault::Unexpected);
        }
        self.skip()?;
        Ok(self.source.slice(start..self.at))
    }

    fn take(&mut self, len: usize) -> Scan<&'a [u8]> {
        let end = self.at.checked_add(len).ok_or(Fault::Truncated)?;
        let bytes = self.source.get(self.at..end).ok_or(Fault::Truncated)?;
        self.at = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Scan<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| Fault::Truncated)
    }

    fn length(&mut self) -> Scan<usize> {
        usize::try_from(i32::from_le_bytes(self.array()?)).map_err(|_| Fault::Range)
    }

    fn cstring(&mut self) -> Scan<&'a [u8]> {
        let rest = self.source.get(self.at..).ok_or(Fault::Truncated)?;
        let len = rest.iter().position(|&byte| byte == 0).ok_or(Fault::Truncated)?;
        let text = self.take(len)?;
        self.at += 1;
        Ok(text)
    }

    fn string(&mut self) -> Scan<&'a [u8]> {
        let len = self.length()?;
        match self.take(len)?.split_last() {
            Some((0, text)) => Ok(text),
            _ => Err(Fault::Syntax),
        }
    }

    fn begin(&mut self, expected: u8) -> Scan<Container> {
        if self.kind != expected {
            return Err(Fault::Unexpected);
        }
        let start = self.at;
        let len = self.length()?;
        let last = start.checked_add(len).and_then(|end| self.source.get(end.checked_sub(1)?));
        if len < 5 || last != Some(&0) {
            return Err(Fault::Truncated);
        }
        Ok(Container::marked())
    }

    /// Reads the type of the next element; false at the end of the container.
    fn next_element(&mut self) -> Scan<bool> {
        let [kind] = self.array()?;
        self.kind = kind;
        Ok(kind != kind::END)
    }

    fn binary(&mut self) -> Scan<Bytes> {
        const OLD: u8 = 2;
        let len = self.length()?;
        let [subtype] = self.array()?;
        let data = self.take(len)?;
        // The oldest subtype repeats the length inside.
        let data = if subtype == OLD { data.get(4..).ok_or(Fault::Truncated)? } else { data };
        Ok(self.source.slice_ref(data))
    }

    fn read_number(&mut self) -> Scan<Number> {
        Ok(match self.kind {
            kind::INT32 => i64::from(i32::from_le_bytes(self.array()?)).into(),
            kind::INT64 => i64::from_le_bytes(self.array()?).into(),
            kind::DOUBLE => f64::from_le_bytes(self.array()?).into(),
            _ => return Err(Fault::Unexpected),
        })
    }

    /// Streams any value, as `JSON.stringify` prints what the Node.js driver makes of it. Types that Socket.IO servers
    /// do not send become null.
    fn stream(&mut self, sink: &mut impl Sink, depth: usize) -> Scan<()> {
        match self.kind {
            kind::DOUBLE | kind::INT32 | kind::INT64 => sink.number(self.read_number()?),
            kind::TEXT | kind::SYMBOL => sink.text(&lossy(self.string()?)),
            kind::DOCUMENT => self.stream_map(sink, depth.checked_sub(1).ok_or(Fault::TooDeep)?)?,
            kind::ARRAY => self.stream_array(sink, depth.checked_sub(1).ok_or(Fault::TooDeep)?)?,
            kind::BINARY => sink.binary(self.binary()?),
            kind::BOOLEAN => sink.boolean(self.array::<1>()? != [0]),
            kind::OBJECT_ID => sink.text(&hex(self.array()?)),
            kind::DATE => match iso_date(i64::from_le_bytes(self.array()?)) {
                Some(date) => sink.text(&date),
                None => sink.null(),
            },
            _ => {
                self.skip()?;
                sink.null();
            }
        }
        Ok(())
    }

    fn stream_map(&mut self, sink: &mut impl Sink, depth: usize) -> Scan<()> {
        self.begin(kind::DOCUMENT)?;
        sink.begin_map(None);
        while self.next_element()? {
            sink.key(&lossy(self.cstring()?));
            self.stream(sink, depth)?;
        }
        sink.end_map(None);
        Ok(())
    }

    fn stream_array(&mut self, sink: &mut impl Sink, depth: usize) -> Scan<()> {
        self.begin(kind::ARRAY)?;
        sink.begin_array(None);
        while self.next_element()? {
            self.cstring()?;
            self.stream(sink, depth)?;
        }
        sink.end_array(None);
        Ok(())
    }
}

impl<'a> Reader<'a> for BsonReader<'a> {
    fn shape(&mut self) -> Scan<Shape> {
        Ok(match self.kind {
            kind::NULL | kind::UNDEFINED => Shape::Null,
            kind::BOOLEAN => Shape::Boolean,
            kind::DOUBLE | kind::INT32 | kind::INT64 => Shape::Number,
            kind::TEXT | kind::SYMBOL => Shape::Text,
            kind::ARRAY => Shape::Array,
            kind::DOCUMENT => Shape::Map,
            _ => Shape::Other,
        })
    }

    fn begin_map(&mut self) -> Scan<Container> {
        self.begin(kind::DOCUMENT)
    }

    fn next_key(&mut self, _: &mut Container) -> Scan<Option<Cow<'a, str>>> {
        if self.next_element()? { self.cstring().map(|key| Some(lossy(key))) } else { Ok(None) }
    }

    fn begin_array(&mut self) -> Scan<Container> {
        self.begin(kind::ARRAY)
    }

    fn next_item(&mut self, _: &mut Container) -> Scan<bool> {
        // The keys of an array are its indices.
        if self.next_element()? { self.cstring().map(|_| true) } else { Ok(false) }
    }

    fn boolean(&mut self) -> Scan<bool> {
        if self.kind == kind::BOOLEAN { Ok(self.array::<1>()? != [0]) } else { Err(Fault::Unexpected) }
    }

    fn number(&mut self) -> Scan<Number> {
        self.read_number()
    }

    fn text(&mut self) -> Scan<Cow<'a, str>> {
        match self.kind {
            kind::TEXT | kind::SYMBOL => self.string().map(lossy),
            _ => Err(Fault::Unexpected),
        }
    }

    fn skip(&mut self) -> Scan<()> {
        const LENGTH: usize = 4;
        let len = match self.kind {
            kind::UNDEFINED | kind::NULL | kind::MIN_KEY | kind::MAX_KEY => 0,
            kind::BOOLEAN => 1,
            kind::INT32 => 4,
            kind::DOUBLE | kind::DATE | kind::TIMESTAMP | kind::INT64 => 8,
            kind::OBJECT_ID => 12,
            kind::DECIMAL => 16,
            kind::TEXT | kind::SYMBOL | kind::CODE => self.length()?,
            kind::BINARY => self.length()?.checked_add(1).ok_or(Fault::Truncated)?,
            kind::POINTER => self.length()?.checked_add(12).ok_or(Fault::Truncated)?,
            kind::DOCUMENT | kind::ARRAY | kind::SCOPED_CODE => {
                self.length()?.checked_sub(LENGTH).ok_or(Fault::Truncated)?
            }
            kind::REGEX => {
                self.cstring()?;
                self.cstring()?;
                0
            }
            _ => return Err(Fault::Syntax),
        };
        self.take(len).map(|_| ())
    }

    fn skip_unchecked(&mut self) -> Scan<()> {
        self.skip()
    }

    fn payload(&mut self) -> Scan<Payload> {
        let mut text = Vec::with_capacity(128);
        let mut writer = json::Writer::new(&mut text, json::Binary::Attached(Vec::new()));
        self.stream(&mut writer, MAX_DEPTH)?;
        let attachments: Attachments = writer.into_attachments().into();
        let text = ByteString::try_from(text).map_err(|_| Fault::Syntax)?;
        Ok(Payload::from_trusted_json(text, attachments))
    }

    fn end(&mut self) -> Scan<()> {
        if self.at == self.source.len() { Ok(()) } else { Err(Fault::Trailing) }
    }
}

fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

fn hex(id: [u8; 12]) -> String {
    mongodb::bson::oid::ObjectId::from_bytes(id).to_hex()
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{
        Binary, DateTime, Decimal128, JavaScriptCodeWithScope, Regex, Timestamp, doc, oid::ObjectId,
        spec::BinarySubtype,
    };

    use super::*;

    fn payload(document: &mongodb::bson::Document) -> Scan<Payload> {
        let bytes = Bytes::from(document.to_vec().unwrap());
        let mut reader = BsonReader::new(&bytes);
        let payload = reader.payload()?;
        reader.end()?;
        Ok(payload)
    }

    fn json(document: &mongodb::bson::Document) -> String {
        payload(document).unwrap().to_json_plain().to_string()
    }

    #[test]
    fn values_become_the_json_that_node_js_makes_of_them() {
        let id = ObjectId::from_bytes([7; 12]);
        let document = doc! {
            "int": 1, "long": 9_007_199_254_740_993_i64, "double": 1.5, "whole": 2.0, "nan": f64::NAN, "text": "é\"",
            "yes": true, "null": null, "id": id, "date": DateTime::from_millis(951_782_400_000),
            "list": [1, [], {}], "map": { "a.b": { "$c": "d" } },
        };
        assert_eq!(
            json(&document),
            "{\"int\":1,\"long\":9007199254740993,\"double\":1.5,\"whole\":2,\"nan\":null,\"text\":\"é\\\"\",\"yes\":true,\
             \"null\":null,\"id\":\"070707070707070707070707\",\"date\":\"2000-02-29T00:00:00.000Z\",\"list\":[1,[],{}],\
             \"map\":{\"a.b\":{\"$c\":\"d\"}}}"
        );
    }

    #[test]
    fn binary_of_every_subtype_is_attached() {
        let binary = |subtype| Binary { subtype, bytes: vec![1, 2, 3] };
        let document = doc! { "a": [binary(BinarySubtype::Generic), binary(BinarySubtype::Uuid), binary(BinarySubtype::BinaryOld)] };
        let attachments = payload(&document).unwrap().to_json().attachments;
        assert_eq!(attachments.len(), 3);
        assert!(attachments.iter().all(|part| **part == [1, 2, 3]));
    }

    #[test]
    fn other_types_become_null_and_the_fields_behind_them_are_read() {
        let scoped = JavaScriptCodeWithScope { code: "x".into(), scope: doc! { "a": 1 } };
        let document = doc! {
            "regex": Regex { pattern: c"a".to_owned().to_str().unwrap().try_into().unwrap(), options: "i".try_into().unwrap() },
            "code": mongodb::bson::Bson::JavaScriptCode("x".into()), "scoped": scoped,
            "time": Timestamp { time: 1, increment: 2 }, "decimal": Decimal128::from_bytes([0; 16]),
            "min": mongodb::bson::Bson::MinKey, "max": mongodb::bson::Bson::MaxKey, "undefined": mongodb::bson::Bson::Undefined,
            "after": 1,
        };
        let json = json(&document);
        assert!(json.ends_with("\"after\":1}"), "{json}");
        assert_eq!(json.matches(":null").count(), 8, "{json}");
    }

    #[test]
    fn a_truncated_document_is_an_error_wherever_it_ends() {
        let document =
            doc! { "a": [1, { "b": "text" }, 2.5], "c": Binary { subtype: BinarySubtype::Generic, bytes: vec![1] } };
        let bytes = document.to_vec().unwrap();
        for end in 0..bytes.len() {
            let cut = Bytes::copy_from_slice(&bytes[..end]);
            assert!(BsonReader::new(&cut).payload().is_err(), "{end}");
        }
    }

    #[test]
    fn changed_bytes_never_panic() {
        let document =
            doc! { "a": [1, { "b": "text" }, 2.5], "c": Binary { subtype: BinarySubtype::BinaryOld, bytes: vec![1] } };
        let bytes = document.to_vec().unwrap();
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let changed = Bytes::from(changed);
                let mut reader = BsonReader::new(&changed);
                let _ = reader.payload();
                let _ = BsonReader::new(&changed).skip();
            }
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |depth| (0..depth).fold(doc! {}, |inner, _| doc! { "a": inner });
        assert!(payload(&nested(MAX_DEPTH - 1)).is_ok());
        assert_eq!(payload(&nested(MAX_DEPTH)).unwrap_err(), Fault::TooDeep);
    }
}
