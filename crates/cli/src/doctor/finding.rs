//! [`Finding`]: what a check found; [`Findings`]: all of them, in the order of the checks.

use serde::{Deserialize, Serialize};

use super::{
    checks::{self, CHECKS, Check},
    names::Names,
    target::Backend,
};
use crate::output::Status;

/// What a check found.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) check: &'static Check,
    pub(crate) outcome: Outcome,
    /// A plain sentence.
    pub(crate) text: String,
    pub(crate) value: Option<Measured>,
    pub(crate) cause: Option<String>,
    /// What to do: the very command where there is one.
    pub(crate) advice: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    Warning,
    Critical,
    /// Not made; the text says why.
    Skipped,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Critical => "critical",
            Self::Skipped => "skipped",
        }
    }

    pub(crate) fn status(self) -> Option<Status> {
        match self {
            Self::Ok => Some(Status::Ok),
            Self::Warning => Some(Status::Warning),
            Self::Critical => Some(Status::Critical),
            Self::Skipped => None,
        }
    }
}

/// A finding in a file that `gather` writes. Measured values are in its text.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct Archived {
    code: String,
    status: Outcome,
    text: String,
    cause: Option<String>,
    advice: Option<String>,
}

impl Archived {
    pub(super) fn of(finding: &Finding) -> Self {
        let Finding { check, outcome, text, cause, advice, .. } = finding.clone();
        Self { code: check.code.to_owned(), status: outcome, text, cause, advice }
    }

    /// Nothing for a check of another version of the program.
    pub(super) fn into_finding(self) -> Option<Finding> {
        let Self { code, status, text, cause, advice } = self;
        Some(Finding { check: checks::named(&code)?, outcome: status, text, value: None, cause, advice })
    }
}

/// A measured value, with the limits from which on it is worth a warning or critical.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measured {
    /// `s`, `B`, `%`, or nothing for a count.
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
    pub(crate) warning: Option<f64>,
    pub(crate) critical: Option<f64>,
    /// Whether small values are bad.
    pub(crate) at_least: bool,
}

impl Measured {
    pub(crate) fn new(value: f64, unit: &'static str) -> Self {
        Self { unit, value, warning: None, critical: None, at_least: false }
    }

    /// From these values upwards it is bad.
    pub(crate) fn limits(self, warning: f64, critical: f64) -> Self {
        Self { warning: Some(warning), critical: Some(critical), ..self }
    }

    /// Below these values it is bad.
    pub(crate) fn least(self, warning: f64, critical: f64) -> Self {
        Self { warning: Some(warning), critical: Some(critical), at_least: true, ..self }
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let beyond = |limit: Option<f64>| {
            limit.is_some_and(|limit| if self.at_least { self.value < limit } else { self.value >= limit })
        };
        if beyond(self.critical) {
            Outcome::Critical
        } else if beyond(self.warning) {
            Outcome::Warning
        } else {
            Outcome::Ok
        }
    }
}

/// A finding before its check is known.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    outcome: Outcome,
    text: String,
    value: Option<Measured>,
    cause: Option<String>,
    advice: Option<String>,
}

impl Report {
    fn new(outcome: Outcome, text: impl Into<String>) -> Self {
        Self { outcome, text: text.into(), value: None, cause: None, advice: None }
    }

    pub(crate) fn ok(text: impl Into<String>) -> Self {
        Self::new(Outcome::Ok, text)
    }

    pub(crate) fn warning(text: impl Into<String>) -> Self {
        Self::new(Outcome::Warning, text)
    }

    pub(crate) fn critical(text: impl Into<String>) -> Self {
        Self::new(Outcome::Critical, text)
    }

    pub(crate) fn skipped(text: impl Into<String>) -> Self {
        Self::new(Outcome::Skipped, text)
    }

    /// Judged by a measured value.
    pub(crate) fn measured(value: Measured, text: impl Into<String>) -> Self {
        Self { value: Some(value), ..Self::new(value.outcome(), text) }
    }

    #[cfg(test)]
    pub(crate) fn outcome(&self) -> Outcome {
        self.outcome
    }

    pub(crate) fn value(self, value: Measured) -> Self {
        Self { value: Some(value), ..self }
    }

    pub(crate) fn cause(self, cause: impl Into<String>) -> Self {
        if self.outcome == Outcome::Ok { self } else { Self { cause: Some(cause.into()), ..self } }
    }

    pub(crate) fn advice(self, advice: impl Into<String>) -> Self {
        if self.outcome == Outcome::Ok { self } else { Self { advice: Some(advice.into()), ..self } }
    }
}

/// What the checks found so far.
#[derive(Debug)]
pub(crate) struct Findings {
    backend: Backend,
    names: Names,
    found: Vec<Finding>,
}

impl Findings {
    /// For one backend. Advices get the names of its URL.
    pub(crate) fn new(backend: Backend, names: Names) -> Self {
        Self { backend, names, found: Vec::new() }
    }

    /// Adds what a check found, unless it is not for this backend or has found something before.
    pub(crate) fn add(&mut self, code: &str, report: Report) {
        let Some(check) = checks::named(code) else {
            debug_assert!(false, "no check {code}");
            return;
        };
        if check.is_for(self.backend) && !self.has(code) {
            let Report { outcome, text, value, cause, advice } = report;
            let advice = advice.map(|advice| self.names.fill(&advice));
            self.found.push(Finding { check, outcome, text, value, cause, advice });
        }
    }

    fn has(&self, code: &str) -> bool {
        self.found.iter().any(|finding| finding.check.code == code)
    }

    /// Says of every check that was not made yet that it is skipped, and why.
    pub(crate) fn skip_rest(&mut self, because: &str) {
        for check in CHECKS {
            self.add(check.code, Report::skipped(because));
        }
    }

    /// As [`Findings::skip_rest`], for the checks of one category.
    pub(crate) fn skip_category(&mut self, category: &str, because: &str) {
        for check in CHECKS.iter().filter(|check| check.category == category) {
            self.add(check.code, Report::skipped(because));
        }
    }

    /// What the checks found that were made.
    pub(crate) fn made(self) -> Vec<Finding> {
        self.found
    }

    /// All findings, in the order of the checks.
    pub(crate) fn finish(mut self) -> Vec<Finding> {
        self.skip_rest("this wire does not need it");
        let place = |finding: &Finding| CHECKS.iter().position(|check| check == finding.check);
        self.found.sort_by_key(place);
        self.found
    }
}
