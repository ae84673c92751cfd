//! Waiting by polling.

use std::{future::Future, panic::Location, time::Duration};

use tokio::time::timeout;

use super::failure::{Checked, Failure};

/// Interval at which the condition is checked.
const POLL: Duration = Duration::from_millis(10);

/// Polls `condition` until it holds. For state without a notification: a broker's own count, a metric, tasks that end.
/// Where a marker or an event tells, wait for that instead.
///
/// # Errors
/// If it does not hold within `limit`; the text is that of `what`.
#[track_caller]
pub fn eventually<W: Future<Output = bool>>(
    limit: Duration,
    what: impl FnOnce() -> String,
    condition: impl Fn() -> W,
) -> impl Future<Output = Checked> {
    let at = Location::caller();
    async move {
        let holds = async {
            while !condition().await {
                tokio::time::sleep(POLL).await;
            }
        };
        let late = |_| Failure::at(at, format!("{} after {limit:?}", what()));
        timeout(limit, holds).await.map_err(late)
    }
}
