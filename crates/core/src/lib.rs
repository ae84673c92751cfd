#![doc = include_str!("../README.md")]

pub mod codec;
pub mod engine;
pub mod error;
// Only for the fuzz targets, which are another crate.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod memory;
pub mod model;
pub mod node;
pub mod payload;
pub mod server;
pub mod trace;
pub mod transport;

pub use crate::{
    error::{Error, ErrorKind, Result},
    model::{
        Ack, AckCounts, Answer, Capabilities, DownReason, Event, Flags, Gap, GapCause, Heartbeat, IdScheme, Incomplete,
        Membership, Message, MetricsSnapshot, Namespace, NodeId, NodeKey, NodeMetrics, Offset, Probe, RequestError,
        RequestId, Response, Room, Session, SessionId, SocketId, SocketInfo, Target,
    },
    node::{AckStream, Adapter, ClusterNode, Emitter, NodeConfig},
    payload::Payload,
    server::{AckSink, DeliveryReport, EventReply, Local, RoomIndex},
    transport::{Backend, Transport},
};
