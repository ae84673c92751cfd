//! One node of a cluster: the handle that servers call, the task that drives it, and the emitter for processes that are
//! no nodes.

mod acks;
mod adapter;
mod command;
mod condition;
mod config;
mod driver;
mod emitter;
mod handle;
mod history;
mod interest;
mod outage;
mod outgoing;
mod parts;
mod position;
mod probe;
mod requests;
mod returning;
mod sessions;

pub use self::{acks::AckStream, adapter::Adapter, config::NodeConfig, emitter::Emitter, handle::ClusterNode};

/// Name of the server-side event by which nodes are asked for version, health, metrics and settings, as the program
/// `trunkline` does. Nodes answer it themselves if an answer is wanted; their servers do not see it.
pub const STATUS_EVENT: &str = "trunkline:status";
