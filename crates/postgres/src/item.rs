//! Messages as they are sent: as text of a notification, or as a row with a notification that points to it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trunkline_core::{
    Error, ErrorKind, Message, NodeId, NodeKey, Result, Room,
    codec::{self, BINARY_KINDS_POSTGRES, BodyRef, EncodedMessage, Format, Kind},
    model::{SeqChannel, SeqNo},
    payload::Rules,
    transport::Sequencer,
};

use crate::config::{Config, MAX_NOTIFICATION_BYTES};

/// What the events table does not hold is numbered apart from what it does: it is lost with a connection, and that is no gap.
pub(crate) const EPHEMERAL: SeqChannel = SeqChannel(1);

/// More than the number and the offset of a message add to it.
const OWN_FIELDS: usize = 96;

/// Longer names of rooms are not repeated in the notification of a row.
const MAX_ROOM_BYTES: usize = 255;

/// A message that waits for its number.
#[derive(Debug)]
pub(crate) struct Draft {
    channel: Arc<str>,
    from: NodeId,
    frame: EncodedMessage,
    /// `None` for what nobody would miss.
    numbered_on: Option<SeqChannel>,
    is_stored: bool,
    /// The start and the end of the notification, if the message goes into a row.
    pointer: Option<(String, String)>,
    own: Option<Message>,
}

/// A message on its way.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) channel: Arc<str>,
    pub(crate) from: NodeId,
    pub(crate) content: Content,
    /// The number by which the events table knows it, if it goes there.
    pub(crate) stored: Option<i64>,
    /// An own broadcast, to be delivered here if the server never takes it.
    pub(crate) own: Option<Message>,
    pub(crate) bytes: usize,
}

/// JSON texts end where the server still has to add something.
#[derive(Debug)]
pub(crate) enum Content {
    /// The whole message. If stored, without its last brace.
    Notice(Vec<u8>),
    /// A row, and what stands in its notification before and after the row's id. If stored, without the last brace.
    Row { head: String, tail: String, row: Vec<u8> },
}

impl Draft {
    /// Encodes a message or an answer. The expensive part: done by the caller, outside the queue's lock.
    pub(crate) fn new(config: &Config, channel: Arc<str>, from: &NodeKey, body: BodyRef<'_>) -> Result<Self> {
        let weight = body.payload().map_or(0, trunkline_core::Payload::len);
        check_size(config, weight)?;
        let notice = if codec::contains_binary(body, &BINARY_KINDS_POSTGRES) || weight > config.payload_threshold {
            None
        } else {
            let frame = codec::encode(Format::Json, &from.id, &from.namespace, body)?;
            (frame.len() + OWN_FIELDS <= config.payload_threshold).then_some(frame)
        };
        let has_history = config.history.is_some();
        let is_stored = has_history && is_lasting(body);
        let (frame, pointer) = match notice {
            Some(frame) => (frame, None),
            None => {
                let frame = codec::encode(Format::MsgPack(Rules::MsgpackJs), &from.id, &from.namespace, body)?;
                (frame, Some(pointer(from, body)))
            }
        };
        check_size(config, frame.len())?;
        let numbered_on = match body {
            BodyRef::Message(message) if !message.is_numbered() => None,
            BodyRef::Message(_) if is_stored || !has_history => Some(SeqChannel::ALL),
            BodyRef::Message(_) | BodyRef::Response(_) => Some(EPHEMERAL),
        };
        let own = has_history.then(|| own_broadcast(from, body)).flatten();
        Ok(Self { channel, from: from.id.clone(), frame, numbered_on, is_stored, pointer, own })
    }

    pub(crate) fn bytes(&self) -> usize {
        const FIXED: usize = 160;
        FIXED + self.frame.len()
    }

    /// Completes the message with its number, which also makes it unique: the server drops a notification that repeats another one of the same
    /// transaction.
    pub(crate) fn finish(self, sequencer: &mut Sequencer, origin: &NodeId) -> Item {
        let bytes = self.bytes();
        let seq_no = self.numbered_on.map(|channel| sequencer.next(&self.from, channel));
        let stored = self.is_stored.then(|| sequencer.next(origin, SeqChannel::ALL).number.cast_signed());
        let mut encoded = self.frame.finish(seq_no, sequencer.high_water_marks(&self.from));
        let content = match self.pointer {
            None => {
                if stored.is_some() {
                    encoded.pop();
                }
                Content::Notice(encoded)
            }
            Some((head, tail)) => {
                Content::Row { head, tail: with_stamp(&tail, seq_no, stored.is_none()), row: encoded }
            }
        };
        Item { channel: self.channel, from: self.from, content, stored, own: self.own, bytes }
    }
}

/// Whether a message is of use to someone who was away.
fn is_lasting(body: BodyRef<'_>) -> bool {
    let BodyRef::Message(message) = body else { return false };
    match message {
        Message::Broadcast { request: None, target, .. } => !target.flags.is_volatile(),
        Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. } => true,
        Message::ServerSideEmit { request, .. } => request.is_none(),
        _ => false,
    }
}

fn own_broadcast(from: &NodeKey, body: BodyRef<'_>) -> Option<Message> {
    match body {
        BodyRef::Message(message @ Message::Broadcast { .. }) if !from.id.is_emitter() => Some(message.clone()),
        _ => None,
    }
}

fn check_size(config: &Config, bytes: usize) -> Result<()> {
    let most = config.max_message_bytes;
    if bytes > most {
        return Err(Error::new(ErrorKind::TooLarge, format!("message of {bytes} bytes; max_message_bytes is {most}")));
    }
    Ok(())
}

/// The notification of a row, but for the row's id. Beyond what the official adapter sends it says, for a broadcast to one room, which: who has
/// no socket in it does not fetch the row.
fn pointer(from: &NodeKey, body: BodyRef<'_>) -> (String, String) {
    let kind = body.kind().map_or(0, Kind::number);
    let head = format!("{{\"uid\":{},\"type\":{kind},\"attachmentId\":\"", json(from.id.as_str()));
    let room = match body {
        BodyRef::Message(Message::Broadcast { request: None, target, .. }) => target.single_room(),
        _ => None,
    };
    let room = room.filter(|room| room.to_text().len() <= MAX_ROOM_BYTES);
    (head, room.map(|room| format!("\",\"room\":{}", json(room))).unwrap_or_else(|| "\"".into()))
}

fn with_stamp(tail: &str, seq_no: Option<SeqNo>, is_closed: bool) -> String {
    let seq_no =
        seq_no.map(|seq_no| format!(",\"stamp\":[{},{}]", seq_no.channel.0, seq_no.number)).unwrap_or_default();
    let end = if is_closed { "}" } else { "" };
    format!("{tail}{stamp}{end}")
}

fn json(value: impl Serialize) -> String {
    // Text and numbers can be written.
    serde_json::to_string(&value).unwrap_or_else(|_| "null".into())
}

/// A notification that points to a row.
#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct Pointer {
    uid: Option<String>,
    #[serde(rename = "type")]
    kind: Option<u64>,
    #[serde(rename = "attachmentId")]
    attachment: Option<RowId>,
    seq_no: Option<(u16, u64)>,
    room: Option<Room>,
    offset: Option<String>,
}

/// Text from official peers, but they also read a number.
#[derive(Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum RowId {
    Number(i64),
    Text(String),
}

impl Pointer {
    /// Reads a notification. `None` if it is a message itself.
    pub(crate) fn read(notification: &str) -> Option<(i64, Self)> {
        // The longest pointer, if all its texts were escaped. Looking is cheaper than parsing.
        const LONGEST: usize = 6 * (MAX_ROOM_BYTES + trunkline_core::model::MAX_ID_BYTES) + 256;
        let may_be =
            notification.len() <= LONGEST.min(MAX_NOTIFICATION_BYTES) && notification.contains("\"attachmentId\":");
        if !may_be {
            return None;
        }
        let pointer: Self = serde_json::from_str(notification).ok()?;
        let id = match pointer.attachment.as_ref()? {
            RowId::Number(id) => *id,
            RowId::Text(text) => text.parse().ok()?,
        };
        Some((id, pointer))
    }

    pub(crate) fn from(&self) -> Option<NodeId> {
        self.uid.as_deref().and_then(|uid| NodeId::new(uid).ok())
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        self.kind.and_then(Kind::from_number)
    }

    pub(crate) fn seq_no(&self) -> Option<SeqNo> {
        self.seq_no.map(|(channel, number)| SeqNo { channel: SeqChannel(channel), number })
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
    // In valid JSON no text contains these quotes, so they are a field of the outermost object, which ends right behind it.
    before.ends_with(",\"offset\":\"").then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use trunkline_core::{Namespace, Payload, Target};

    use super::*;

    fn node() -> NodeKey {
        NodeKey { id: NodeId::new("0123456789abcdef").unwrap(), namespace: Namespace::new("/") }
    }

    fn item(url: &str, message: &Message) -> Item {
        let config = Config::from_url(url).unwrap();
        let draft = Draft::new(&config, "socket.io#/".into(), &node(), message.into()).unwrap();
        draft.finish(&mut Sequencer::default(), &NodeId::new("origin").unwrap())
    }

    fn broadcast(target: Target, bytes: usize) -> Message {
        let payload = Payload::event("e", &("x".repeat(bytes),)).unwrap();
        Message::Broadcast { request: None, target, payload }
    }

    fn notice(item: &Item) -> &str {
        let Content::Notice(text) = &item.content else { panic!("{item:?}") };
        std::str::from_utf8(text).unwrap()
    }

    #[test]
    fn a_small_message_is_the_official_one_with_a_number() {
        let item = item("postgres://h", &broadcast(Target::all(), 1));
        assert_eq!(
            notice(&item),
            r#"{"type":3,"data":{"packet":{"type":2,"data":["e","x"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"0123456789abcdef","nsp":"/","stamp":[0,1]}"#
        );
        assert_eq!(item.stored, None);
    }

    #[test]
    fn no_notification_exceeds_what_the_server_takes() {
        for history in ["off", "on"] {
            for bytes in 7_500..8_100 {
                let item = item(&format!("postgres://h?history={history}"), &broadcast(Target::all(), bytes));
                match &item.content {
                    Content::Notice(text) => assert!(text.len() + 40 <= MAX_NOTIFICATION_BYTES, "{bytes}"),
                    Content::Row { .. } => assert!(bytes > 7_500, "{bytes}"),
                }
            }
        }
    }

    #[test]
    fn a_large_message_becomes_a_row_with_a_pointer() {
        let item = item("postgres://h?payload_threshold=400", &broadcast(Target::room("a\"b"), 500));
        let Content::Row { head, tail, row } = item.content else { panic!("no row") };
        let (id, pointer) = Pointer::read(&format!("{head}12{tail}")).unwrap();
        assert_eq!((id, pointer.room()), (12, Some(&Room::from("a\"b"))));
        assert_eq!(pointer.from(), Some(node().id));
        assert_eq!(pointer.assign(), Some(SeqNo { channel: SeqChannel::ALL, number: 1 }));
        let decoded = codec::decode(&row.into()).unwrap();
        assert_eq!(decoded.seq_no, pointer.assign());
    }

    #[test]
    fn binary_becomes_a_row() {
        let payload = Payload::event("e", &(bytes::Bytes::from_static(b"\0"),)).unwrap();
        let item = item("postgres://h", &Message::ServerSideEmit { request: None, payload });
        assert!(matches!(item.content, Content::Row { .. }));
    }

    #[test]
    fn a_message_above_the_limit_is_refused() {
        let config = Config::from_url("postgres://h?max_message_bytes=10KiB").unwrap();
        let message = broadcast(Target::all(), 10 << 10);
        let error = Draft::new(&config, "c".into(), &node(), (&message).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn with_history_only_lasting_messages_are_stored() {
        let stored = |message: &Message| item("postgres://h?history=on", message).stored.is_some();
        assert!(stored(&broadcast(Target::all(), 1)));
        assert!(!stored(&broadcast(Target::all().volatile(), 1)));
        assert!(stored(&Message::Join { target: Target::all(), rooms: vec![Room::from("r")] }));
        assert!(!stored(&Message::Leaving));
    }

    #[test]
    fn an_offset_is_read_from_the_end() {
        let text = notice(&item("postgres://h?history=on", &broadcast(Target::all(), 1))).to_owned();
        let message = format!("{text},\"offset\":\"42\"}}");
        assert_eq!(offset_of(&message), Some(42));
        codec::decode(&bytes::Bytes::from(message)).unwrap();
        for foreign in [r#"{"a":{"x":1,"offset":"5"}}"#, r#"{"a":",\"offset\":\"5"}"#, r#"{"a":1,"offset":""}"#, "{}"] {
            assert_eq!(offset_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn pointers_of_official_peers_are_read() {
        let (id, pointer) = Pointer::read(r#"{"uid":"a","type":3,"attachmentId":"7"}"#).unwrap();
        assert_eq!((id, pointer.assign(), pointer.offset()), (7, None, None));
        assert_eq!(Pointer::read(r#"{"uid":"a","type":3,"attachmentId":7}"#).unwrap().0, 7);
        assert_eq!(Pointer::read(r#"{"type":3,"data":{"attachmentId":"7"},"uid":"a"}"#), None);
    }
}
