//! The simulated network: N engines with latency, loss, duplication, reorder, partitions, crashes, pauses, lost connections and clock skew.
//! Everything follows from a seed; the promises ([`checks::Check`]) are checked at every step.
//!
//! `just simulate` tries many seeds. A seed that fails is cut down to a trace that a person can read, and printed with the command that
//! repeats it. Environment: `TRUNKLINE_SEED` runs one seed, `TRUNKLINE_SEEDS` so many, `TRUNKLINE_FIRST_SEED` from that one on,
//! `TRUNKLINE_LINES` shows so many lines of a trace.

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
mod seeds;
mod shrink;
mod steps;
mod tamper;
mod trace;
mod world;

use std::collections::HashSet;

use crate::{
    checks::Check,
    scenario::{Act, Scenario},
    seeds::number,
    shrink::{run, shrink},
    tamper::{Fault, Tamper},
    trace::Trace,
    world::World,
};

/// Seeds of the ordinary suite; `just simulate` tries more.
const SEEDS: u64 = 200;

#[test]
fn all_promises_hold_for_all_seeds() {
    if let Some(seed) = number("TRUNKLINE_SEED") {
        return seeds::check(seed..seed + 1);
    }
    let first = number("TRUNKLINE_FIRST_SEED").unwrap_or(0);
    seeds::check(first..first + number("TRUNKLINE_SEEDS").unwrap_or(SEEDS));
}

/// For each promise there are engines that break it, and the check for that promise notices.
#[test]
fn every_broken_promise_is_noticed() {
    let broken = [
        (Fault::ServesTwice, Check::AtMostOnce),
        (Fault::ServesLate, Check::Order),
        (Fault::IgnoresNumbers, Check::Gaps),
        (Fault::SeesHoles, Check::Gaps),
        (Fault::GivesUp, Check::Deadline),
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
        (Fault::Mute, Check::Heartbeats),
        (Fault::IgnoresOne, Check::Convergence),
    ];
    for (fault, check) in broken {
        let notices = |seed: &u64| run(&Scenario::from_seed(*seed), Some(fault)).is_err_and(|v| v.check == check);
        assert!((0..100).any(|seed| notices(&seed)), "{fault:?} is not noticed as {check:?}");
    }
    let checks: HashSet<_> = broken.into_iter().map(|(_, check)| check).collect();
    assert_eq!(checks, HashSet::from(Check::ALL));
}

/// What can go wrong does, among the seeds of the ordinary suite.
#[test]
fn the_ordinary_seeds_meet_every_fault() {
    let met = |what: fn(&Scenario) -> bool| (0..SEEDS).filter(|seed| what(&Scenario::from_seed(*seed))).count();
    let befalls = |what: fn(&Act) -> bool| {
        (0..SEEDS).filter(|seed| Scenario::from_seed(*seed).acts.iter().any(|(_, act)| what(act))).count()
    };
    for (fault, seeds) in [
        ("latency", met(|scenario| scenario.faults.jitter > 0)),
        ("loss", met(|scenario| scenario.faults.loss > 0)),
        ("duplication", met(|scenario| scenario.faults.duplication > 0)),
        ("reorder", met(|scenario| scenario.faults.reorder > 0)),
        ("clock skew", met(|scenario| scenario.faults.drift)),
        ("partitions", befalls(|act| matches!(act, Act::Partition { .. }))),
        ("crashes", befalls(|act| matches!(act, Act::Crash { .. }))),
        ("pauses", befalls(|act| matches!(act, Act::Freeze { .. }))),
        ("lost connections", befalls(|act| matches!(act, Act::Cut { .. }))),
    ] {
        assert!(seeds >= 10, "{fault}: {seeds} seeds");
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
