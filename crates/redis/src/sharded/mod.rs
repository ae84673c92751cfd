//! Sharded pub/sub as `@socket.io/redis-adapter` does it (`createShardedAdapter`).

mod names;
mod node;
mod support;
mod transport;

pub(crate) use support::{require, require_patterns};
pub(crate) use transport::backend;
