//! What goes into an engine and what comes out.

use std::time::Instant;

use crate::{
    error::Error,
    model::{
        AckCounts, Answer, Delivery, Event, Message, NodeId, Offset, RequestError, RequestId, Response, Room,
        SocketInfo,
    },
    payload::Payload,
    transport::NodeCount,
};

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The node has joined: say hello.
    Start,
    /// Time has passed. To be told between batches of deliveries, not amid one: nobody is given up whose message waits in it.
    Tick,
    /// Something arrived.
    Delivery(Delivery),
    /// The broker has counted the nodes; `None` if it could not.
    NodeCount(Option<NodeCount>),
    /// This node asks the cluster.
    Request(Request),
    /// The caller of a request is gone.
    Cancel(RequestId),
    /// The request's message could not be published.
    PublishFailed(RequestId, Error),
    /// This node's own clients answer: to an own request if `to` is `None`.
    LocalAnswer {
        /// The node that asked.
        to: Option<NodeId>,
        /// Its request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The node is about to leave: say goodbye. Pending requests end, and nothing that comes later has an effect.
    Leave,
}

/// A question to the cluster.
#[derive(Debug)]
pub struct Request {
    /// Links the answers; unique.
    pub id: RequestId,
    /// What to gather.
    pub gather: Gather,
    /// What to publish; `None` if only this node is asked.
    pub message: Option<Message>,
    /// When to give up.
    pub deadline: Instant,
}

/// Which answers a request gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Sockets of every other node.
    Sockets,
    /// Rooms of every other node.
    Rooms,
    /// A value of every other node.
    Values,
    /// Client counts of every node and acknowledgements of their clients.
    Acks,
}

/// Answers gathered for a request. Only the field that its [`Gather`] names is filled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gathered {
    /// Sockets of the other nodes.
    pub sockets: Vec<SocketInfo>,
    /// Rooms of the other nodes, sorted, each once.
    pub rooms: Vec<Room>,
    /// One value per node that answered a server-side emit, `None` for `undefined`.
    pub values: Vec<Option<Payload>>,
    /// Clients that were announced and clients that have acknowledged.
    pub acks: AckCounts,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Publish a message. If it belongs to a request and that fails, tell by [`Input::PublishFailed`].
    Publish(Message),
    /// Send an answer to one node.
    Send(NodeId, Response),
    /// Apply a message to the local sockets, and answer by [`Input::LocalAnswer`] if it is a request.
    Serve {
        /// Who asks; the emitter's id if unknown.
        from: NodeId,
        /// What to do.
        message: Message,
        /// The offset to append for clients that want to recover.
        offset: Option<Offset>,
    },
    /// A client's acknowledgement for the caller of an own request.
    Acknowledged(RequestId, Option<Payload>),
    /// An own request is over. Every [`Input::Request`] that is not cancelled ends in exactly one of these.
    Finished(RequestId, Result<Gathered, RequestError<Gathered>>),
    /// Ask the broker for its count: take the question from [`Engine::begin_count`](super::Engine::begin_count), put it, and tell by
    /// [`Input::NodeCount`]. Several of these may be met by one count that begins after the last of them.
    CountNodes,
    /// Tell whoever listens.
    Event(Event),
}
