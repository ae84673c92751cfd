//! Sessions and replay: what clients missed while they were away.

use std::sync::Arc;

use super::ClusterNode;
use crate::{
    error::{Error, ErrorKind, Result},
    model::{HistoryKind, HistoryOutcome, Offset, Room, Session, SessionId},
    transport::{History, MissedBroadcast, RestoredSession},
};

impl ClusterNode {
    /// Keeps the session of a client that may come back.
    ///
    /// # Errors
    /// `Unsupported` without history.
    pub async fn persist_session(&self, session: Session) -> Result<()> {
        self.check_open()?;
        let result = self.history()?.persist(&self.shared.node, session).await;
        let outcome = result.as_ref().map_or_else(HistoryOutcome::of, |()| HistoryOutcome::Complete);
        self.shared.metrics.exported.history(HistoryKind::Persist, outcome, 0);
        result
    }

    /// Takes a session, once, with what it missed since `since`; `None` if it is unknown or expired.
    ///
    /// # Errors
    /// `Unsupported` without history, `HistoryLost` if the history no longer reaches back that far.
    pub async fn restore_session(&self, id: SessionId, since: Offset) -> Result<Option<RestoredSession>> {
        self.check_open()?;
        let result = self.history()?.restore(&self.shared.node, &id, &since).await;
        let (outcome, replayed) = match &result {
            Ok(Some(restored)) => (HistoryOutcome::Complete, restored.missed.len()),
            Ok(None) => (HistoryOutcome::Unknown, 0),
            Err(error) => (HistoryOutcome::of(error), 0),
        };
        self.shared.metrics.exported.history(HistoryKind::Restore, outcome, replayed);
        result
    }

    /// What was broadcast after `since` to all or to any of `rooms`, in order.
    ///
    /// # Errors
    /// As [`ClusterNode::restore_session`].
    pub async fn replay(&self, since: Offset, rooms: &[Room]) -> Result<Vec<MissedBroadcast>> {
        self.check_open()?;
        let result = self.history()?.replay(&self.shared.node, &since, rooms).await;
        let (outcome, replayed) = match &result {
            Ok(missed) => (HistoryOutcome::Complete, missed.len()),
            Err(error) => (HistoryOutcome::of(error), 0),
        };
        self.shared.metrics.exported.history(HistoryKind::Replay, outcome, replayed);
        result
    }

    pub(super) fn history(&self) -> Result<&Arc<dyn History>> {
        let history = self.shared.backend.history.as_ref();
        history
            .ok_or_else(|| Error::new(ErrorKind::Unsupported, "this backend keeps no history, or it is switched off"))
    }
}
