//! Messages and answers between nodes, independent of any wire format.

use std::sync::Arc;

use crate::{
    error::{Error, Result},
    model::{NodeId, RequestId, Room, SessionId, SocketId, Target},
    payload::{Attachments, ByteString, Payload},
};

/// A message to all nodes of a namespace. Exhaustive on purpose: a backend must handle every kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Deliver a packet to the matching sockets.
    Broadcast {
        /// Present if acknowledgements are wanted: every node answers with one [`Answer::ClientCount`] and an
        /// [`Answer::Ack`] per client.
        request: Option<RequestId>,
        /// Sockets it is for.
        target: Target,
        /// Event name and arguments.
        payload: Payload,
    },
    /// Make the matching sockets join rooms.
    Join {
        /// Sockets it is for.
        target: Target,
        /// The rooms to join.
        rooms: Vec<Room>,
    },
    /// Make the matching sockets leave rooms.
    Leave {
        /// Sockets it is for.
        target: Target,
        /// The rooms to leave.
        rooms: Vec<Room>,
    },
    /// Disconnect the matching sockets from the namespace.
    Disconnect {
        /// Sockets it is for.
        target: Target,
        /// Whether to close the client's connection too.
        close: bool,
    },
    /// Describe the matching sockets; answered by [`Answer::Sockets`].
    FetchSockets {
        /// Id that links the answers.
        request: RequestId,
        /// Sockets it is for.
        target: Target,
    },
    /// Name all rooms; answered by [`Answer::Rooms`]. Only classic Redis has this request, elsewhere the engine fetches
    /// sockets instead.
    AllRooms {
        /// Id that links the answers.
        request: RequestId,
    },
    /// Hand an event to the servers of the nodes (`serverSideEmit`).
    ServerSideEmit {
        /// Present if answers are wanted ([`Answer::ServerSideEmit`]).
        request: Option<RequestId>,
        /// Event name and arguments.
        payload: Payload,
    },
    /// Tell that the sending node is alive. An initial heartbeat asks every node to answer with its own at once.
    Heartbeat(Heartbeat),
    /// Tell that the sending node leaves.
    Leaving,
}

impl Message {
    /// Refuses what no peer or client would take: rooms with names that are too long, broadcasts that clients cannot read.
    ///
    /// # Errors
    /// `TooLarge`, `Malformed`.
    pub fn check(&self) -> Result<()> {
        match self {
            Self::Broadcast { target, payload, .. } => {
                target.check()?;
                if payload.is_packet() { Ok(()) } else { Err(no_packet(payload)) }
            }
            Self::Join { target, rooms } | Self::Leave { target, rooms } => {
                target.check()?;
                rooms.iter().try_for_each(Room::check)
            }
            Self::Disconnect { target, .. } | Self::FetchSockets { target, .. } => target.check(),
            _ => Ok(()),
        }
    }

    /// Id of the request that this message opens, if it wants answers.
    #[must_use]
    pub fn request(&self) -> Option<&RequestId> {
        match self {
            Self::Broadcast { request, .. } | Self::ServerSideEmit { request, .. } => request.as_ref(),
            Self::FetchSockets { request, .. } | Self::AllRooms { request } => Some(request),
            Self::Join { .. } | Self::Leave { .. } | Self::Disconnect { .. } | Self::Heartbeat(_) | Self::Leaving => {
                None
            }
        }
    }

    /// Trace context that the message carries.
    #[must_use]
    pub fn trace(&self) -> Option<&Arc<str>> {
        match self {
            Self::Broadcast { target, .. } => target.trace.as_ref(),
            _ => None,
        }
    }

    /// Sets the trace context that was beside the message on the wire. Only broadcasts have one.
    pub fn set_trace(&mut self, trace: Option<Arc<str>>) {
        if let Self::Broadcast { target, .. } = self {
            target.trace = trace;
        }
    }

    /// Whether the message takes a number of its sender. Heartbeats and leaves do not: their loss needs no notice.
    #[must_use]
    pub fn is_numbered(&self) -> bool {
        !matches!(self, Self::Heartbeat(_) | Self::Leaving)
    }

    /// Whether the message moves or disconnects sockets. With a history its sender gets it back as
    /// [`Delivery::Stored`](crate::model::Delivery::Stored), as it does broadcasts, and applies it only then.
    #[must_use]
    pub fn changes_sockets(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Leave { .. } | Self::Disconnect { .. })
    }

    /// A copy for a transport that keeps it, with a payload in memory of exactly its size: see [`Payload::compact`].
    #[must_use]
    pub fn compact(&self) -> Self {
        let mut copy = self.clone();
        if let Self::Broadcast { payload, .. } | Self::ServerSideEmit { payload, .. } = &mut copy {
            *payload = payload.compact();
        }
        copy
    }

    /// Bytes of the payload, if the message has one.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            Self::Broadcast { payload, .. } | Self::ServerSideEmit { payload, .. } => payload.len(),
            _ => 0,
        }
    }

    /// Bytes of user data in the message, rooms included, a measure for bounds.
    #[must_use]
    pub fn weight(&self) -> usize {
        FIXED
            + match self {
                Self::Broadcast { target, payload, .. } => weight_of_target(target) + payload.len(),
                Self::ServerSideEmit { payload, .. } => payload.len(),
                Self::Join { target, rooms } | Self::Leave { target, rooms } => {
                    weight_of_target(target) + weight_of_rooms(rooms)
                }
                Self::Disconnect { target, .. } | Self::FetchSockets { target, .. } => weight_of_target(target),
                Self::AllRooms { .. } | Self::Heartbeat(_) | Self::Leaving => 0,
            }
    }
}

fn no_packet(payload: &Payload) -> Error {
    Error::malformed(match payload.event_name() {
        Some(name) => format!("the event name {name:?} is reserved by Socket.IO"),
        None => "a packet must be a list that begins with the event's name".to_owned(),
    })
}

/// Bytes that any message weighs beyond its data.
const FIXED: usize = 64;

fn weight_of_target(target: &Target) -> usize {
    weight_of_rooms(&target.rooms) + weight_of_rooms(&target.except)
}

/// As [`Message::weight`].
pub(crate) fn weight_of_rooms(rooms: &[Room]) -> usize {
    rooms.iter().map(|room| size_of::<Room>() + room.as_text().map_or(0, str::len)).sum()
}

/// Content of a heartbeat among our own nodes. Official peers send it empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Heartbeat {
    /// Whether every node is asked to answer with a heartbeat at once.
    pub initial: bool,
    /// Last number on each channel of the sender: a node that has seen less has missed messages. A channel that is not
    /// mentioned has carried nothing. Filled in by the transport's queue, which assigns the numbers; empty from
    /// official peers only.
    pub high_water_marks: Vec<SeqNo>,
    /// Number of room buckets the sender uses; all nodes of a cluster must agree.
    pub buckets: Option<u16>,
    /// Whether the receiving transport has held the high-water marks back, to deliver them behind what they count. Never
    /// on the wire.
    pub marks_follow: bool,
}

impl Heartbeat {
    /// Heartbeat without numbers, as official peers send it.
    #[must_use]
    pub fn new(initial: bool) -> Self {
        Self { initial, ..Self::default() }
    }

    /// The same with these last numbers.
    #[must_use]
    pub fn with_high_water_marks(self, high_water_marks: Vec<SeqNo>) -> Self {
        Self { high_water_marks, ..self }
    }

    /// The same without its high-water marks, which follow.
    #[must_use]
    pub fn with_marks_following(self) -> Self {
        Self { high_water_marks: Vec::new(), marks_follow: true, ..self }
    }

    /// The same with this number of room buckets.
    #[must_use]
    pub fn with_buckets(self, buckets: Option<u16>) -> Self {
        Self { buckets, ..self }
    }
}

/// A channel of a sender on which its messages keep their order and are numbered: a subject, a key or an exchange route
/// of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqChannel(pub u16);

impl SeqChannel {
    /// Channel that every node receives.
    pub const ALL: Self = Self(0);
}

/// Sequence number of a message among those its sender has published on one channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeqNo {
    /// Channel of the message.
    pub channel: SeqChannel,
    /// Position on the channel, starting at 1.
    pub number: u64,
}

/// An answer to one node.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The request that is answered.
    pub request: RequestId,
    /// The answer.
    pub answer: Answer,
}

impl Response {
    /// As [`Message::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        FIXED + self.answer.weight()
    }
}

/// Content of a [`Response`]. Exhaustive on purpose: a backend must handle every kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// Matching sockets of one node.
    Sockets(Vec<SocketInfo>),
    /// Rooms of one node.
    Rooms(Vec<Room>),
    /// Value that one node's handler of a server-side event returned; `None` for `undefined`.
    ServerSideEmit(Option<Payload>),
    /// Number of clients of one node to which an acknowledged broadcast was sent. Every node answers this, also 0.
    ClientCount(u32),
    /// One client's acknowledgement.
    Ack(Ack),
    /// Part of an answer that the broker does not take whole. Only for nodes of ours.
    Part(Part),
    /// In place of an answer, or of entries of one, that the broker does not take: their size and the limit, as text.
    /// Only for nodes of ours.
    TooLarge(String),
}

/// One of several parts of an answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// Position among the parts, from 0.
    pub index: u32,
    /// Whether no part with a higher index follows.
    pub is_last: bool,
    /// Some of the sockets or rooms.
    pub answer: Box<Answer>,
}

impl Answer {
    /// As [`Message::weight`].
    #[must_use]
    pub fn weight(&self) -> usize {
        let weight_of_value = |value: &Option<Payload>| value.as_ref().map_or(0, Payload::len);
        match self {
            Self::Sockets(sockets) => sockets.iter().map(SocketInfo::weight).sum(),
            Self::Rooms(rooms) => weight_of_rooms(rooms),
            Self::ServerSideEmit(value) | Self::Ack(Ack { value, .. }) => weight_of_value(value),
            Self::ClientCount(_) => 0,
            Self::Part(part) => part.answer.weight(),
            Self::TooLarge(text) => text.len(),
        }
    }
}

/// Acknowledgement of a broadcast by one client. Exhaustive as [`Answer`] is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ack {
    /// Socket of the client; `None` if its server does not tell, as Node.js servers do not.
    pub socket: Option<SocketId>,
    /// First argument of the client's answer; `None` if it had none.
    pub value: Option<Payload>,
}

impl Ack {
    /// Acknowledgement of an unknown socket.
    #[must_use]
    pub fn new(value: Option<Payload>) -> Self {
        Self { socket: None, value }
    }

    /// The same, of this socket.
    #[must_use]
    pub fn with_socket(self, socket: Option<SocketId>) -> Self {
        Self { socket, ..self }
    }
}

/// A socket as the other nodes of the cluster see it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SocketInfo {
    /// Id of the socket.
    pub id: SocketId,
    /// Node that serves it; unknown when the answer came over a wire that does not name the answering node.
    pub node: Option<NodeId>,
    /// Rooms it is in, its own id included.
    pub rooms: Vec<Room>,
    /// Details of the client's handshake, as one encoded object: see [`SocketInfo::unknown_handshake`] for its fields.
    pub handshake: Option<Payload>,
    /// Data that the application attached to the socket (`socket.data`).
    pub data: Option<Payload>,
}

impl SocketInfo {
    /// Socket in these rooms, without handshake and data, of an unknown node.
    #[must_use]
    pub fn new(id: SocketId, rooms: Vec<Room>) -> Self {
        Self { id, node: None, rooms, handshake: None, data: None }
    }

    /// The same, served by this node.
    #[must_use]
    pub fn with_node(self, node: Option<NodeId>) -> Self {
        Self { node, ..self }
    }

    /// The same with these details of the client's handshake.
    #[must_use]
    pub fn with_handshake(self, handshake: Option<Payload>) -> Self {
        Self { handshake, ..self }
    }

    /// The same with this application data.
    #[must_use]
    pub fn with_data(self, data: Option<Payload>) -> Self {
        Self { data, ..self }
    }

    /// The handshake of a client of which nothing is known: all fields that a Node.js server has, without values, so that
    /// code which looks into them there works. What other nodes get of a socket without a handshake.
    #[must_use]
    pub fn unknown_handshake() -> Payload {
        Payload::from_trusted_json(ByteString::from_static(UNKNOWN_HANDSHAKE), Attachments::NONE)
    }

    /// As [`Message::weight`].
    pub(crate) fn weight(&self) -> usize {
        let details: usize = self.handshake.iter().chain(&self.data).map(Payload::len).sum();
        size_of::<Self>() + weight_of_rooms(&self.rooms) + details
    }
}

const UNKNOWN_HANDSHAKE: &str = concat!(
    r#"{"headers":{},"time":"Thu Jan 01 1970 00:00:00 GMT+0000 (Coordinated Universal Time)","address":"","#,
    r#""xdomain":false,"secure":false,"issued":0,"url":"","query":{},"auth":{}}"#
);

/// State of a client that may come back (connection state recovery).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Session {
    /// Secret by which the client claims the session.
    pub id: SessionId,
    /// Id of the client's socket, which it gets back.
    pub socket: SocketId,
    /// Rooms the socket was in.
    pub rooms: Vec<Room>,
    /// Data that the application attached to the socket (`socket.data`).
    pub data: Option<Payload>,
}

impl Session {
    /// Session of a socket in these rooms, without application data.
    #[must_use]
    pub fn new(id: SessionId, socket: SocketId, rooms: Vec<Room>) -> Self {
        Self { id, socket, rooms, data: None }
    }

    /// The same with this application data.
    #[must_use]
    pub fn with_data(self, data: Option<Payload>) -> Self {
        Self { data, ..self }
    }

    /// Rooms for which the socket received broadcasts: [`Session::rooms`] and the one named by its id, to which
    /// `to(id)` sends and which `socket.to(…)` excepts.
    #[must_use]
    pub fn rooms_with_own(&self) -> Vec<Room> {
        let own = Room::from(self.socket.as_str());
        let mut rooms = self.rooms.clone();
        if !rooms.contains(&own) {
            rooms.push(own);
        }
        rooms
    }
}
