//! Stepping aside for a broker that runs on this machine.
//!
//! Whoever has published a message goes on to serve the sockets of its own node. A broker that shares the processors with it, and the nodes
//! behind that broker, would wait for them meanwhile, longer than the own sockets wait if it is the other way round. So a lone message is
//! passed on before. Nobody waits for that behind a batch, or longer than moments.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Who publishes again sooner than this goes on: what it publishes meanwhile forms a batch.
const QUIET: Duration = Duration::from_micros(200);

/// How long the broker may take. A timer counts whole milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_millis(1);

/// Whoever was away longer than this had to do with somebody else than the broker, or with one that does not answer.
const LONG: Duration = Duration::from_micros(900);

/// How long nobody steps aside after that; doubled each time that it is repeated.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// When to step aside.
#[derive(Debug, Default)]
pub(crate) struct Courtesy(Mutex<Experience>);

#[derive(Debug, Default)]
struct Experience {
    /// When a message was published last.
    last: Option<Instant>,
    /// Not before.
    resumes: Option<Instant>,
    pause: Duration,
}

impl Courtesy {
    /// A message was published. Whether to step aside for it.
    pub(crate) fn is_due(&self) -> bool {
        self.experience().is_due(Instant::now())
    }

    /// Somebody has stepped aside for so long.
    pub(crate) fn taken(&self, time: Duration) {
        self.experience().taken(Instant::now(), time);
    }

    fn experience(&self) -> MutexGuard<'_, Experience> {
        // Valid after each step.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Experience {
    fn is_due(&mut self, now: Instant) -> bool {
        let last = self.last.replace(now);
        let is_quiet = last.is_none_or(|last| now.saturating_duration_since(last) >= QUIET);
        is_quiet && self.resumes.is_none_or(|resumes| resumes <= now)
    }

    fn taken(&mut self, now: Instant, time: Duration) {
        if time <= LONG {
            self.pause = Duration::ZERO;
            return;
        }
        self.pause = (self.pause * 2).clamp(FIRST_PAUSE, MAX_PAUSE);
        self.resumes = Some(now + self.pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn who_publishes_again_at_once_goes_on() {
        let (mut experience, mut now) = (Experience::default(), Instant::now());
        assert!(experience.is_due(now));
        for _ in 0..10 {
            now += QUIET - Duration::from_nanos(1);
            assert!(!experience.is_due(now));
        }
        now += QUIET;
        assert!(experience.is_due(now));
    }

    #[test]
    fn who_was_away_for_long_steps_aside_ever_more_seldom() {
        let (mut experience, mut now) = (Experience::default(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(experience.is_due(now));
            experience.taken(now, LONG + QUIET);
            let before = now;
            now += FIRST_PAUSE;
            while !experience.is_due(now) {
                now += FIRST_PAUSE;
            }
            pauses.push((now - before).as_millis());
            now += SECOND;
        }
        assert_eq!(pauses, [100, 200, 400, 800, 1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        experience.taken(now, LONG);
        assert!(experience.is_due(now + SECOND), "it took moments only");
        experience.taken(now, LONG + QUIET);
        assert!(!experience.is_due(now + FIRST_PAUSE / 2));
        assert!(experience.is_due(now + FIRST_PAUSE));
    }
}
