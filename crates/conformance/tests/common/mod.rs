//! Shared by the test files.

pub(crate) mod limited;
