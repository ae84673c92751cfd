//! Building blocks of the cases, and of tests of your own clusters: [`TestCluster`], [`TestNode`], [`TestSocket`],
//! [`TestEmitter`], [`Recorder`] and [`Marker`].
//!
//! Imports go one way, from the bottom of this list up: values that are compared and waited for (`failure`, `watched`,
//! `marker`), clients and servers (`recorder`, `client`, `server`, `observer`), the nodes of a cluster and waiting for
//! their deliveries (`node_list`, `settle`), one node and one emitter (`node`, `emitter`), a cluster (`context`,
//! `builder`, `cluster`).

mod abilities;
mod builder;
mod client;
mod cluster;
mod context;
mod emitter;
mod eventually;
mod failure;
mod marker;
mod node;
mod node_list;
mod observer;
mod process;
mod recorder;
mod server;
mod settle;
mod setup;
pub mod values;
mod watched;

pub use self::{
    abilities::Abilities,
    builder::NodeBuilder,
    client::{Acknowledge, Client, ClientSpec, TestSocket},
    cluster::TestCluster,
    emitter::TestEmitter,
    eventually::eventually,
    failure::{Checked, Failure, check, check_eq},
    marker::Marker,
    node::TestNode,
    observer::ServerSideEvent,
    recorder::{Packet, Recorder},
    server::{RoomServer, Server, ServerAbilities},
    setup::Setup,
};
