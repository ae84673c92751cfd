//! Publishing: from the outbox over one connection per server.
//!
//! Everything that is queued is written in one go. Two batches may be under way on a connection: a lone message leaves
//! at once, also behind another one, and while two are under way the next batch grows. In a cluster each node that is
//! written to has a task and a queue of its own, so that a node that is down holds up only what is for it. What was
//! under way when a connection broke is written again: whether it arrived cannot be known, and our own nodes drop
//! repeats by their numbers.

mod connection;
mod observer;
mod publication;
mod router;

pub(crate) use self::{
    observer::PublishObserver,
    publication::{Command, Publication},
    router::Publisher,
};
