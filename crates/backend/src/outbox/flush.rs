//! Waiting until what was queued is with the broker.

use tokio::time::timeout;
use trunkline_core::error::{Error, ErrorKind, Result};

use super::Outbox;

impl<T> Outbox<T> {
    /// Whether nothing waits, and nothing is on its way unconfirmed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.lock().bytes == 0
    }

    /// Waits until [`Outbox::is_idle`] holds. *Cancel safe.*
    pub async fn idle(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.is_idle() {
                return;
            }
            emptied.await;
        }
    }

    /// Waits until everything that is queued now has been released, whatever is queued meanwhile. A transport waits for
    /// it when a node leaves, so that the announcement of the leave is with the broker then. *Cancel safe.*
    pub async fn flushed(&self) {
        self.released_to(self.end()).await;
    }

    /// As [`Outbox::flushed`], as long as something is released every now and then. *Cancel safe.*
    ///
    /// # Errors
    /// `Disconnected` or `Timeout` if nothing is released for [`push_timeout`](super::OutboxLimits::push_timeout).
    pub async fn flush(&self) -> Result<()> {
        let end = self.end();
        loop {
            let released = self.lock().released;
            if released >= end {
                return Ok(());
            }
            if timeout(self.limits.push_timeout, self.released_to(released + 1)).await.is_err() {
                return Err(self.stuck());
            }
        }
    }

    /// What will have been released when all that is queued now is.
    fn end(&self) -> u64 {
        let state = self.lock();
        state.released + state.bytes as u64
    }

    async fn released_to(&self, end: u64) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().released >= end {
                return;
            }
            emptied.await;
        }
    }

    fn stuck(&self) -> Error {
        let state = self.lock();
        let (kind, away) = match state.connected {
            true => (ErrorKind::Timeout, ""),
            false => (ErrorKind::Disconnected, ": the broker is away"),
        };
        let (messages, bytes, waited) = (state.items.len(), state.bytes, self.limits.push_timeout);
        let wait = if messages == 1 { "message waits" } else { "messages wait" };
        let context = format!("{messages} {wait} and {bytes} bytes are unconfirmed after {waited:?}{away}");
        Error::new(kind, context)
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use tokio::time::advance;

    use super::*;
    use crate::outbox::tests::outbox;

    #[tokio::test]
    async fn it_is_idle_once_everything_is_released() {
        let outbox = outbox(10);
        outbox.idle().await;
        outbox.push(2, |_| 1).await.unwrap();
        outbox.push(3, |_| 2).await.unwrap();
        let idle = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.idle().await }
        });
        let mut batch = Vec::new();
        tokio::task::yield_now().await;
        assert_eq!(outbox.take(&mut batch, usize::MAX).await, Some(5));
        for bytes in [2, 3] {
            assert!(!idle.is_finished());
            outbox.release(bytes);
            tokio::task::yield_now().await;
        }
        timeout(Duration::from_secs(10), idle).await.expect("it is idle").unwrap();
    }

    #[tokio::test]
    async fn it_is_flushed_once_what_was_queued_before_is_released() {
        let outbox = outbox(10);
        outbox.flushed().await;
        let mut batch = Vec::new();
        outbox.push(2, |_| 1).await.unwrap();
        assert_eq!(outbox.take(&mut batch, usize::MAX).await, Some(2));
        outbox.push(3, |_| 2).await.unwrap();
        let flushed = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.flushed().await }
        });
        tokio::task::yield_now().await;
        outbox.push(4, |_| 3).await.unwrap();
        for bytes in [2, 3] {
            assert!(!flushed.is_finished());
            outbox.release(bytes);
            tokio::task::yield_now().await;
        }
        timeout(Duration::from_secs(10), flushed).await.expect("the later message is not waited for").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_ends_with_an_error_when_nothing_is_released() {
        let outbox = outbox(10);
        outbox.flush().await.unwrap();
        outbox.push(2, |_| 1).await.unwrap();
        outbox.push(3, |_| 2).await.unwrap();
        let error = outbox.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        outbox.set_connected(false);
        let error = outbox.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert!(error.to_string().contains("2 messages wait and 5 bytes"), "{error}");
        // As long as something is released it waits.
        let flushed = tokio::spawn({
            let outbox = Arc::clone(&outbox);
            async move { outbox.flush().await }
        });
        let mut batch = Vec::new();
        outbox.take(&mut batch, usize::MAX).await;
        tokio::task::yield_now().await;
        for bytes in [2, 3] {
            advance(Duration::from_millis(700)).await;
            outbox.release(bytes);
            tokio::task::yield_now().await;
        }
        flushed.await.unwrap().unwrap();
    }
}
