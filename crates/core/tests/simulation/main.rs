//! The simulated network: N engines with latency, loss, duplication, reorder, partitions, crashes, pauses, lost
//! connections and clock skew. Everything follows from a seed; the promises ([`checks::Check`]) are checked at every
//! step.
//!
//! `just simulate` runs many seeds. A seed that fails is shrunk to a short trace, and printed with the command that
//! repeats it. Environment: `TRUNKLINE_SEED` selects one seed, `TRUNKLINE_SEEDS` the number of seeds,
//! `TRUNKLINE_FIRST_SEED` the first one, `TRUNKLINE_LINES` the number of lines of a trace that are printed.

#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]

mod actions;
mod chance;
mod checks;
mod clock;
mod defects;
mod names;
mod network;
mod peer;
mod queue;
mod scenario;
mod seeds;
mod shrink;
mod steps;
mod trace;
mod world;

use std::collections::HashSet;

use crate::{
    checks::Check,
    defects::{Defect, DefectInjector},
    scenario::{Action, Scenario},
    seeds::number,
    shrink::{run, shrink},
    trace::Trace,
    world::World,
};

/// Number of seeds of the ordinary suite; `just simulate` runs more.
const SEEDS: u64 = 200;

#[test]
fn all_promises_hold_for_all_seeds() {
    if let Some(seed) = number("TRUNKLINE_SEED") {
        return seeds::check(seed..seed + 1);
    }
    let first = number("TRUNKLINE_FIRST_SEED").unwrap_or(0);
    seeds::check(first..first + number("TRUNKLINE_SEEDS").unwrap_or(SEEDS));
}

/// For each promise there are engines that break it, and the check of that promise notices.
#[test]
fn every_broken_promise_is_noticed() {
    let broken = [
        (Defect::ServesTwice, Check::AtMostOnce),
        (Defect::ServesLate, Check::Order),
        (Defect::IgnoresSequenceNumbers, Check::Gaps),
        (Defect::ReportsTooManyGaps, Check::Gaps),
        (Defect::EndsRequestsEarly, Check::Deadline),
        (Defect::AsksToWakeLate, Check::WakeUp),
        (Defect::ActsEarly, Check::WakeUp),
        (Defect::HidesMissingNodes, Check::Whole),
        (Defect::TakesSilenceForAnswers, Check::Premature),
        (Defect::IgnoresAnswers, Check::Stuck),
        (Defect::InventsAnswers, Check::Answers),
        (Defect::KeepsRequests, Check::Bounds),
        (Defect::EndsRequestsTwice, Check::Bounds),
        (Defect::IgnoresLeaves, Check::Presence),
        (Defect::DetectsSilenceEarly, Check::Presence),
        (Defect::NeverDetectsSilence, Check::Silence),
        (Defect::SendsNoHeartbeats, Check::Heartbeats),
        (Defect::IgnoresOnePeer, Check::Convergence),
    ];
    for (fault, check) in broken {
        let notices = |seed: &u64| run(&Scenario::from_seed(*seed), Some(fault)).is_err_and(|v| v.check == check);
        assert!((0..100).any(|seed| notices(&seed)), "{fault:?} is not noticed as {check:?}");
    }
    let checks: HashSet<_> = broken.into_iter().map(|(_, check)| check).collect();
    assert_eq!(checks, HashSet::from(Check::ALL));
}

/// Every kind of fault occurs among the seeds of the ordinary suite.
#[test]
fn the_ordinary_seeds_contain_every_kind_of_fault() {
    let has_fault = |what: fn(&Scenario) -> bool| (0..SEEDS).filter(|seed| what(&Scenario::from_seed(*seed))).count();
    let has_action = |what: fn(&Action) -> bool| {
        (0..SEEDS).filter(|seed| Scenario::from_seed(*seed).actions.iter().any(|(_, action)| what(action))).count()
    };
    for (fault, seeds) in [
        ("latency", has_fault(|scenario| scenario.faults.jitter > 0)),
        ("loss", has_fault(|scenario| scenario.faults.loss > 0)),
        ("duplication", has_fault(|scenario| scenario.faults.duplication > 0)),
        ("reorder", has_fault(|scenario| scenario.faults.reorder > 0)),
        ("clock skew", has_fault(|scenario| scenario.faults.drift)),
        ("partitions", has_action(|action| matches!(action, Action::Partition { .. }))),
        ("crashes", has_action(|action| matches!(action, Action::Crash { .. }))),
        ("pauses", has_action(|action| matches!(action, Action::Freeze { .. }))),
        ("lost connections", has_action(|action| matches!(action, Action::Cut { .. }))),
    ] {
        assert!(seeds >= 10, "{fault}: {seeds} seeds");
    }
}

/// The same seed gives the same outputs in the same order, whatever the hash seeds of the process.
#[test]
fn outputs_are_deterministic() {
    for seed in 0..10 {
        let scenario = Scenario::from_seed(seed);
        let trace = || World::new(&scenario, DefectInjector::of(None), Trace::on()).run().1.lines;
        assert_eq!(trace(), trace(), "seed {seed}");
    }
}

/// The trace of a failing seed is short.
#[test]
fn a_failing_seed_shrinks_to_a_few_actions() {
    let fault = Some(Defect::ServesTwice);
    let (scenario, check) = (0..100)
        .map(Scenario::from_seed)
        .find_map(|scenario| run(&scenario, fault).err().map(|violation| (scenario, violation.check)))
        .expect("some seed serves a message");
    let failure = shrink(&scenario, fault, check);
    assert_eq!(failure.violation.check, check);
    assert!(failure.scenario.actions.len() < 10, "{failure}");
    assert!(failure.to_string().contains(&format!("TRUNKLINE_SEED={}", scenario.seed)));
}
