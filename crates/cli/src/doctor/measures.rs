//! Checks that several brokers share: the clock, and how long the history lasts.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::finding::{Measured, Report};

/// From which difference on the broker's clock is worth a warning, and critical.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockLimits {
    pub(crate) warning: Duration,
    pub(crate) critical: Duration,
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1000.0
}

/// Compares the broker's clock, in milliseconds since the epoch, with ours before and after the question.
pub(crate) fn clock(before: f64, broker: f64, after: f64, limits: ClockLimits) -> Report {
    let difference = broker - f64::midpoint(before, after);
    // What the question's way can explain is none.
    let value = (difference.abs() - (after - before) / 2.0).max(0.0) / 1000.0;
    let word = if difference < 0.0 { "behind" } else { "ahead of" };
    let text = format!("the broker's clock is {:.3} s {word} this machine's", difference.abs() / 1000.0);
    let limited = Measured::new(value, "s").limits(limits.warning.as_secs_f64(), limits.critical.as_secs_f64());
    Report::measured(limited, text)
        .cause("one of the two is not set by NTP; offsets and sessions are dated by the broker, logs by each machine")
        .advice("see on both machines: timedatectl timesync-status; then: systemctl restart systemd-timesyncd")
}

/// What a history keeps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    /// Number of entries, at their present size.
    pub(crate) messages: f64,
    /// Time after which they go, however few.
    pub(crate) ttl: Option<Duration>,
    /// What an entry is.
    pub(crate) unit: &'static str,
}

impl Kept {
    pub(crate) fn messages(messages: f64) -> Self {
        Self { messages, ttl: None, unit: "messages" }
    }
}

/// Number of messages that tell a rate.
const ENOUGH: usize = 100;

/// Milliseconds over which fewer messages are counted at least.
const SHORTEST: f64 = 1_000.0;

/// How long a history lasts if `count` entries came within `span` milliseconds.
pub(crate) fn history(kept: &Kept, count: usize, span: f64, advice: &str) -> Report {
    let ttl = kept.ttl.map_or(f64::INFINITY, |ttl| ttl.as_secs_f64());
    // Few messages are no rate, however close to each other, unless more were trimmed already.
    let is_whole = count < ENOUGH && (count as f64) < kept.messages;
    let span = if is_whole { span.max(SHORTEST) } else { span };
    let rate = if span > 0.0 { count as f64 * 1000.0 / span } else { 0.0 };
    if ttl.is_infinite() && (count < 2 || rate <= 0.0) {
        return Report::ok("hardly anything is published, so the history lasts");
    }
    let lasts = if rate > 0.0 { ttl.min(kept.messages / rate) } else { ttl };
    let text = format!("the history lasts {lasts:.0} s at the present rate of {rate:.1} {} a second", kept.unit);
    Report::measured(Measured::new(lasts, "s").least(120.0, 10.0), text)
        .cause("a client that is away for longer, or a node that is slower, has lost its place in the history")
        .advice(advice)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Outcome;
    use super::*;

    #[test]
    fn the_way_of_the_question_is_no_difference() {
        let limits = ClockLimits { warning: Duration::from_secs(1), critical: Duration::from_secs(30) };
        let outcome = |broker: f64, after: f64| clock(0.0, broker, after, limits).outcome();
        assert_eq!(outcome(5_000.0, 10_000.0), Outcome::Ok);
        assert_eq!(outcome(9_000.0, 10_000.0), Outcome::Ok);
        assert_eq!(outcome(-2_000.0, 10.0), Outcome::Warning);
        assert_eq!(outcome(31_000.0, 10.0), Outcome::Critical);
    }

    #[test]
    fn a_history_lasts_as_long_as_its_messages() {
        let outcome = |messages, count, span| history(&Kept::messages(messages), count, span, "").outcome();
        assert_eq!(outcome(10_000.0, 200, 1_000.0), Outcome::Warning);
        assert_eq!(outcome(1_000.0, 200, 1_000.0), Outcome::Critical);
        assert_eq!(outcome(10_000.0, 200, 100_000.0), Outcome::Ok);
        assert_eq!(outcome(10.0, 1, 0.0), Outcome::Ok);
        assert_eq!(outcome(10_000.0, 3, 5.0), Outcome::Ok);
        let ttl = Some(Duration::from_secs(60));
        let aged = |count| history(&Kept { ttl, ..Kept::messages(10_000.0) }, count, 100_000.0, "").outcome();
        assert_eq!((aged(0), aged(200)), (Outcome::Warning, Outcome::Warning));
    }
}
