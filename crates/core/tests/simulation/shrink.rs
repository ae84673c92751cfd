//! Shrinking a failing run until its trace is short enough to read.

use std::{cmp::min, fmt};

use crate::{
    checks::{Check, Violation},
    defects::{Defect, DefectInjector},
    scenario::{Action, MILLI, Scenario},
    trace::Trace,
    world::{Report, World},
};

/// A run that broke a promise.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) violation: Violation,
    /// The shortest scenario that was found to break the same promise.
    pub(crate) scenario: Scenario,
    trace: Vec<String>,
}

/// Number of lines of the trace that are printed, unless `TRUNKLINE_LINES` says otherwise.
const SHOWN: usize = 60;

/// Runs a scenario.
pub(crate) fn run(scenario: &Scenario, fault: Option<Defect>) -> Result<Report, Violation> {
    World::new(scenario, DefectInjector::of(fault), Trace::off()).run().0
}

/// Shrinks a failing scenario while it breaks the same promise, in no more steps.
pub(crate) fn shrink(scenario: &Scenario, fault: Option<Defect>, check: Check) -> Failure {
    let mut fewest = u64::MAX;
    let mut fails = |scenario: &Scenario| {
        let fails = |violation: &Violation| violation.check == check && violation.steps <= fewest;
        let violation = run(scenario, fault).err().filter(fails);
        fewest = violation.as_ref().map_or(fewest, |violation| violation.steps);
        violation.is_some()
    };
    let mut shortest = scenario.clone();
    assert!(fails(&shortest), "it failed when it was run before");
    loop {
        let before = shortest.clone();
        drop_actions(&mut shortest, &mut fails);
        drop_peers(&mut shortest, &mut fails);
        drop_faults(&mut shortest, &mut fails);
        shorten_actions(&mut shortest, &mut fails);
        close_gaps(&mut shortest, &mut fails);
        if shortest == before {
            break;
        }
    }
    let (result, trace) = World::new(&shortest, DefectInjector::of(fault), Trace::on()).run();
    let violation = result.expect_err("it failed when it was run before");
    Failure { violation, scenario: shortest, trace: trace.lines }
}

/// Drops ever smaller parts of the actions.
fn drop_actions(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    let mut size = scenario.actions.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < scenario.actions.len() {
            let end = (start + size).min(scenario.actions.len());
            let mut shorter = scenario.clone();
            shorter.actions.drain(start..end);
            if fails(&shorter) {
                *scenario = shorter;
            } else {
                start = end;
            }
        }
        size /= 2;
    }
}

/// Drops peers; the indexes of later ones move up.
fn drop_peers(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    let joins: Vec<_> = (0..scenario.actions.len()).filter(|index| scenario.actions[*index].1.adds_peer()).collect();
    for (peer, join) in joins.into_iter().enumerate().rev() {
        attempt(scenario, fails, |scenario| {
            scenario.actions.remove(join);
            let later =
                scenario.actions.iter_mut().filter_map(|(_, action)| action.node_mut()).filter(|node| **node > peer);
            later.for_each(|node| *node -= 1);
        });
    }
}

/// Switches off the faults of messages and clocks, and the echo, which lengthens a trace.
fn drop_faults(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    let milder: [fn(&mut Scenario); 6] = [
        |scenario| scenario.faults.loss = 0,
        |scenario| scenario.faults.duplication = 0,
        |scenario| scenario.faults.reorder = 0,
        |scenario| scenario.faults.drift = false,
        |scenario| scenario.faults.jitter = MILLI,
        |scenario| scenario.kind.echo = false,
    ];
    for change in milder {
        attempt(scenario, fails, change);
    }
}

/// Emits fewer messages.
fn shorten_actions(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    for index in 0..scenario.actions.len() {
        for share in [40, 2] {
            attempt(scenario, fails, |scenario| {
                if let Action::Emit { count, .. } = &mut scenario.actions[index].1 {
                    *count = count.div_ceil(share);
                }
            });
        }
    }
}

/// Shortens the time between actions, and before the quiet time after them.
fn close_gaps(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    for index in 0..=scenario.actions.len() {
        for share in [1000, 8, 2] {
            attempt(scenario, fails, |scenario| {
                let before = index.checked_sub(1).map_or(0, |before| scenario.actions[before].0);
                let gap = scenario.actions.get(index).map_or(scenario.quiet, |(at, _)| *at) - before;
                let earlier = gap - min(gap, (gap / share).max(MILLI));
                scenario.actions.iter_mut().skip(index).for_each(|(at, _)| *at -= earlier);
                scenario.quiet -= earlier;
            });
        }
    }
}

/// Keeps a change if the scenario still fails.
fn attempt(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool, change: impl Fn(&mut Scenario)) {
    let mut changed = scenario.clone();
    change(&mut changed);
    if changed != *scenario && fails(&changed) {
        *scenario = changed;
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { check, text, .. } = &self.violation;
        writeln!(f, "{check:?}: {text}\n\n{}", self.scenario)?;
        let shown = std::env::var("TRUNKLINE_LINES").ok().and_then(|lines| lines.parse().ok());
        let skipped = self.trace.len().saturating_sub(shown.unwrap_or(SHOWN));
        if skipped > 0 {
            writeln!(f, "({skipped} lines before)")?;
        }
        self.trace[skipped..].iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let seed = self.scenario.seed;
        writeln!(
            f,
            "\nagain: TRUNKLINE_SEED={seed} cargo test -p trunkline-core --test simulation all_promises -- --nocapture"
        )
    }
}
