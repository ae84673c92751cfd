//! The content of a message, without sender and namespace: [`Body`] owned, [`BodyRef`] borrowed.

use super::Kind;
use crate::{
    model::{Ack, Answer, Message, Response, Room, SocketInfo, Target},
    payload::Payload,
};

/// Content of a decoded message.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A message to all nodes.
    Message(Message),
    /// A response to one node.
    Response(Response),
}

/// Content of a message to encode.
#[derive(Clone, Copy, Debug)]
pub enum BodyRef<'a> {
    /// A message to all nodes.
    Message(&'a Message),
    /// A response to one node.
    Response(&'a Response),
}

impl<'a> From<&'a Message> for BodyRef<'a> {
    fn from(message: &'a Message) -> Self {
        Self::Message(message)
    }
}

impl<'a> From<&'a Response> for BodyRef<'a> {
    fn from(response: &'a Response) -> Self {
        Self::Response(response)
    }
}

impl<'a> From<&'a Body> for BodyRef<'a> {
    fn from(body: &'a Body) -> Self {
        match body {
            Body::Message(message) => Self::Message(message),
            Body::Response(response) => Self::Response(response),
        }
    }
}

impl<'a> BodyRef<'a> {
    /// Type of the message on the wire; `None` for what only classic Redis has a message for.
    #[must_use]
    pub fn kind(self) -> Option<Kind> {
        Some(match self {
            Self::Message(message) => match message {
                Message::Broadcast { .. } => Kind::Broadcast,
                Message::Join { .. } => Kind::Join,
                Message::Leave { .. } => Kind::Leave,
                Message::Disconnect { .. } => Kind::Disconnect,
                Message::FetchSockets { .. } => Kind::FetchSockets,
                Message::AllRooms { .. } => return None,
                Message::ServerSideEmit { .. } => Kind::ServerSideEmit,
                Message::Heartbeat(heartbeat) if heartbeat.initial => Kind::InitialHeartbeat,
                Message::Heartbeat(_) => Kind::Heartbeat,
                Message::Leaving => Kind::Leaving,
            },
            Self::Response(response) => return kind_of(&response.answer),
        })
    }

    /// Whether the content contains binary, at any depth.
    #[must_use]
    pub fn has_binary(self) -> bool {
        match self.sockets() {
            Some(sockets) => sockets.iter().flat_map(payloads).any(Payload::has_binary),
            None => self.payload().is_some_and(Payload::has_binary),
        }
    }

    /// Payload of a message that has exactly one.
    #[must_use]
    pub fn payload(self) -> Option<&'a Payload> {
        match self {
            Self::Message(Message::Broadcast { payload, .. } | Message::ServerSideEmit { payload, .. }) => {
                Some(payload)
            }
            Self::Message(_) => None,
            Self::Response(response) => match &response.answer {
                Answer::ServerSideEmit(value) | Answer::Ack(Ack { value, .. }) => value.as_ref(),
                _ => None,
            },
        }
    }

    /// Trace context of the message.
    pub(super) fn trace(self) -> Option<&'a str> {
        match self {
            Self::Message(message) => message.trace().map(AsRef::as_ref),
            Self::Response(_) => None,
        }
    }

    /// Number of room buckets in a heartbeat.
    pub(super) fn buckets(self) -> Option<u16> {
        match self {
            Self::Message(Message::Heartbeat(heartbeat)) => heartbeat.buckets,
            _ => None,
        }
    }

    /// Estimated size of the encoded message, in most cases a little too large, so that encoding allocates once.
    pub(super) fn encoded_size_hint(self) -> usize {
        const ENVELOPE: usize = 288;
        const SOCKET: usize = 64;
        let sockets = self.sockets().unwrap_or_default();
        let described: usize = sockets.iter().flat_map(payloads).map(Payload::len).sum();
        let rooms: usize = sockets.iter().map(|socket| SOCKET + size_of_rooms(&socket.rooms)).sum();
        ENVELOPE + self.payload().map_or(0, Payload::len) + self.target_size() + described + rooms
    }

    fn sockets(self) -> Option<&'a [SocketInfo]> {
        match self {
            Self::Response(response) => sockets_of(&response.answer),
            Self::Message(_) => None,
        }
    }

    fn target_size(self) -> usize {
        let Self::Message(message) = self else { return 0 };
        match message {
            Message::Broadcast { target, .. }
            | Message::FetchSockets { target, .. }
            | Message::Disconnect { target, .. } => size_of_target(target),
            Message::Join { target, rooms } | Message::Leave { target, rooms } => {
                size_of_target(target) + size_of_rooms(rooms)
            }
            _ => 0,
        }
    }
}

fn kind_of(answer: &Answer) -> Option<Kind> {
    match answer {
        Answer::Sockets(_) | Answer::TooLarge(_) => Some(Kind::Sockets),
        Answer::Rooms(_) => None,
        Answer::ServerSideEmit(_) => Some(Kind::ServerSideEmitAnswer),
        Answer::ClientCount(_) => Some(Kind::ClientCount),
        Answer::Ack(_) => Some(Kind::Ack),
        Answer::Part(part) => kind_of(&part.answer),
    }
}

fn sockets_of(answer: &Answer) -> Option<&[SocketInfo]> {
    match answer {
        Answer::Sockets(sockets) => Some(sockets),
        Answer::Part(part) => sockets_of(&part.answer),
        _ => None,
    }
}

fn payloads(socket: &SocketInfo) -> impl Iterator<Item = &Payload> {
    socket.handshake.iter().chain(&socket.data)
}

fn size_of_target(target: &Target) -> usize {
    size_of_rooms(&target.rooms) + size_of_rooms(&target.except)
}

fn size_of_rooms(rooms: &[Room]) -> usize {
    const NUMBER: usize = 20;
    rooms.iter().map(|room| room.as_text().map_or(NUMBER, str::len) + 3).sum()
}
