//! Waiting for what nobody announces.

use std::{future::Future, panic::Location, time::Duration};

use tokio::time::timeout;

use super::failure::{Checked, Failure};

/// How often it is looked.
const POLL: Duration = Duration::from_millis(10);

/// Waits until something holds that can only be looked at: a broker's own count, a counter, tasks that end. What can be waited for by a
/// marker or an event should be.
///
/// # Errors
/// When it does not hold within `patience`, with `what`.
#[track_caller]
pub fn eventually<W: Future<Output = bool>>(
    patience: Duration,
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
        let late = |_| Failure::at(at, format!("{} after {patience:?}", what()));
        timeout(patience, holds).await.map_err(late)
    }
}
