//! Notifications of messages that lie in a table, and the offset in those of stored messages.

use serde::{Deserialize, Serialize};
use trunkline_core::{
    Message, NodeId, Room,
    codec::{BodyRef, Kind, escape_non_ascii},
    model::{MAX_ID_BYTES, SeqChannel, SeqNo},
};

use crate::{channel::Encoding, config::MAX_NOTIFICATION_BYTES};

/// Longer names of rooms are not repeated in the notification of a row.
const MAX_ROOM_BYTES: usize = 255;

/// Text of a row's notification before and after the row's id, which the server inserts.
#[derive(Debug)]
pub(crate) struct NotificationParts {
    pub(crate) before_id: String,
    pub(crate) after_id: String,
}

impl NotificationParts {
    /// Beyond what the official adapter sends it names the room of a broadcast to a single one: a node without a member
    /// there does not fetch the row.
    pub(crate) fn new(from: &NodeId, body: BodyRef<'_>, encoding: Encoding) -> Self {
        let kind = body.kind().map_or(0, Kind::number);
        let room = match body {
            BodyRef::Message(Message::Broadcast { request: None, target, .. }) => target.single_room(),
            _ => None,
        };
        let room = room.filter(|room| room.to_text().len() <= MAX_ROOM_BYTES);
        let json = |text: &str| {
            let json = json(text);
            if encoding == Encoding::Any { json } else { escape_non_ascii(&json) }
        };
        Self {
            before_id: format!("{{\"uid\":{},\"type\":{kind},\"attachmentId\":\"", json(from.as_str())),
            after_id: room.map_or_else(|| "\"".into(), |room| format!("\",\"room\":{}", json(&room.to_text()))),
        }
    }

    pub(crate) fn number(mut self, seq_no: Option<SeqNo>, is_complete: bool) -> Self {
        if let Some(SeqNo { channel, number }) = seq_no {
            self.after_id += &format!(",\"stamp\":[{},{number}]", channel.0);
        }
        if is_complete {
            self.after_id.push('}');
        }
        self
    }
}

fn json(value: impl Serialize) -> String {
    // Text and numbers can be written.
    serde_json::to_string(&value).unwrap_or_else(|_| "null".into())
}

/// A notification that points to a row.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct RowNotification {
    uid: Option<String>,
    #[serde(rename = "type")]
    kind: Option<u64>,
    #[serde(rename = "attachmentId")]
    attachment: Option<RowId>,
    stamp: Option<(u16, u64)>,
    room: Option<Room>,
    offset: Option<String>,
}

/// Id of a row: text from official peers, but they also read a number.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum RowId {
    Number(i64),
    Text(String),
}

impl RowNotification {
    /// Reads a notification and the id of its row. `None` if it is a message itself.
    pub(crate) fn read(notification: &str) -> Option<(i64, Self)> {
        // The longest one, if all its texts were escaped. Looking is cheaper than parsing.
        const LONGEST: usize = 6 * (MAX_ROOM_BYTES + MAX_ID_BYTES) + 256;
        let may_be =
            notification.len() <= LONGEST.min(MAX_NOTIFICATION_BYTES) && notification.contains("\"attachmentId\":");
        if !may_be {
            return None;
        }
        let read: Self = serde_json::from_str(notification).ok()?;
        let id = match read.attachment.as_ref()? {
            RowId::Number(id) => *id,
            RowId::Text(text) => text.parse().ok()?,
        };
        Some((id, read))
    }

    pub(crate) fn from(&self) -> Option<NodeId> {
        self.uid.as_deref().and_then(|uid| NodeId::new(uid).ok())
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind.and_then(Kind::from_number)
    }

    pub(crate) fn seq_no(&self) -> Option<SeqNo> {
        self.stamp.map(|(channel, number)| SeqNo { channel: SeqChannel(channel), number })
    }

    pub(crate) fn room(&self) -> Option<&Room> {
        self.room.as_ref()
    }

    pub(crate) fn offset(&self) -> Option<i64> {
        self.offset.as_ref()?.parse().ok()
    }
}

/// The offset that the server has added to a stored message: its last field, after which the message ends.
pub(crate) fn offset_of(notification: &str) -> Option<i64> {
    let number = notification.strip_suffix("\"}")?;
    let digits = number.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (before, number) = number.split_at(number.len() - digits);
    // In valid JSON no text contains these quotes, so they are a field of the outermost object, which ends right behind
    // it.
    before.ends_with(",\"offset\":\"").then(|| number.parse().ok()).flatten()
}
