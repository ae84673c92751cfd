//! The bound on what a node has written into the stream and not read back.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use tokio::{sync::Notify, time::timeout};

/// Holds back the publisher while many own entries have not come back.
#[derive(Debug)]
pub(super) struct ReadLagLimit {
    unread: AtomicUsize,
    limit: usize,
    changed: Notify,
}

/// How long the publisher is held back when nothing comes back any more, because the stream was emptied.
const STALLED: Duration = Duration::from_secs(5);

impl ReadLagLimit {
    /// A part of what the stream keeps, so that several nodes may write at the same time.
    pub(super) fn new(max_len: u64) -> Self {
        let limit = usize::try_from(max_len / 4).unwrap_or(usize::MAX).max(1);
        Self { unread: AtomicUsize::new(0), limit, changed: Notify::new() }
    }

    pub(super) fn written(&self) {
        self.unread.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn returned(&self, count: usize) {
        self.unread.fetch_sub(count, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Waits until more may be written. Returns how many entries.
    pub(super) async fn entries_left(&self) -> usize {
        let below_limit = async {
            loop {
                let changed = self.changed.notified();
                if self.unread.load(Ordering::Relaxed) < self.limit {
                    return;
                }
                changed.await;
            }
        };
        let _ = timeout(STALLED, below_limit).await;
        self.limit.saturating_sub(self.unread.load(Ordering::Relaxed)).max(1)
    }
}
