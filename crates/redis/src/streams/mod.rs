//! Streams as `@socket.io/redis-streams-adapter` does it: what has to last goes into a stream, requests and answers
//! over pub/sub.

mod deferred;
mod entry;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod history;
mod lag;
mod names;
mod node;
mod pending;
mod reader;
mod transport;

pub(crate) use transport::backend;
