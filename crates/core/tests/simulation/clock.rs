//! Local time of one node.

use std::time::{Duration, Instant};

use crate::scenario::Micros;

/// A clock with a skew, which runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// Local time when the simulation begins.
    skew: Micros,
    /// Local microseconds per thousand of simulated time.
    rate: u64,
}

impl Clock {
    pub(crate) fn new(skew: Micros, rate: u64) -> Self {
        Self { skew, rate }
    }

    /// Local time at a simulated time.
    pub(crate) fn local(self, now: Micros) -> Micros {
        self.skew + now * self.rate / 1000
    }

    /// The simulated time from which the clock shows at least `local`.
    pub(crate) fn when(self, local: Micros) -> Micros {
        (local.saturating_sub(self.skew) * 1000).div_ceil(self.rate)
    }
}

/// Converts between local time and the `Instant`s that engines take, which have no origin of their own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Instant);

impl Origin {
    pub(crate) fn new() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn instant(self, local: Micros) -> Instant {
        self.0 + Duration::from_micros(local)
    }

    pub(crate) fn local(self, instant: Instant) -> Micros {
        u64::try_from((instant - self.0).as_micros()).unwrap()
    }
}
