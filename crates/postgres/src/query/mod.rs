//! Queries: the connection for them, rows of messages, sessions and replay, and the deletion of old rows.

mod connection;
mod history;
pub(crate) mod maintenance;
pub(crate) mod rows;

pub(crate) use self::{
    connection::{QueryHandle, Values, keep_open},
    history::PgHistory,
};
