//! The current connection of a transport, which its tasks follow.

use std::{future::pending, sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

/// The current connection; `None` while there is none. The task that connects holds this sender, every task that uses
/// the connection a receiver.
pub type CurrentConnection<C> = watch::Sender<Option<Arc<C>>>;

/// Waits for a connection that has not ended, beginning with the current one. `None` if there will be none. *Cancel
/// safe.*
pub async fn next_live<C>(
    line: &mut watch::Receiver<Option<Arc<C>>>,
    has_ended: impl Fn(&C) -> bool,
) -> Option<Arc<C>> {
    loop {
        if let Some(connection) = line.borrow_and_update().clone().filter(|connection| !has_ended(connection)) {
            return Some(connection);
        }
        line.changed().await.ok()?;
    }
}

/// Waits until there is another connection than `current`, or none. *Cancel safe.*
pub async fn until_replaced<C>(line: &mut watch::Receiver<Option<Arc<C>>>, current: &Arc<C>) {
    let is_other =
        |next_live: &Option<Arc<C>>| next_live.as_ref().is_none_or(|next_live| !Arc::ptr_eq(next_live, current));
    if line.wait_for(is_other).await.is_err() {
        pending::<()>().await;
    }
}

/// How long a connection that is probed at this interval may bring nothing before it counts as lost: half as long again,
/// and one second more at least. By default 7.5 s: before peers count as silent, who cannot be heard over it.
#[must_use]
pub fn silence_limit(ping_interval: Duration) -> Duration {
    (ping_interval * 3 / 2).max(ping_interval + Duration::from_secs(1))
}

/// Returns when nothing was heard for `limit`, or a bit less: looks at times whether something `was_heard` since it
/// looked before. A limit of silence and not of time: what is large may take as long as it likes.
pub async fn until_silent(limit: Duration, mut was_heard: impl FnMut() -> bool) {
    /// The silent ones of these are counted, and there may be another one in which the last sign of life came.
    const LOOKS: u32 = 4;
    let mut silent = 0;
    while silent < LOOKS - 1 {
        sleep(limit / LOOKS).await;
        silent = if was_heard() { 0 } else { silent + 1 };
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_for_about_the_limit_counts() {
        let (start, mut signs) = (Instant::now(), 100);
        until_silent(Duration::from_secs(8), || {
            signs -= i32::from(signs > 0);
            signs > 0
        })
        .await;
        assert_eq!(start.elapsed(), Duration::from_secs(99 * 2 + 6));
        assert_eq!(silence_limit(Duration::from_secs(5)), Duration::from_millis(7500));
    }

    #[tokio::test]
    async fn a_connection_that_has_ended_is_not_waited_for_twice() {
        let line = CurrentConnection::default();
        let mut receiver = line.subscribe();
        line.send_replace(Some(Arc::new(1)));
        let waiting = tokio::spawn(async move { next_live(&mut receiver, |number| *number == 1).await });
        tokio::task::yield_now().await;
        line.send_replace(Some(Arc::new(2)));
        assert_eq!(waiting.await.unwrap(), Some(Arc::new(2)));
        let mut receiver = line.subscribe();
        drop(line);
        assert_eq!(next_live(&mut receiver, |_| true).await, None);
    }

    #[tokio::test]
    async fn a_connection_is_replaced_by_another_one_or_by_none() {
        let line = CurrentConnection::default();
        let mut receiver = line.subscribe();
        for next in [Some(Arc::new(1)), None] {
            let current = Arc::new(1);
            line.send_replace(Some(Arc::clone(&current)));
            line.send_replace(next);
            until_replaced(&mut receiver, &current).await;
        }
    }
}
