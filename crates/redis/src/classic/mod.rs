//! Pub/sub as `@socket.io/redis-adapter` does it (`createAdapter`).

pub(crate) mod decode;
pub(crate) mod encode;
mod kind;
mod names;
mod node;
mod transport;

pub(crate) use transport::backend;
