//! Messages to be published: as the text of a notification, or as a row with a notification that points to it.

use std::sync::Arc;

use trunkline_backend::own_copy;
use trunkline_core::{
    Error, ErrorKind, Message, NodeKey, Payload, Result,
    codec::{self, BINARY_KINDS_POSTGRES, BodyRef, EncodedMessage, Format},
    model::{SeqChannel, SeqNo},
    payload::Rules,
};

use super::notification::NotificationParts;
use crate::{channel::Encoding, config::Config};

/// Sequence of messages that the events table does not hold. They have numbers of their own, because losing them with a
/// connection is no gap in the history.
const EPHEMERAL: SeqChannel = SeqChannel(1);

/// More than the number and the offset of a message add to it.
const OWN_FIELDS: usize = 96;

/// A message that is encoded but for its number.
#[derive(Debug)]
pub(crate) struct UnnumberedMessage {
    channel: Arc<str>,
    from: NodeKey,
    encoded: EncodedMessage,
    /// `None` for heartbeats and leaves, which take no number.
    pub(crate) numbered_on: Option<SeqChannel>,
    is_stored: bool,
    /// Present if the message becomes a row.
    notification: Option<NotificationParts>,
    own_broadcast: Option<Message>,
}

/// A message in the outbox, and until it is confirmed.
#[derive(Debug)]
pub(crate) struct QueuedMessage {
    pub(crate) channel: Arc<str>,
    pub(crate) from: NodeKey,
    pub(crate) content: Content,
    /// Number in the events table, assigned by the writer, if the message is stored there. Together with the origin it
    /// tells a repeated message from a new one.
    pub(crate) stored: Option<i64>,
    /// A broadcast of this process, to be delivered here if the server never takes it.
    pub(crate) own_broadcast: Option<Message>,
    pub(crate) bytes: usize,
}

/// Encoded content. JSON texts end where the server adds the offset: those of stored messages are without their last
/// brace.
#[derive(Debug)]
pub(crate) enum Content {
    /// The whole message, as text of a notification.
    Notification(Vec<u8>),
    /// A row, and the notification that points to it.
    Row { notification: NotificationParts, row: Vec<u8> },
}

impl UnnumberedMessage {
    /// Encodes a message or an answer. The expensive part: done by the caller, outside the outbox's lock.
    pub(crate) fn encode(
        config: &Config,
        encoding: Encoding,
        channel: Arc<str>,
        from: &NodeKey,
        body: BodyRef<'_>,
    ) -> Result<Self> {
        let payload_bytes = body.payload().map_or(0, Payload::len);
        check_size(config, payload_bytes)?;
        let encode = |format| codec::encode(format, &from.id, &from.namespace, body);
        let mut text = None;
        if payload_bytes <= config.payload_threshold && !codec::contains_binary(body, &BINARY_KINDS_POSTGRES) {
            let json = encode(Format::Json)?;
            let json = if encoding == Encoding::Any { json } else { json.escaped() };
            text = Some(json).filter(|text| text.len() + OWN_FIELDS <= config.payload_threshold);
        }
        let (encoded, notification) = match text {
            Some(text) => (text, None),
            None => {
                (encode(Format::MsgPack(Rules::MsgpackJs))?, Some(NotificationParts::new(&from.id, body, encoding)))
            }
        };
        check_size(config, encoded.len())?;
        let has_history = config.history.is_some();
        let is_stored = has_history && is_lasting(body);
        let numbered_on = match body {
            BodyRef::Message(message) if !message.is_numbered() => None,
            BodyRef::Message(_) if is_stored || !has_history => Some(SeqChannel::ALL),
            BodyRef::Message(_) | BodyRef::Response(_) => Some(EPHEMERAL),
        };
        let own_broadcast = has_history.then(|| own_copy(from, body)).flatten();
        Ok(Self { channel, from: from.clone(), encoded, numbered_on, is_stored, notification, own_broadcast })
    }

    /// What it takes in the outbox.
    pub(crate) fn bytes(&self) -> usize {
        const FIXED: usize = 160;
        FIXED + self.encoded.len() + self.own_broadcast.as_ref().map_or(0, Message::weight)
    }

    /// Completes the message with its number, which also makes it unique: the server drops a notification that repeats
    /// another one of the same transaction.
    pub(crate) fn number(self, seq_no: Option<SeqNo>, high_water_marks: &[SeqNo]) -> QueuedMessage {
        let bytes = self.bytes();
        let Self { channel, from, encoded, is_stored, notification, own_broadcast, .. } = self;
        let mut encoded = encoded.finish(seq_no, high_water_marks);
        let content = match notification {
            Some(notification) => Content::Row { notification: notification.number(seq_no, !is_stored), row: encoded },
            None => {
                if is_stored {
                    encoded.pop();
                }
                Content::Notification(encoded)
            }
        };
        QueuedMessage { channel, from, content, stored: is_stored.then_some(0), own_broadcast, bytes }
    }
}

/// Whether a message is of use to a client that was away.
fn is_lasting(body: BodyRef<'_>) -> bool {
    let BodyRef::Message(message) = body else { return false };
    match message {
        Message::Broadcast { request: None, target, .. } => !target.flags.is_volatile(),
        Message::Join { .. } | Message::Leave { .. } | Message::Disconnect { .. } => true,
        Message::ServerSideEmit { request, .. } => request.is_none(),
        _ => false,
    }
}

fn check_size(config: &Config, bytes: usize) -> Result<()> {
    let most = config.max_message_bytes;
    if bytes > most {
        return Err(Error::new(ErrorKind::TooLarge, format!("message of {bytes} bytes; max_message_bytes is {most}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use trunkline_core::{Namespace, NodeId, Room, Target, codec::Body};

    use super::*;
    use crate::{
        config::MAX_NOTIFICATION_BYTES,
        publish::{RowNotification, offset_of},
    };

    fn node() -> NodeKey {
        NodeKey { id: NodeId::new("0123456789abcdef").unwrap(), namespace: Namespace::new("/") }
    }

    fn encode(config: &Config, encoding: Encoding, message: &Message) -> Result<UnnumberedMessage> {
        UnnumberedMessage::encode(config, encoding, "socket.io#/".into(), &node(), message.into())
    }

    fn queued(url: &str, message: &Message) -> QueuedMessage {
        let config = Config::from_url(url).unwrap();
        let encoded = encode(&config, Encoding::Any, message).unwrap();
        let seq_no = SeqNo { channel: SeqChannel::ALL, number: 1 };
        let is_numbered = encoded.numbered_on.is_some();
        encoded.number(is_numbered.then_some(seq_no), &[seq_no])
    }

    fn broadcast(target: Target, bytes: usize) -> Message {
        let payload = Payload::event("e", &("x".repeat(bytes),)).unwrap();
        Message::Broadcast { request: None, target, payload }
    }

    fn text(message: &QueuedMessage) -> &str {
        let Content::Notification(text) = &message.content else { panic!("{message:?}") };
        std::str::from_utf8(text).unwrap()
    }

    #[test]
    fn a_small_message_is_the_official_one_with_a_number() {
        let message = queued("postgres://h", &broadcast(Target::all(), 1));
        assert_eq!(
            text(&message),
            r#"{"type":3,"data":{"packet":{"type":2,"data":["e","x"]},"opts":{"rooms":[],"except":[],"flags":{}}},"uid":"0123456789abcdef","nsp":"/","stamp":[0,1]}"#
        );
        assert_eq!(message.stored, None);
    }

    #[test]
    fn no_notification_exceeds_what_the_server_takes() {
        for history in ["off", "on"] {
            for bytes in 7_500..8_100 {
                let message = queued(&format!("postgres://h?history={history}"), &broadcast(Target::all(), bytes));
                match &message.content {
                    Content::Notification(text) => assert!(text.len() + 40 <= MAX_NOTIFICATION_BYTES, "{bytes}"),
                    Content::Row { .. } => assert!(bytes > 7_500, "{bytes}"),
                }
            }
        }
    }

    #[test]
    fn a_large_message_becomes_a_row_with_a_notification_that_points_to_it() {
        let message = queued("postgres://h?payload_threshold=400", &broadcast(Target::room("a\"b"), 500));
        let Content::Row { notification: NotificationParts { before_id, after_id }, row } = message.content else {
            panic!("no row")
        };
        let (id, notification) = RowNotification::read(&format!("{before_id}12{after_id}")).unwrap();
        assert_eq!((id, notification.room()), (12, Some(&Room::from("a\"b"))));
        assert_eq!(notification.from(), Some(node().id));
        assert_eq!(notification.seq_no(), Some(SeqNo { channel: SeqChannel::ALL, number: 1 }));
        let decoded = codec::decode(&row.into()).unwrap();
        assert_eq!(decoded.seq_no, notification.seq_no());
    }

    #[test]
    fn binary_becomes_a_row() {
        let payload = Payload::event("e", &(bytes::Bytes::from_static(b"\0"),)).unwrap();
        let message = queued("postgres://h", &Message::ServerSideEmit { request: None, payload });
        assert!(matches!(message.content, Content::Row { .. }));
    }

    #[test]
    fn what_the_database_does_not_hold_is_escaped_and_read_again() {
        let message = Message::Broadcast {
            request: None,
            target: Target::room("😀 é"),
            payload: Payload::event("e", &("😁",)).unwrap(),
        };
        for threshold in [400, 50] {
            let config = Config::from_url(&format!("postgres://h?payload_threshold={threshold}")).unwrap();
            let queued = encode(&config, Encoding::Other, &message).unwrap().number(None, &[]);
            let bytes = match queued.content {
                Content::Notification(text) => text,
                Content::Row { notification: NotificationParts { before_id, after_id }, row } => {
                    let text = format!("{before_id}1{after_id}");
                    assert!(text.is_ascii(), "{text}");
                    assert_eq!(RowNotification::read(&text).unwrap().1.room(), Some(&Room::from("😀 é")));
                    row
                }
            };
            assert!(threshold == 50 || bytes.is_ascii());
            let Body::Message(read) = codec::decode(&bytes.into()).unwrap().body else { panic!("no message") };
            assert_eq!(read, message);
        }
    }

    #[test]
    fn a_message_above_the_limit_is_refused() {
        let config = Config::from_url("postgres://h?max_message_bytes=10KiB").unwrap();
        let message = broadcast(Target::all(), 10 << 10);
        let error = encode(&config, Encoding::Any, &message).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn with_history_only_lasting_messages_are_stored() {
        let is_stored = |message: &Message| queued("postgres://h?history=on", message).stored.is_some();
        assert!(is_stored(&broadcast(Target::all(), 1)));
        assert!(!is_stored(&broadcast(Target::all().volatile(), 1)));
        assert!(is_stored(&Message::Join { target: Target::all(), rooms: vec![Room::from("r")] }));
        assert!(!is_stored(&Message::Leaving));
    }

    #[test]
    fn an_offset_is_read_from_the_end() {
        let text = text(&queued("postgres://h?history=on", &broadcast(Target::all(), 1))).to_owned();
        let message = format!("{text},\"offset\":\"42\"}}");
        assert_eq!(offset_of(&message), Some(42));
        codec::decode(&bytes::Bytes::from(message)).unwrap();
        for foreign in [r#"{"a":{"x":1,"offset":"5"}}"#, r#"{"a":",\"offset\":\"5"}"#, r#"{"a":1,"offset":""}"#, "{}"] {
            assert_eq!(offset_of(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn notifications_of_official_peers_are_read() {
        let (id, notification) = RowNotification::read(r#"{"uid":"a","type":3,"attachmentId":"7"}"#).unwrap();
        assert_eq!((id, notification.seq_no(), notification.offset()), (7, None, None));
        assert_eq!(RowNotification::read(r#"{"uid":"a","type":3,"attachmentId":7}"#).unwrap().0, 7);
        assert_eq!(RowNotification::read(r#"{"type":3,"data":{"attachmentId":"7"},"uid":"a"}"#), None);
    }
}
