//! Stands for `exported.rs` without the feature `metrics`: nothing is exported, and nothing is done.

use std::time::Duration;

use super::{Levels, MessageKind, RequestKind, RequestOutcome};
use crate::model::{GapCause, Namespace};

#[derive(Debug, Default)]
pub(super) struct Handle;

impl Handle {
    pub(super) fn add(&self, _: u64) {}
}

#[derive(Debug, Default)]
pub(crate) struct Exported;

impl Exported {
    pub(super) fn new(_: &'static str, _: &Namespace) -> Self {
        Self
    }

    pub(super) fn counter(&self, _: Option<&'static str>, _: &[(&'static str, &'static str)]) -> Handle {
        Handle
    }

    pub(crate) fn wants_levels(&self) -> bool {
        false
    }

    pub(crate) fn published(&self, _: MessageKind, _: impl FnOnce() -> usize) {}

    pub(crate) fn received(&self, _: MessageKind, _: impl FnOnce() -> usize) {}

    pub(crate) fn requested(&self, _: RequestKind, _: RequestOutcome, _: Duration) {}

    pub(crate) fn gap(&self, _: GapCause) {}

    pub(crate) fn echo(&self, _: Duration) {}

    pub(crate) fn levels(&self, _: &Levels) {}
}
