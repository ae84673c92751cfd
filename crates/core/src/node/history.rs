//! Replay: what clients missed while they were away.

use std::sync::Arc;

use super::ClusterNode;
use crate::{
    error::{Error, ErrorKind, Result},
    model::{HistoryKind, HistoryOutcome, Offset, Room},
    transport::{History, MissedBroadcast},
};

impl ClusterNode {
    /// What was broadcast after `since` to all or to any of `rooms`, in order.
    ///
    /// # Errors
    /// As [`ClusterNode::restore_session`].
    pub async fn replay(&self, since: Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.check_open()?;
        let result = self.history()?.replay(&self.shared.node, &since, rooms).await;
        self.note_history(HistoryKind::Replay, &result, |missed| (HistoryOutcome::Complete, missed.len()));
        result
    }

    /// Counts what was done with the history; `outcome` tells what came of a success, and how many broadcasts it brought.
    pub(super) fn note_history<T>(
        &self,
        kind: HistoryKind,
        result: &Result<T>,
        outcome: impl FnOnce(&T) -> (HistoryOutcome, usize),
    ) {
        let (outcome, replayed) = result.as_ref().map_or_else(|error| (HistoryOutcome::of(error), 0), outcome);
        self.shared.metrics.exported.history(kind, outcome, replayed);
    }

    pub(super) fn history(&self) -> Result<&Arc<dyn History>> {
        let history = self.shared.backend.history.as_ref();
        history
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend keeps no history, or it is switched off"))
    }
}
