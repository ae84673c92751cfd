//! The simulated network.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod acts;
mod chance;
mod checks;
mod clock;
mod names;
mod network;
mod peer;
mod queue;
mod scenario;
mod shrink;
mod steps;
mod tamper;
mod trace;
mod world;

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
    shrink::{Failure, run, shrink},
    tamper::{Fault, Tamper},
    trace::Trace,
    world::World,
};

/// Seeds of the ordinary suite.
const SEEDS: u64 = 200;

#[test]
fn all_promises_hold_for_all_seeds() {
    if let Some(seed) = number("TRUNKLINE_SEED") {
        return check(seed..seed + 1);
    }
    let first = number("TRUNKLINE_FIRST_SEED").unwrap_or(0);
    check(first..first + number("TRUNKLINE_SEEDS").unwrap_or(SEEDS));
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// Runs the seeds on all cores.
fn check(seeds: Range<u64>) {
    let start = Instant::now();
    let next = AtomicU64::new(seeds.start);
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let results: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..cores).map(|_| scope.spawn(|| work(&next, seeds.end))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let steps: u64 = results.iter().map(|(steps, _)| steps).sum();
    let failed: BTreeMap<_, _> = results.into_iter().flat_map(|(_, failed)| failed).collect();
    let (runs, seconds) = (seeds.end - seeds.start, start.elapsed().as_secs_f64());
    println!(
        "{runs} seeds, {steps} engine steps in {seconds:.1} s: {:.0} seeds and {:.0} steps a second on {cores} cores",
        runs as f64 / seconds,
        steps as f64 / seconds
    );
    if let Some((seed, check)) = failed.iter().next() {
        let scenario = Scenario::from_seed(*seed);
        let failure: Failure = shrink(&scenario, None, *check);
        panic!("{} of {runs} seeds failed: {failed:?}\n{failure}", failed.len());
    }
}

/// Takes seeds until there are none left. Returns the steps and what failed.
fn work(next: &AtomicU64, end: u64) -> (u64, Vec<(u64, Check)>) {
    let (mut steps, mut failed) = (0, Vec::new());
    loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= end {
            return (steps, failed);
        }
        match run(&Scenario::from_seed(seed), None) {
            Ok(report) => steps += report.steps,
            Err(violation) => failed.push((seed, violation.check)),
        }
    }
}

/// For each promise there is an engine that breaks it, and the check for that promise notices.
#[test]
fn every_broken_promise_is_noticed() {
    for (fault, check) in [
        (Fault::ServesTwice, Check::AtMostOnce),
        (Fault::ServesLate, Check::Order),
        (Fault::IgnoresNumbers, Check::Gaps),
        (Fault::SeesHoles, Check::Gaps),
        (Fault::Oversleeps, Check::Sleep),
        (Fault::ActsEarly, Check::Sleep),
        (Fault::GuessesAnswers, Check::Premature),
        (Fault::IgnoresAnswers, Check::Stuck),
        (Fault::InventsAnswers, Check::Answers),
        (Fault::KeepsRequests, Check::Bounds),
        (Fault::EndsTwice, Check::Bounds),
        (Fault::IgnoresLeaves, Check::Presence),
        (Fault::Impatient, Check::Presence),
        (Fault::Patient, Check::Silence),
    ] {
        let notices = |seed: &u64| run(&Scenario::from_seed(*seed), Some(fault)).is_err_and(|v| v.check == check);
        assert!((0..100).any(|seed| notices(&seed)), "{fault:?} is not noticed as {check:?}");
    }
}

/// The same seed gives the same outputs, in the same order, whatever the hash functions of the day.
#[test]
fn outputs_are_deterministic() {
    for seed in 0..10 {
        let scenario = Scenario::from_seed(seed);
        let trace = || World::new(&scenario, Tamper::of(None), Trace::on()).run().1.lines;
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

/// What a person gets to see of a failing seed is short.
#[test]
fn a_failing_seed_shrinks_to_a_few_acts() {
    let fault = Some(Fault::ServesTwice);
    let (scenario, check) = (0..100)
        .map(Scenario::from_seed)
        .find_map(|scenario| run(&scenario, fault).err().map(|violation| (scenario, violation.check)))
        .expect("some seed serves a message");
    let failure = shrink(&scenario, fault, check);
    assert_eq!(failure.violation.check, check);
    assert!(failure.scenario.acts.len() < 10, "{failure}");
    assert!(failure.to_string().contains(&format!("TRUNKLINE_SEED={}", scenario.seed)));
}
