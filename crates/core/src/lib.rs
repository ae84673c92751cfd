#![doc = include_str!("../README.md")]

pub mod adapter;
pub mod assist;
pub mod backoff;
pub mod capabilities;
pub mod cluster;
pub mod codec;
pub mod counters;
mod driver;
pub mod emitter;
pub mod engine;
pub mod error;
pub mod event;
pub mod frame;
pub mod id;
pub mod inbox;
pub mod intake;
pub mod interest;
pub mod line;
pub mod link;
pub mod local;
pub mod memory;
pub mod message;
pub mod outbox;
pub mod payload;
pub mod registry;
pub mod room;
pub mod room_index;
pub mod routes;
pub mod session;
pub mod settings;
pub mod subscriptions;
pub mod target;
pub mod transport;

pub use crate::{
    adapter::{AckStream, Adapter},
    capabilities::{Capabilities, Membership},
    cluster::{Cluster, ClusterConfig},
    counters::{Counters, Snapshot},
    emitter::Emitter,
    error::{Answers, Error, ErrorKind, Partial, Result},
    event::{DownReason, Event, Gap, GapCause},
    id::{IdScheme, Namespace, Node, NodeId, Offset, RequestId, SessionId, SocketId},
    local::{Delivered, Local, LocalAbilities, Replies, Reply},
    message::{Answer, Heartbeat, Message, Response, Session, SocketInfo},
    payload::Payload,
    room::Room,
    room_index::RoomIndex,
    target::{Flags, Target},
    transport::{Backend, Transport},
};
