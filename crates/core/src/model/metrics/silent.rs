//! Stands for `exported.rs` without the feature `metrics`: nothing is exported, and nothing is done.

use std::time::Duration;

use super::{
    DisconnectReason, HistoryKind, HistoryOutcome, Levels, MessageKind, RequestKind, RequestOutcome, ServerLevels,
};
use crate::model::GapCause;

#[derive(Debug, Default)]
pub(super) struct Handle;

impl Handle {
    pub(super) fn give(&self, _: u64) {}
}

#[derive(Debug, Default)]
pub(crate) struct Exported;

impl Exported {
    pub(super) fn new(_: &'static str, _: &str) -> Self {
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

    pub(crate) fn history(&self, _: HistoryKind, _: HistoryOutcome, _: usize) {}

    pub(super) fn give_traffic(&self) {}

    pub(super) fn server(&self) -> Server {
        Server
    }

    pub(crate) fn echo(&self, _: Duration) {}

    pub(crate) fn levels(&self, _: &Levels) {}

    pub(crate) fn history_reach(&self, _: Duration) {}
}

#[derive(Debug, Default)]
pub(super) struct Server;

impl Server {
    pub(super) fn is_exported(&self) -> bool {
        false
    }

    pub(super) fn connected(&self) {}

    pub(super) fn disconnected(&self, _: DisconnectReason) {}

    pub(super) fn levels(&self, _: &ServerLevels) {}
}
