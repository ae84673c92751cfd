//! A failing run, made short enough to read.

use std::fmt;

use crate::{
    checks::{Check, Violation},
    scenario::{Faults, Scenario},
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

/// Cuts a scenario that fails down while it breaks the same promise.
pub(crate) fn shrink(scenario: &Scenario, fault: Option<Fault>, check: Check) -> Failure {
    let fails = |scenario: &Scenario| run(scenario, fault).is_err_and(|violation| violation.check == check);
    let mut shortest = scenario.clone();
    loop {
        let before = (shortest.acts.len(), shortest.faults);
        drop_acts(&mut shortest, &fails);
        drop_faults(&mut shortest, &fails);
        if before == (shortest.acts.len(), shortest.faults) {
            break;
        }
    }
    let (result, trace) = World::new(&shortest, Tamper::of(fault), Trace::on()).run();
    let violation = result.expect_err("it failed when it was run before");
    Failure { violation, scenario: shortest, trace: trace.lines }
}

/// Drops ever smaller parts of the acts.
fn drop_acts(scenario: &mut Scenario, fails: &impl Fn(&Scenario) -> bool) {
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

/// Switches off what single messages suffer.
fn drop_faults(scenario: &mut Scenario, fails: &impl Fn(&Scenario) -> bool) {
    let milder: [fn(&mut Faults); 4] = [
        |faults| faults.loss = 0,
        |faults| faults.duplication = 0,
        |faults| faults.reorder = 0,
        |faults| faults.drift = false,
    ];
    for change in milder {
        let mut shorter = scenario.clone();
        change(&mut shorter.faults);
        if fails(&shorter) {
            *scenario = shorter;
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation { check, text } = &self.violation;
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
