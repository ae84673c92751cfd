//! Writing BSON.

use bytes::Bytes;
use trunkline_core::{
    Payload,
    codec::{Field, Writer},
    payload::{Fault, Number, Scan, Sink},
};

use super::kind;

/// A [`Writer`] of one BSON document.
///
/// As in the Node.js driver, integers of 32 bits become int32 and all others double. Integers that a double would round
/// become int64: JavaScript has none, so no official adapter sends or expects them.
#[derive(Debug)]
pub(crate) struct BsonWriter {
    out: Vec<u8>,
    open: Vec<Open>,
    fault: Option<Fault>,
}

/// A container that is being written.
#[derive(Debug)]
struct Open {
    start: usize,
    next: Next,
}

/// The next value of a container.
#[derive(Debug)]
enum Next {
    /// In an array: its index.
    Index(u32),
    /// In a document: the position of its type, which precedes its key.
    TypeAt(usize),
}

impl BsonWriter {
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        Self { out: Vec::with_capacity(bytes), open: Vec::new(), fault: None }
    }

    /// The document.
    ///
    /// # Errors
    /// As [`BsonWriter::check`].
    pub(crate) fn finish(self) -> Scan<Vec<u8>> {
        self.check()?;
        Ok(self.out)
    }

    /// Whether everything so far could be written.
    ///
    /// # Errors
    /// A key with a zero byte, for which BSON has no notation; more than 2 GiB.
    pub(crate) fn check(&self) -> Scan<()> {
        self.fault.map_or(Ok(()), Err)
    }

    /// The document, after a [`BsonWriter::check`] behind which only fields of a few bytes were written.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.out
    }

    /// Number of bytes written so far.
    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Writes an object id.
    pub(crate) fn object_id(&mut self, id: [u8; 12]) {
        self.value(kind::OBJECT_ID);
        self.out.extend_from_slice(&id);
    }

    /// Writes an encoded document as a value.
    pub(crate) fn document(&mut self, document: &[u8]) {
        self.value(kind::DOCUMENT);
        self.out.extend_from_slice(document);
    }

    /// Writes a date, in milliseconds since 1970.
    pub(crate) fn date(&mut self, milliseconds: i64) {
        self.value(kind::DATE);
        self.out.extend_from_slice(&milliseconds.to_le_bytes());
    }

    /// Writes the type of a value: in an array followed by its index, in a document before its key.
    fn value(&mut self, kind: u8) {
        let Some(open) = self.open.last_mut() else { return };
        match &mut open.next {
            Next::TypeAt(at) => self.out[*at] = kind,
            Next::Index(index) => {
                self.out.push(kind);
                write_digits(&mut self.out, *index);
                self.out.push(0);
                *index += 1;
            }
        }
    }

    fn begin(&mut self, kind: u8, next: Next) {
        self.value(kind);
        self.open.push(Open { start: self.out.len(), next });
        self.out.extend_from_slice(&[0; 4]);
    }

    fn end(&mut self) {
        self.out.push(kind::END);
        let Some(open) = self.open.pop() else { return };
        self.set_length(open.start, self.out.len() - open.start);
    }

    fn set_length(&mut self, at: usize, len: usize) {
        match i32::try_from(len) {
            Ok(len) => self.out[at..at + 4].copy_from_slice(&len.to_le_bytes()),
            Err(_) => self.fault = Some(Fault::TooLong),
        }
    }

    fn sized(&mut self, len: usize) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        self.set_length(at, len);
    }

    fn int32(&mut self, value: i32) {
        self.value(kind::INT32);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn int64(&mut self, value: i64) {
        self.value(kind::INT64);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn double(&mut self, value: f64) {
        self.value(kind::DOUBLE);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    fn integer(&mut self, number: Number, value: i128) {
        if let Ok(small) = i32::try_from(value) {
            return self.int32(small);
        }
        let double = number.as_f64();
        match i64::try_from(value) {
            Ok(exact) if double as i128 != value => self.int64(exact),
            _ => self.double(double),
        }
    }
}

impl Sink for BsonWriter {
    fn null(&mut self) {
        self.value(kind::NULL);
    }

    fn boolean(&mut self, value: bool) {
        self.value(kind::BOOLEAN);
        self.out.push(value.into());
    }

    fn number(&mut self, value: Number) {
        match value {
            Number::Float(float) if float == 0.0 && float.is_sign_negative() => self.double(float),
            _ => match value.normalized() {
                Number::Unsigned(integer) => self.integer(value, integer.into()),
                Number::Negative(integer) => self.integer(value, integer.into()),
                Number::Float(float) => self.double(float),
            },
        }
    }

    fn text(&mut self, value: &str) {
        self.value(kind::TEXT);
        self.sized(value.len() + 1);
        self.out.extend_from_slice(value.as_bytes());
        self.out.push(0);
    }

    fn binary(&mut self, value: Bytes) {
        const GENERIC: u8 = 0;
        self.value(kind::BINARY);
        self.sized(value.len());
        self.out.push(GENERIC);
        self.out.extend_from_slice(&value);
    }

    fn begin_array(&mut self, _: Option<usize>) {
        self.begin(kind::ARRAY, Next::Index(0));
    }

    fn end_array(&mut self, _: Option<usize>) {
        self.end();
    }

    fn begin_map(&mut self, _: Option<usize>) {
        self.begin(kind::DOCUMENT, Next::TypeAt(0));
    }

    fn key(&mut self, key: &str) {
        let at = self.out.len();
        if let Some(open) = self.open.last_mut() {
            open.next = Next::TypeAt(at);
        }
        if key.as_bytes().contains(&0) {
            self.fault = Some(Fault::Key);
        }
        self.out.push(kind::NULL);
        self.out.extend_from_slice(key.as_bytes());
        self.out.push(0);
    }

    fn end_map(&mut self, _: Option<usize>) {
        self.end();
    }
}

impl Writer for BsonWriter {
    fn field(&mut self, field: Field) {
        self.key(field.name());
    }

    fn payload(&mut self, payload: &Payload) -> Scan<()> {
        payload.stream(self)
    }

    fn writes_undefined(&self) -> bool {
        true
    }
}

/// Writes an index in decimal; formatting by the standard library takes several times as long.
fn write_digits(out: &mut Vec<u8>, value: u32) {
    let start = out.len();
    let mut rest = value;
    loop {
        out.push(b'0' + (rest % 10) as u8);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out[start..].reverse();
}

/// Overwrites the object id at a position of a document.
pub(crate) fn object_id(document: &mut [u8], at: usize, id: [u8; 12]) {
    document[at..at + 12].copy_from_slice(&id);
}

/// Overwrites the date at a position of a document.
pub(crate) fn date(document: &mut [u8], at: usize, milliseconds: i64) {
    document[at..at + 8].copy_from_slice(&milliseconds.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use mongodb::bson::{Bson, Document, doc};

    use super::*;

    fn written(json: &str) -> Document {
        let mut writer = BsonWriter::with_capacity(0);
        Payload::from_json(json.to_owned()).unwrap().stream(&mut writer).unwrap();
        Document::from_reader(&mut &*writer.finish().unwrap()).unwrap()
    }

    #[test]
    fn numbers_have_the_types_that_the_node_js_driver_chooses() {
        let document =
            written(r#"{"n":[0,-1,2147483647,-2147483648,2147483648,4294967295,9007199254740992,1.5,1.0,-0.0,1e300]}"#);
        let numbers = document.get_array("n").unwrap();
        let expected = [
            Bson::Int32(0),
            Bson::Int32(-1),
            Bson::Int32(i32::MAX),
            Bson::Int32(i32::MIN),
            Bson::Double(2_147_483_648.0),
            Bson::Double(4_294_967_295.0),
            Bson::Double(9_007_199_254_740_992.0),
            Bson::Double(1.5),
            Bson::Int32(1),
            Bson::Double(-0.0),
            Bson::Double(1e300),
        ];
        assert_eq!(numbers, &expected);
        assert!(numbers[9].as_f64().unwrap().is_sign_negative());
    }

    #[test]
    fn integers_that_a_double_would_round_keep_their_digits() {
        let document =
            written(r#"{"n":[9007199254740993,9223372036854775807,-9223372036854775808,18446744073709551615]}"#);
        let expected = [
            Bson::Int64(9_007_199_254_740_993),
            Bson::Int64(i64::MAX),
            Bson::Double(-9_223_372_036_854_775_808.0),
            Bson::Double(18_446_744_073_709_551_615.0),
        ];
        assert_eq!(document.get_array("n").unwrap(), &expected);
    }

    #[test]
    fn indices_of_arrays_may_have_several_digits() {
        let document = written(&format!("{{\"a\":[{}true]}}", "[],".repeat(120)));
        assert_eq!(document.get_array("a").unwrap().len(), 121);
        assert_eq!(written(r#"{"":{"a.b":{"$c":[{}]}},"x":null}"#), doc! { "": { "a.b": { "$c": [{}] } }, "x": null });
    }

    #[test]
    fn a_key_with_a_zero_byte_is_refused() {
        let mut writer = BsonWriter::with_capacity(0);
        Payload::from_json(r#"{"a\u0000b":1}"#.to_owned()).unwrap().stream(&mut writer).unwrap();
        assert_eq!(writer.finish(), Err(Fault::Key));
    }
}
