//! Streams as `@socket.io/redis-streams-adapter` does it: what has to last goes into a stream, requests and answers over pub/sub.

mod entry;
mod history;
mod names;
mod pubsub;
mod seat;
mod tail;
mod transport;
mod unread;

pub(crate) use transport::backend;
