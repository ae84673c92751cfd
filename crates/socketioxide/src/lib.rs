#![doc = include_str!("../README.md")]

mod ack;
mod adapter;
mod backlog;
mod cluster;
mod convert;
mod delivery;
mod details;
mod dynamic;
mod error;
mod handle;
mod handlers;
mod handshake;
mod identity;
mod init;
mod interest;
mod local;
mod maintenance;
mod marks;
mod members;
mod metrics;
mod namespace;
mod own_rooms;
mod partial;
mod patterns;
mod probes;
mod recovery;
mod rooms;
mod target;
mod tasks;

pub use crate::{
    ack::ClusterAckStream,
    adapter::{ClusterIo, ClusterSocket, Trunkline},
    backlog::BacklogLimits,
    cluster::{Cluster, ClusterBuilder},
    error::SocketIoError,
    handle::NamespaceHandle,
    handlers::{ServerSideAnswer, ServerSideEvent},
    handshake::Handshake,
    identity::{remote_id, remote_socket},
    init::InitRes,
    partial::PartialAnswers,
    rooms::AwaitedRooms,
};
pub use trunkline_core as core;
pub use trunkline_core::{
    Ack, AckStream, Backend, Capabilities, ClusterNode, DownReason, Emitter, Error, ErrorKind, Event, Gap, GapCause,
    Incomplete, MetricsSnapshot, Namespace, NodeConfig, NodeId, NodeKey, Offset, Payload, Probe, RequestError, Result,
    Room, Session, SessionId, SocketId, SocketInfo, Target,
    transport::{Health, MissedBroadcast, RestoredSession},
};
