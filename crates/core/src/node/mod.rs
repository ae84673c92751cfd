//! One node of a cluster: the handle that servers call, the task that drives it, and the emitter for processes that are no nodes.

mod adapter;
mod command;
mod config;
mod driver;
mod emitter;
mod guards;
mod handle;
mod outgoing;
mod requests;

pub use self::{
    adapter::{AckStream, Adapter},
    config::NodeConfig,
    emitter::Emitter,
    handle::ClusterNode,
};
