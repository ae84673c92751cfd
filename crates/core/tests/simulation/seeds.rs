//! Running many seeds: on all cores, with progress, and with a shrunk trace if one fails.

use std::{
    collections::BTreeMap,
    ops::Range,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Instant,
};

use crate::{
    checks::Check,
    scenario::Scenario,
    shrink::{run, shrink},
};

/// From this number of seeds on, a run prints its progress and must reach `MIN_PACE`.
const MANY: u64 = 10_000;

/// Minimum number of engine steps a second of a release build, on whatever cores there are.
const MIN_PACE: f64 = 500_000.0;

/// The value of an environment variable.
pub(crate) fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Runs the seeds. Panics with the first one that fails, shrunk as far as possible.
pub(crate) fn check(seeds: Range<u64>) {
    let run = Run::new(seeds);
    let failed = run.on_all_cores();
    let pace = run.report();
    if let Some((seed, check)) = failed.iter().next() {
        let failure = shrink(&Scenario::from_seed(*seed), None, *check);
        panic!("{} of {} seeds failed: {failed:?}\n{failure}", failed.len(), run.len());
    }
    let must_keep_pace = run.len() >= MANY && !cfg!(debug_assertions);
    assert!(!must_keep_pace || pace >= MIN_PACE, "{pace:.0} engine steps a second, at least {MIN_PACE:.0} should be");
}

#[derive(Debug)]
struct Run {
    seeds: Range<u64>,
    next: AtomicU64,
    steps: AtomicU64,
    start: Instant,
}

impl Run {
    fn new(seeds: Range<u64>) -> Self {
        Self { next: AtomicU64::new(seeds.start), seeds, steps: AtomicU64::new(0), start: Instant::now() }
    }

    fn len(&self) -> u64 {
        self.seeds.end - self.seeds.start
    }

    /// Returns the seeds that failed, with the broken promise.
    fn on_all_cores(&self) -> BTreeMap<u64, Check> {
        thread::scope(|scope| {
            let workers: Vec<_> = (0..cores()).map(|_| scope.spawn(|| self.work())).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
        })
    }

    /// Runs seeds until none are left.
    fn work(&self) -> Vec<(u64, Check)> {
        let mut failed = Vec::new();
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds.end {
                return failed;
            }
            match run(&Scenario::from_seed(seed), None) {
                Ok(report) => drop(self.steps.fetch_add(report.steps, Ordering::Relaxed)),
                Err(violation) => failed.push((seed, violation.check)),
            }
            self.tell(seed - self.seeds.start + 1, failed.len());
        }
    }

    /// Prints the progress, ten times in a long run.
    fn tell(&self, done: u64, failed: usize) {
        if self.len() >= MANY && done < self.len() && done.is_multiple_of(self.len() / 10) {
            let seconds = self.start.elapsed().as_secs_f64();
            let failed = if failed > 0 { ", some failed" } else { "" };
            println!("{done} of {} seeds, {seconds:.1} s{failed}", self.len());
        }
    }

    /// Prints the result, and returns the engine steps a second.
    fn report(&self) -> f64 {
        let (steps, seconds) = (self.steps.load(Ordering::Relaxed), self.start.elapsed().as_secs_f64());
        let (pace, cores) = (steps as f64 / seconds, cores());
        println!("{} seeds, {steps} engine steps in {seconds:.1} s on {cores} cores: {pace:.0} a second", self.len());
        pace
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}
