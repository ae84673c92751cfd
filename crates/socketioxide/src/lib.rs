#![doc = include_str!("../README.md")]

mod ack;
mod adapter;
mod cluster;
mod convert;
mod delivery;
mod error;
mod handle;
mod handlers;
mod handshake;
mod identity;
mod init;
mod keeper;
mod lanes;
mod local;
mod recovery;
mod rooms;
mod sockets;
mod tasks;

pub use crate::{
    ack::ClusterAckStream,
    adapter::Trunkline,
    cluster::{Cluster, ClusterBuilder},
    error::Error,
    handle::Handle,
    handlers::{ServerSideAnswer, ServerSideEvent},
    handshake::Handshake,
    identity::{remote_id, remote_socket},
    init::InitRes,
    lanes::BacklogLimits,
    rooms::AwaitedRooms,
};
