//! Publishing: encoded messages, the SQL statements that send them, and the task that writes them in order.

mod message;
mod notification;
mod statements;
mod writer;

pub(crate) use self::{
    message::{QueuedMessage, UnnumberedMessage},
    notification::{RowNotification, offset_of},
    writer::{PublishConnection, Writer},
};
