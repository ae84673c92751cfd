//! What the cases are made of, and what tests of your own clusters can be made of: [`TestCluster`], [`TestNode`], [`TestSocket`],
//! [`TestEmitter`], [`Recorder`] and [`Marker`].

mod cluster;
mod emitter;
mod eventually;
mod failure;
mod marker;
mod node;
mod observer;
mod process;
mod recorder;
mod server;
mod socket;
pub mod values;
mod watchable;

pub use self::{
    cluster::{NodeBuilder, TestCluster},
    emitter::TestEmitter,
    eventually::eventually,
    failure::{Checked, Failure, check, check_eq},
    marker::Marker,
    node::TestNode,
    observer::ServerSideEvent,
    recorder::{Packet, Recorder},
    server::{Acknowledge, RoomServer, Server},
    socket::{Client, TestSocket, Visitor},
};
