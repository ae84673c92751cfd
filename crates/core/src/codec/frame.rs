//! An encoded message, to which the transport's queue adds our own numbers.

use super::{Format, Kind, Writer, envelope::field_count};
use crate::{
    field,
    model::SeqNo,
    payload::{Number, Rules, json, msgpack},
};

/// An encoded message that waits for its number.
///
/// The number of a message is handed out under the queue's lock, in the order of sending; the expensive part is done before, outside.
/// Without numbers the bytes are exactly those of the official adapters, which ignore the fields added here.
#[derive(Clone, Debug)]
pub struct EncodedMessage {
    format: Format,
    /// Everything but the end of the outermost map.
    bytes: Vec<u8>,
    fields: usize,
    heartbeat: bool,
    buckets: Option<u16>,
}

impl EncodedMessage {
    pub(super) fn new(format: Format, bytes: Vec<u8>, kind: Kind, buckets: Option<u16>) -> Self {
        let heartbeat = matches!(kind, Kind::InitialHeartbeat | Kind::Heartbeat);
        Self { format, bytes, fields: field_count(kind), heartbeat, buckets }
    }

    /// A message of a wire with maps of its own: written but for the end of its map, which has so many fields, at most eight. Heartbeats
    /// get counters.
    #[must_use]
    pub fn of_map(format: Format, bytes: Vec<u8>, fields: usize, heartbeat: bool) -> Self {
        Self { format, bytes, fields, heartbeat, buckets: None }
    }

    /// Bytes of the message without our own numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + usize::from(self.format == Format::Json)
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// Adds the number of the message, and to a heartbeat how far the sender has numbered its channels; `None` and nothing for messages
    /// as the official adapters send them.
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
                // At most eleven fields: the head of the map is this one byte.
                self.bytes[0] = 0x80 | (self.fields + added) as u8;
            }
        }
        self.bytes
    }
}

/// Writes our own fields and counts them.
fn add(writer: &mut impl Writer, seq_no: Option<SeqNo>, buckets: Option<u16>, high_water_marks: &[SeqNo]) -> usize {
    if let Some(seq_no) = seq_no {
        writer.field(field!("stamp"));
        write_stamp(writer, seq_no);
    }
    if let Some(buckets) = buckets {
        writer.field(field!("buckets"));
        writer.number(u64::from(buckets).into());
    }
    if !high_water_marks.is_empty() {
        writer.field(field!("counters"));
        writer.begin_array(Some(high_water_marks.len()));
        for &counter in high_water_marks {
            write_stamp(writer, counter);
        }
        writer.end_array(Some(high_water_marks.len()));
    }
    usize::from(seq_no.is_some()) + usize::from(buckets.is_some()) + usize::from(!high_water_marks.is_empty())
}

fn write_stamp(writer: &mut impl Writer, seq_no: SeqNo) {
    writer.begin_array(Some(2));
    writer.number(Number::Unsigned(seq_no.channel.0.into()));
    writer.number(Number::Unsigned(seq_no.number));
    writer.end_array(Some(2));
}
