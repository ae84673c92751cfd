//! Pauses between attempts to reconnect.

use std::time::Duration;

/// Exponential back-off with jitter: nodes that lost the same broker do not come back in lock-step.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// Back-off whose pauses grow from about `first` to about `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// Next pause: random, between half of the current step and all of it.
    pub fn next_pause(&mut self) -> Duration {
        let step = self.first.saturating_mul(1 << self.attempts.min(16)).min(self.longest);
        self.attempts = self.attempts.saturating_add(1);
        step.mul_f64(0.5 + fastrand::f64() / 2.0)
    }

    /// Begins again with the first pause, because the connection is established.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Number of pauses taken since the last reset.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

impl Default for Backoff {
    /// Pauses from 50 ms to 5 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(50), Duration::from_secs(5))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let pauses: Vec<_> = (0..40).map(|_| backoff.next_pause()).collect();
        assert!((50..=100).contains(&pauses[0].as_millis()));
        assert!((400..=800).contains(&pauses[3].as_millis()));
        assert!(pauses[10..].iter().all(|pause| (500..=1000).contains(&pause.as_millis())));
        backoff.reset();
        assert!(backoff.next_pause() <= Duration::from_millis(100));
    }

    #[test]
    fn two_nodes_do_not_pause_alike() {
        let pauses = || {
            let mut backoff = Backoff::default();
            (0..8).map(|_| backoff.next_pause()).collect::<Vec<_>>()
        };
        assert_ne!(pauses(), pauses());
    }
}
