//! Batches: one or several encoded messages in one message of the broker, as RabbitMQ and NATS carry them.
//!
//! ```text
//! 1 byte    version, 1
//! 8 bytes   sender: the random id of a connection
//! 8 bytes   number of the batch among those of its sender, counted from 1; 0 if the sender does not number
//! then, for each message
//! 4 bytes   its length
//! n bytes   the message: JSON if it begins with a brace, else MessagePack (see codec)
//! ```
//! Integers are big-endian. A sender numbers its batches over all channels and namespaces, so that a receiver can put
//! in order what arrives over several subscriptions, and drop what was sent again after a connection broke.

use std::fmt;

use bytes::{Buf, BufMut, Bytes};

use trunkline_core::{
    codec::{self, BodyRef, Format},
    error::{Error, Result},
    model::{Namespace, NodeId},
    payload::Rules,
};

/// Version of the format. What follows the first byte of another version is unknown.
pub const VERSION: u8 = 1;

/// Bytes of a batch before its first message.
pub const HEADER: usize = 17;

/// Bytes that a message takes in a batch beyond its own.
pub const PER_MESSAGE: usize = 4;

/// Encodes a message or an answer for a batch: as JSON, or as MessagePack if there is binary in it or its payload is
/// MessagePack anyway.
///
/// # Errors
/// As [`codec::encode`].
pub fn encode<'a>(from: &NodeId, namespace: &Namespace, body: impl Into<BodyRef<'a>>) -> Result<codec::EncodedMessage> {
    let body = body.into();
    let is_msgpack = body.payload().is_some_and(|payload| payload.as_msgpack().is_some());
    let format = if is_msgpack || body.has_binary() { Format::MsgPack(Rules::Notepack) } else { Format::Json };
    codec::encode(format, from, namespace, body)
}

/// Random id of a connection that sends batches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// New random id.
    #[must_use]
    pub fn random() -> Self {
        Self(fastrand::u64(..))
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({self})")
    }
}

/// Builder of a batch from encoded messages.
#[derive(Debug)]
pub struct BatchBuilder {
    bytes: Vec<u8>,
}

impl BatchBuilder {
    /// Empty batch number `number` of `sender`, with room for so many bytes of messages.
    #[must_use]
    pub fn new(sender: ConnectionId, number: u64, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEADER + PER_MESSAGE + capacity);
        bytes.put_u8(VERSION);
        bytes.put_u64(sender.0);
        bytes.put_u64(number);
        Self { bytes }
    }

    /// Adds an encoded message.
    ///
    /// # Panics
    /// If the message has 4 GiB or more, which no broker takes.
    pub fn push(&mut self, message: &[u8]) {
        let length = u32::try_from(message.len()).expect("messages are limited far below 4 GiB");
        self.bytes.put_u32(length);
        self.bytes.put_slice(message);
    }

    /// Whether the batch would have at most `max_bytes` with one more message.
    #[must_use]
    pub fn fits(&self, message: &[u8], max_bytes: usize) -> bool {
        self.bytes.len() + PER_MESSAGE + message.len() <= max_bytes
    }

    /// Bytes of the batch so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no message in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.len() == HEADER
    }

    /// Bytes of the finished batch.
    #[must_use]
    pub fn finish(self) -> Bytes {
        self.bytes.into()
    }
}

/// A received batch. Iterates over its messages, which are slices of it; a malformed batch ends with an error.
#[derive(Clone, Debug)]
pub struct Batch {
    sender: ConnectionId,
    number: Option<u64>,
    messages: Bytes,
}

impl Batch {
    /// Reads the head of a batch.
    ///
    /// # Errors
    /// `Malformed` for another version or less than a head.
    pub fn parse(mut bytes: Bytes) -> Result<Self> {
        let version = bytes.first().copied();
        if version != Some(VERSION) || bytes.len() < HEADER {
            return Err(Error::malformed(format!("batch of {} bytes and version {version:?}", bytes.len())));
        }
        bytes.advance(1);
        let sender = ConnectionId(bytes.get_u64());
        let number = Some(bytes.get_u64()).filter(|number| *number > 0);
        Ok(Self { sender, number, messages: bytes })
    }

    /// Connection that sent it.
    #[must_use]
    pub fn sender(&self) -> ConnectionId {
        self.sender
    }

    /// Number among the batches of its sender; `None` if the sender does not number.
    #[must_use]
    pub fn number(&self) -> Option<u64> {
        self.number
    }
}

impl Iterator for Batch {
    type Item = Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.messages.is_empty() {
            return None;
        }
        let length = (self.messages.len() >= PER_MESSAGE).then(|| self.messages.get_u32() as usize);
        match length {
            Some(length) if length <= self.messages.len() => Some(Ok(self.messages.split_to(length))),
            _ => {
                self.messages = Bytes::new();
                Some(Err(Error::malformed("batch ends within a message")))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trunkline_core::{
        model::{Message, SeqChannel, SeqNo, Target},
        payload::Payload,
    };

    fn broadcast(payload: Payload) -> Message {
        Message::Broadcast { request: None, target: Target::room("r"), payload }
    }

    fn batch(messages: &[&[u8]]) -> Bytes {
        let mut builder = BatchBuilder::new(ConnectionId(0x0102_0304_0506_0708), 9, 0);
        for message in messages {
            builder.push(message);
        }
        builder.finish()
    }

    #[test]
    fn a_batch_looks_as_documented() {
        let bytes = batch(&[b"{}", b"abc"]);
        let expected = b"\x01\x01\x02\x03\x04\x05\x06\x07\x08\0\0\0\0\0\0\0\x09\0\0\0\x02{}\0\0\0\x03abc";
        assert_eq!(bytes, expected.as_slice());
        let batch = Batch::parse(bytes).unwrap();
        assert_eq!((batch.sender().to_string().as_str(), batch.number()), ("0102030405060708", Some(9)));
        let messages: Vec<_> = batch.map(Result::unwrap).collect();
        assert_eq!(messages, [&b"{}"[..], b"abc"]);
    }

    #[test]
    fn a_cut_or_foreign_batch_is_an_error_and_never_a_panic() {
        let whole = batch(&[b"{}", b"abc"]);
        for end in 0..whole.len() {
            let messages = Batch::parse(whole.slice(..end)).map(|batch| batch.filter(Result::is_ok).count());
            assert!(messages.is_err() || messages.unwrap() < 2, "cut at {end}");
        }
        assert!(Batch::parse(Bytes::from_static(b"{\"type\":3,\"uid\":\"x\"}")).is_err());
        let mut lying = whole.to_vec();
        lying[HEADER] = 0xff;
        let items: Vec<_> = Batch::parse(lying.into()).unwrap().collect();
        assert!(matches!(items.as_slice(), [Err(_)]));
    }

    #[test]
    fn messages_are_json_unless_binary_makes_messagepack_the_better_choice() {
        let from = NodeId::new("a").unwrap();
        let namespace = Namespace::new("/");
        let seq_no = Some(SeqNo { channel: SeqChannel::ALL, number: 1 });
        let text = broadcast(Payload::event("e", "x").unwrap());
        let encoded = encode(&from, &namespace, &text).unwrap().finish(seq_no, &[]);
        assert_eq!(encoded[0], b'{');
        let binary = broadcast(Payload::event("e", &Bytes::from_static(b"x")).unwrap());
        let encoded = encode(&from, &namespace, &binary).unwrap().finish(seq_no, &[]);
        assert_ne!(encoded[0], b'{');
        assert_eq!(codec::decode(&encoded.into()).unwrap().body, codec::Body::Message(binary));
    }
}
