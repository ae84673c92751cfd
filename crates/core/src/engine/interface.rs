//! Inputs and outputs of the engine.

use std::time::{Duration, Instant};

use crate::{
    error::Error,
    model::{
        Ack, AckCounts, Answer, Delivery, Event, Message, NodeId, Offset, RequestError, RequestId, Response, Room,
        SocketInfo,
    },
    payload::Payload,
    transport::NodeCount,
};

/// Something that happened to a node, handed to [`Engine::handle`](super::Engine::handle).
#[derive(Debug)]
pub enum Input {
    /// The node has joined; it says hello with an initial heartbeat.
    Start,
    /// Time has passed. To be given between batches of deliveries, not amid one: a node whose message waits in it must
    /// not be given up.
    Tick,
    /// The transport delivered something.
    Delivery(Delivery),
    /// The broker has counted the nodes; `None` if it could not.
    NodeCount(Option<NodeCount>),
    /// The server of this node asks the other nodes.
    Request(Request),
    /// The caller of a request is gone.
    Cancel(RequestId),
    /// The request's message could not be published.
    PublishFailed(RequestId, Error),
    /// The server of this node answers a request: an own one if `to` is `None`.
    LocalAnswer {
        /// Node that asked.
        to: Option<NodeId>,
        /// Request that is answered.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The node is about to leave. It announces that, pending requests end, and no later input has an effect.
    Leave,
}

/// A request to the other nodes of the cluster.
#[derive(Debug)]
pub struct Request {
    /// Unique id, which links the answers to the request.
    pub id: RequestId,
    /// Kind of answers to gather.
    pub gather: Gather,
    /// Message to publish; `None` if only this node is asked.
    pub message: Option<Message>,
    /// When the request ends with what has arrived.
    pub deadline: Instant,
}

/// Kind of answers that a request gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Sockets of every other node.
    Sockets,
    /// Rooms of every other node.
    Rooms,
    /// A value of every other node.
    Values,
    /// The value of one node of ours: those that have none answer `undefined`. Official peers are not waited for.
    Session,
    /// Client counts of every node and acknowledgements of their clients.
    Acks,
    /// Times of the answers of every other node, whatever they hold, and of the return of an own heartbeat.
    RoundTrips,
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
    /// When each node that is known by name has answered.
    pub answered_at: Vec<(NodeId, Instant)>,
    /// How long an own heartbeat took to the broker and back, where own messages come back.
    pub echo: Option<Duration>,
}

/// Something the driver of an engine has to do, taken from [`Engine::poll_output`](super::Engine::poll_output).
#[derive(Debug)]
pub enum Output {
    /// Publish a message. If it belongs to a request and publishing fails, [`Input::PublishFailed`] follows.
    Publish(Message),
    /// Send an answer to one node.
    Send(NodeId, Response),
    /// Apply a message to the local sockets; if it is a request, [`Input::LocalAnswer`] follows.
    Serve {
        /// Node that sent the message; the emitter's id if unknown.
        from: NodeId,
        /// The message.
        message: Message,
        /// Offset to append for clients that want to recover missed messages.
        offset: Option<Offset>,
    },
    /// Pass a client's acknowledgement to the caller of an own request.
    Acknowledged(RequestId, Ack),
    /// End an own request. Every [`Input::Request`] that is not cancelled ends in exactly one of these.
    Finished(RequestId, Result<Gathered, RequestError<Gathered>>),
    /// Ask the broker to count the nodes: take the names from [`Engine::begin_count`](super::Engine::begin_count);
    /// [`Input::NodeCount`] follows. One count that begins after several of these outputs meets all of them.
    CountNodes,
    /// Report an event to the listeners.
    Event(Event),
}
