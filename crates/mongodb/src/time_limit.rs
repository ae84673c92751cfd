//! A limit of time that a slow connection cannot exceed for ever.

use std::time::Duration;

use tokio::time::timeout;

/// How long an operation may take. The driver does not say that a large answer, or a large message, makes progress:
/// what took too long gets twice the time when it is tried again, until it succeeds.
#[derive(Debug)]
pub(crate) struct TimeLimit {
    limit: Duration,
    factor: u32,
}

/// A document of 16 MiB within five seconds takes 27 Mbit/s; so much less is enough.
const MAX_FACTOR: u32 = 64;

impl TimeLimit {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, factor: 1 }
    }

    /// Runs an operation. An error says after which time it was given up.
    pub(crate) async fn run<T>(&mut self, operation: impl Future<Output = T>) -> Result<T, Duration> {
        let limit = self.limit * self.factor;
        let done = timeout(limit, operation).await.map_err(|_| limit);
        self.factor = if done.is_ok() { 1 } else { (self.factor * 2).min(MAX_FACTOR) };
        done
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_took_too_long_gets_twice_the_time_until_it_succeeds() {
        let mut limit = TimeLimit::new(Duration::from_secs(5));
        let mut run = async |seconds| limit.run(sleep(Duration::from_secs(seconds))).await;
        for given_up in [5, 10, 20] {
            assert_eq!(run(30).await, Err(Duration::from_secs(given_up)));
        }
        assert_eq!(run(30).await, Ok(()));
        assert_eq!(run(30).await, Err(Duration::from_secs(5)));
    }
}
