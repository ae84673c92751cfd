//! A failing run, made short enough to read.

use std::{cmp::min, fmt};

use crate::{
    checks::{Check, Violation},
    scenario::{Act, MILLI, Scenario},
    tamper::{Fault, Tamper},
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

/// Lines of the trace that are shown, unless `TRUNKLINE_LINES` says otherwise.
const SHOWN: usize = 60;

/// Runs a scenario.
pub(crate) fn run(scenario: &Scenario, fault: Option<Fault>) -> Result<Report, Violation> {
    World::new(scenario, Tamper::of(fault), Trace::off()).run().0
}

/// Cuts a scenario that fails down while it breaks the same promise, in no more steps.
pub(crate) fn shrink(scenario: &Scenario, fault: Option<Fault>, check: Check) -> Failure {
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
        drop_acts(&mut shortest, &mut fails);
        drop_peers(&mut shortest, &mut fails);
        drop_faults(&mut shortest, &mut fails);
        shorten_acts(&mut shortest, &mut fails);
        close_gaps(&mut shortest, &mut fails);
        if shortest == before {
            break;
        }
    }
    let (result, trace) = World::new(&shortest, Tamper::of(fault), Trace::on()).run();
    let violation = result.expect_err("it failed when it was run before");
    Failure { violation, scenario: shortest, trace: trace.lines }
}

/// Drops ever smaller parts of the acts.
fn drop_acts(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    let mut size = scenario.acts.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        while start < scenario.acts.len() {
            let end = (start + size).min(scenario.acts.len());
            let mut shorter = scenario.clone();
            shorter.acts.drain(start..end);
            if fails(&shorter) {
                *scenario = shorter;
            } else {
                start = end;
            }
        }
        size /= 2;
    }
}

/// Leaves out peers; those that come later move up.
fn drop_peers(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    let joins: Vec<_> = (0..scenario.acts.len()).filter(|index| scenario.acts[*index].1.adds_peer()).collect();
    for (peer, join) in joins.into_iter().enumerate().rev() {
        attempt(scenario, fails, |scenario| {
            scenario.acts.remove(join);
            let later = scenario.acts.iter_mut().filter_map(|(_, act)| act.node_mut()).filter(|node| **node > peer);
            later.for_each(|node| *node -= 1);
        });
    }
}

/// Switches off what messages suffer, and what makes a trace long.
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

/// Emits less often.
fn shorten_acts(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    for index in 0..scenario.acts.len() {
        for share in [40, 2] {
            attempt(scenario, fails, |scenario| {
                if let Act::Emit { count, .. } = &mut scenario.acts[index].1 {
                    *count = count.div_ceil(share);
                }
            });
        }
    }
}

/// Lets the acts, and the quiet after them, come sooner after one another.
fn close_gaps(scenario: &mut Scenario, fails: &mut impl FnMut(&Scenario) -> bool) {
    for index in 0..=scenario.acts.len() {
        for share in [1000, 8, 2] {
            attempt(scenario, fails, |scenario| {
                let before = index.checked_sub(1).map_or(0, |before| scenario.acts[before].0);
                let gap = scenario.acts.get(index).map_or(scenario.quiet, |(at, _)| *at) - before;
                let earlier = gap - min(gap, (gap / share).max(MILLI));
                scenario.acts.iter_mut().skip(index).for_each(|(at, _)| *at -= earlier);
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
