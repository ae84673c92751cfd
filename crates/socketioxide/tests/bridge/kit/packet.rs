//! Socket.IO packets, for both parsers.

use bytes::Bytes;
use trunkline_core::payload::{Json, Number, Payload, Rules, json, msgpack};

/// The kinds of packets, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Connect,
    Disconnect,
    Event,
    Ack,
    ConnectError,
}

impl Kind {
    fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Connect,
            1 => Self::Disconnect,
            2 | 5 => Self::Event,
            3 | 6 => Self::Ack,
            4 => Self::ConnectError,
            other => panic!("packet type {other}"),
        }
    }

    fn number(self, binary: bool) -> u8 {
        match self {
            Self::Connect => 0,
            Self::Disconnect => 1,
            Self::Event => 2 + if binary { 3 } else { 0 },
            Self::Ack => 3 + if binary { 3 } else { 0 },
            Self::ConnectError => 4,
        }
    }
}

/// A packet. A socket has one namespace in these tests.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) kind: Kind,
    pub(crate) namespace: String,
    pub(crate) data: Option<Payload>,
    pub(crate) id: Option<u64>,
}

/// The text of a packet whose attachments may still follow.
pub(crate) struct Head {
    packet: Packet,
    text: String,
    pub(crate) attachments: usize,
}

impl Packet {
    /// As text and attachments.
    pub(crate) fn to_text(&self) -> (String, Vec<Bytes>) {
        let data = self.data.as_ref().map(Payload::to_json);
        let Json { text, attachments } = data.unwrap_or_else(|| Payload::from_trusted_json("", Vec::new()).to_json());
        let attachments = attachments.to_vec();
        let mut out = self.kind.number(!attachments.is_empty()).to_string();
        if !attachments.is_empty() {
            out += &format!("{}-", attachments.len());
        }
        if self.namespace != "/" {
            out += &format!("{},", self.namespace);
        }
        if let Some(id) = self.id {
            out += &id.to_string();
        }
        (out + &text, attachments)
    }

    /// As one MessagePack object.
    pub(crate) fn to_msgpack(&self) -> Vec<u8> {
        let mut out = Vec::new();
        msgpack::write_map_len(&mut out, 2 + usize::from(self.data.is_some()) + usize::from(self.id.is_some()));
        msgpack::write_text(&mut out, "type");
        msgpack::write_number(&mut out, Number::Unsigned(self.kind.number(false).into()), Rules::Notepack);
        msgpack::write_text(&mut out, "nsp");
        msgpack::write_text(&mut out, &self.namespace);
        if let Some(data) = &self.data {
            msgpack::write_text(&mut out, "data");
            out.extend_from_slice(&data.to_msgpack(Rules::Notepack).unwrap());
        }
        if let Some(id) = self.id {
            msgpack::write_text(&mut out, "id");
            msgpack::write_number(&mut out, Number::Unsigned(id), Rules::Notepack);
        }
        out
    }

    pub(crate) fn from_msgpack(bytes: &Bytes) -> Self {
        let mut packet = Self { kind: Kind::Connect, namespace: String::new(), data: None, id: None };
        let mut scanner = msgpack::Scanner::new(bytes, 0);
        let Ok(msgpack::Token::Map(fields)) = scanner.token() else { panic!("not a map: {bytes:?}") };
        for _ in 0..fields {
            let key = scanner.key().unwrap().into_owned();
            let start = scanner.position();
            scanner.skip().unwrap();
            let value = Payload::from_msgpack(bytes.slice(start..scanner.position())).unwrap();
            match key.as_str() {
                "type" => packet.kind = Kind::from_number(value.deserialize().unwrap()),
                "nsp" => packet.namespace = value.deserialize().unwrap(),
                "id" => packet.id = value.deserialize().unwrap(),
                "data" => packet.data = Some(value),
                other => panic!("field {other}"),
            }
        }
        packet
    }
}

impl Head {
    pub(crate) fn parse(text: &str) -> Self {
        let number = text.as_bytes()[0] - b'0';
        let mut rest = &text[1..];
        let mut attachments = 0;
        if matches!(number, 5 | 6) {
            let (count, after) = rest.split_once('-').unwrap();
            (attachments, rest) = (count.parse().unwrap(), after);
        }
        let mut namespace = "/";
        if rest.starts_with('/') {
            (namespace, rest) = rest.split_once(',').unwrap();
        }
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let id = rest[..digits].parse().ok();
        let packet = Packet { kind: Kind::from_number(number), namespace: namespace.to_owned(), data: None, id };
        Self { packet, text: rest[digits..].to_owned(), attachments }
    }

    pub(crate) fn complete(self, attachments: Vec<Bytes>) -> Packet {
        let Self { mut packet, text, .. } = self;
        if !text.is_empty() {
            assert!(json::Scanner::new(&text, 0).skip().is_ok(), "{text}");
            packet.data = Some(Payload::from_json_with(text, attachments).unwrap());
        }
        packet
    }
}
