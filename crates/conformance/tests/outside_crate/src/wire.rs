//! Packets between a client and the hub: `u32` length of the rest, `u8` kind, `u16` length of the topic, topic, body.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Maximum size of a packet. Messages are smaller, to leave room for topic and numbers.
pub const MAX_PACKET: usize = 2 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Subscribes the client to the topic. The hub sends it back as a confirmation.
    Subscribe,
    Unsubscribe,
    Publish,
}

#[derive(Clone, Debug)]
pub struct Packet {
    pub kind: Kind,
    pub topic: String,
    pub body: Bytes,
}

pub fn encode(kind: Kind, topic: &str, body: &[u8]) -> Bytes {
    let length = 3 + topic.len() + body.len();
    let mut bytes = BytesMut::with_capacity(4 + length);
    bytes.put_u32(length as u32);
    bytes.put_u8(kind as u8);
    bytes.put_u16(topic.len() as u16);
    bytes.put_slice(topic.as_bytes());
    bytes.put_slice(body);
    bytes.freeze()
}

/// Takes the next packet from what was read, if it is complete.
pub fn take_packet(read: &mut BytesMut) -> io::Result<Option<Packet>> {
    let Some(length) = read.get(..4).map(|mut head| head.get_u32() as usize) else { return Ok(None) };
    if length > MAX_PACKET {
        return Err(malformed());
    }
    if read.len() < 4 + length {
        return Ok(None);
    }
    read.advance(4);
    decode(read.split_to(length).freeze()).map(Some)
}

fn decode(mut packet: Bytes) -> io::Result<Packet> {
    if packet.len() < 3 {
        return Err(malformed());
    }
    let kind = match packet.get_u8() {
        0 => Kind::Subscribe,
        1 => Kind::Unsubscribe,
        2 => Kind::Publish,
        _ => return Err(malformed()),
    };
    let topic_length = usize::from(packet.get_u16());
    if packet.len() < topic_length {
        return Err(malformed());
    }
    let topic = String::from_utf8(packet.split_to(topic_length).into()).map_err(|_| malformed())?;
    Ok(Packet { kind, topic, body: packet })
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed packet")
}
