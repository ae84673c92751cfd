//! Sharded pub/sub as `@socket.io/redis-adapter` does it (`createShardedAdapter`).

mod interest;
mod names;
mod node;
mod recent_joins;
mod subscriptions;
mod support;
mod transport;

pub(crate) use support::require;
pub(crate) use transport::backend;
