//! The rooms that the broker knows to have members on this node.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use trunkline_core::{ClusterNode, Room};

/// The rooms that have been reported to the broker as having members on this node.
#[derive(Debug, Default)]
pub(crate) struct Interest(Mutex<HashSet<Room>>);

impl Interest {
    /// Adds rooms that an awaited join reports by itself.
    pub(crate) fn joined(&self, rooms: &[Room]) {
        self.lock().extend(rooms.iter().cloned());
    }

    /// Reports the differences to `present`, the rooms that have members now. What fails is tried again the next time.
    pub(crate) async fn update(&self, node: &ClusterNode, present: HashSet<Room>) {
        let (created, deleted) = {
            let reported = self.lock();
            let created: Vec<_> = present.difference(&reported).cloned().collect();
            let deleted: Vec<_> = reported.difference(&present).cloned().collect();
            (created, deleted)
        };
        match node.rooms_created(&created).await {
            Ok(()) => self.lock().extend(created),
            Err(error) => tracing::debug!(%error, "new rooms could not be reported to the broker"),
        }
        match node.rooms_deleted(&deleted).await {
            Ok(()) => self.lock().retain(|room| !deleted.contains(room)),
            Err(error) => tracing::debug!(%error, "empty rooms could not be reported to the broker"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Room>> {
        // The set is valid after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
