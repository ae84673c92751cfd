//! Sharded pub/sub as `@socket.io/redis-adapter` does it (`createShardedAdapter`).

mod fresh;
mod names;
mod rooms;
mod seat;
mod shared;
mod support;
mod transport;

pub(crate) use support::require;
pub(crate) use transport::backend;
