//! Time as one node sees it.

use std::time::{Duration, Instant};

use crate::scenario::Micros;

/// A clock that is set differently from others and runs a little fast or slow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// What it shows when the simulation begins.
    skew: Micros,
    /// Its microseconds per thousand true ones.
    rate: u64,
}

impl Clock {
    pub(crate) fn new(skew: Micros, rate: u64) -> Self {
        Self { skew, rate }
    }

    /// What the clock shows.
    pub(crate) fn local(self, now: Micros) -> Micros {
        self.skew + now * self.rate / 1000
    }

    /// When the clock will show at least `local`.
    pub(crate) fn when(self, local: Micros) -> Micros {
        (local.saturating_sub(self.skew) * 1000).div_ceil(self.rate)
    }
}

/// Between simulated local time and what engines take. `Instant` has no origin of its own.
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
