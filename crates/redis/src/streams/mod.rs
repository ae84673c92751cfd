//! Streams as `@socket.io/redis-streams-adapter` does it: what has to last goes into a stream, requests and answers over pub/sub.

mod entry;
mod history;
mod lag;
mod names;
mod node;
mod reader;
mod transport;
mod pending;

pub(crate) use transport::backend;
