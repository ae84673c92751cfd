//! Listening: the task that reads notifications, and the messages of each channel in their order.

mod fetches;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod reader;
mod reassembler;
mod resume;

pub(crate) use self::{
    fetches::RowRef,
    reader::{Command, Reader, listen},
};
