//! [`EncodedMessage`]: an encoded message, to which the outbox adds its sequence number.

use rmp::Marker;

use super::{BodyRef, Format, Kind, Writer, envelope::field_count};
use crate::{
    field,
    model::SeqNo,
    payload::{Number, Rules, json, msgpack},
};

/// An encoded message that lacks its sequence number.
///
/// The outbox assigns the number under its lock, in the order of sending; the expensive part, encoding, is done before,
/// outside of it. Without a number the bytes are exactly those of the official adapters, which ignore the fields added
/// here.
#[derive(Clone, Debug)]
pub struct EncodedMessage {
    format: Format,
    /// The message but for the end of the outermost map.
    bytes: Vec<u8>,
    fields: usize,
    heartbeat: bool,
    buckets: Option<u16>,
}

impl EncodedMessage {
    pub(super) fn new(format: Format, bytes: Vec<u8>, kind: Kind, body: BodyRef<'_>) -> Self {
        let heartbeat = matches!(kind, Kind::InitialHeartbeat | Kind::Heartbeat);
        Self { format, bytes, fields: field_count(kind, body), heartbeat, buckets: body.buckets() }
    }

    /// Takes a message of another wire format that is a map, too: encoded but for the end of the map, which has
    /// `fields` fields, at most eight. A heartbeat gets high-water marks.
    #[must_use]
    pub fn of_map(format: Format, bytes: Vec<u8>, fields: usize, heartbeat: bool) -> Self {
        Self { format, bytes, fields, heartbeat, buckets: None }
    }

    /// Size in bytes without the fields that are added at the end.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + usize::from(self.format == Format::Json)
    }

    /// Always false: every message has a type.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The same message with its JSON in ASCII ([`escape_non_ascii`]), for brokers that do not hold all characters.
    #[must_use]
    pub fn escaped(self) -> Self {
        match (self.format, std::str::from_utf8(&self.bytes)) {
            (Format::Json, Ok(json)) => Self { bytes: escape_non_ascii(json).into_bytes(), ..self },
            _ => self,
        }
    }

    /// Adds the sequence number of the message, and to a heartbeat the high-water marks of its sender. With `None` and
    /// no marks the message is as the official adapters send it.
    #[must_use]
    pub fn finish(mut self, seq_no: Option<SeqNo>, high_water_marks: &[SeqNo]) -> Vec<u8> {
        let high_water_marks = if self.heartbeat { high_water_marks } else { &[] };
        match self.format {
            Format::Json => {
                let mut writer = json::Writer::resume(&mut self.bytes);
                add(&mut writer, seq_no, self.buckets, high_water_marks);
                self.bytes.push(b'}');
            }
            Format::MsgPack(_) => {
                let mut writer = msgpack::Writer::new(&mut self.bytes, Rules::Notepack);
                let added = add(&mut writer, seq_no, self.buckets, high_water_marks);
                // At most twelve fields: the head of the map is this one byte.
                self.bytes[0] = Marker::FixMap((self.fields + added) as u8).to_u8();
            }
        }
        self.bytes
    }
}

/// The same JSON in ASCII. Other characters stand only in its strings, where they may be escaped.
#[must_use]
pub fn escape_non_ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            escaped.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                escaped += &format!("\\u{unit:04x}");
            }
        }
    }
    escaped
}

/// Writes the added fields; returns how many there are.
fn add(writer: &mut impl Writer, seq_no: Option<SeqNo>, buckets: Option<u16>, high_water_marks: &[SeqNo]) -> usize {
    if let Some(seq_no) = seq_no {
        writer.field(field!("stamp"));
        write_seq_no(writer, seq_no);
    }
    if let Some(buckets) = buckets {
        writer.field(field!("buckets"));
        writer.number(u64::from(buckets).into());
    }
    if !high_water_marks.is_empty() {
        writer.field(field!("counters"));
        writer.begin_array(Some(high_water_marks.len()));
        for &counter in high_water_marks {
            write_seq_no(writer, counter);
        }
        writer.end_array(Some(high_water_marks.len()));
    }
    usize::from(seq_no.is_some()) + usize::from(buckets.is_some()) + usize::from(!high_water_marks.is_empty())
}

fn write_seq_no(writer: &mut impl Writer, seq_no: SeqNo) {
    writer.begin_array(Some(2));
    writer.number(Number::Unsigned(seq_no.channel.0.into()));
    writer.number(Number::Unsigned(seq_no.number));
    writer.end_array(Some(2));
}
