//! [`Outages`]: what a node has missed while the way to the broker was lost, for its log.

use std::{
    fmt,
    time::{Duration, Instant},
};

use crate::{
    model::{Event, NodeKey, NodeMetrics},
    transport::Transport,
};

/// Losses of the way to the broker. When one is over, and the time in which gaps are found after it, it is logged at `info`
/// what was missed; once, also if the way was lost again meanwhile.
#[derive(Debug)]
pub(super) struct Outages {
    /// Time after the return in which gaps are found.
    settling: Duration,
    current: Option<Outage>,
}

#[derive(Debug)]
struct Outage {
    before: Losses,
    has_unknown_gap: bool,
    /// When it is known what was missed; `None` while the broker is away.
    due: Option<Instant>,
}

/// What a node has lost since it has joined.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Losses {
    gaps: u64,
    missed: u64,
    not_sent: u64,
}

impl Losses {
    pub(super) fn now(metrics: &NodeMetrics, transport: &dyn Transport) -> Self {
        Self {
            gaps: metrics.gaps.value(),
            missed: metrics.missed.value(),
            not_sent: metrics.publish_errors.value()
                + metrics.outgoing_overflow.value()
                + transport.health().refused_messages,
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            gaps: self.gaps.saturating_sub(before.gaps),
            missed: self.missed.saturating_sub(before.missed),
            not_sent: self.not_sent.saturating_sub(before.not_sent),
        }
    }
}

impl Outages {
    /// Gaps are reported at most two `gap_grace` after the return.
    pub(super) fn new(gap_grace: Duration) -> Self {
        Self { settling: gap_grace * 3, current: None }
    }

    pub(super) fn note(&mut self, now: Instant, event: &Event, losses: impl FnOnce() -> Losses) {
        match (event, &mut self.current) {
            (Event::Lost(_), None) => {
                self.current = Some(Outage { before: losses(), has_unknown_gap: false, due: None });
            }
            (Event::Lost(_), Some(outage)) => outage.due = None,
            (Event::Connected, Some(outage)) => outage.due = Some(now + self.settling),
            (Event::Gap(gap), Some(outage)) => outage.has_unknown_gap |= gap.missed.is_none(),
            _ => (),
        }
    }

    /// When there is something to log.
    pub(super) fn due(&self) -> Option<Instant> {
        self.current.as_ref()?.due
    }

    /// Logs what was missed, if it is known by now.
    pub(super) fn tell(&mut self, now: Instant, node: &NodeKey, losses: impl FnOnce() -> Losses) {
        let Some(outage) = self.current.take_if(|outage| outage.due.is_some_and(|due| due <= now)) else { return };
        let lost = losses().since(outage.before);
        tracing::info!(
            namespace = node.namespace.as_str(),
            node = node.id.as_str(),
            gaps = lost.gaps,
            missed = lost.missed,
            not_sent = lost.not_sent,
            "since the way to the broker was lost, {}",
            Told { lost, has_unknown_gap: outage.has_unknown_gap }
        );
    }
}

struct Told {
    lost: Losses,
    has_unknown_gap: bool,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Losses { missed, not_sent, .. } = self.lost;
        match (missed, self.has_unknown_gap) {
            (0, false) => f.write_str("no message was missed")?,
            (0, true) => f.write_str("an unknown number of messages may have been missed")?,
            (missed, false) => write!(f, "messages missed: {missed}")?,
            (missed, true) => write!(f, "messages missed: at least {missed}")?,
        }
        match not_sent {
            0 => f.write_str("; every held message was sent"),
            count => write!(f, "; messages not sent: {count}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Gap, GapCause};

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_outage_is_over_once_gaps_have_had_their_time() {
        let (mut outages, start) = (Outages::new(SECOND), Instant::now());
        let lost = || Event::Lost("reset".into());
        outages.note(start, &Event::Connected, Losses::default);
        assert_eq!(outages.due(), None, "it was not lost before");
        outages.note(start, &lost(), Losses::default);
        assert_eq!(outages.due(), None);
        outages.note(start, &Event::Connected, Losses::default);
        outages.note(start + SECOND, &lost(), || panic!("it is the same outage"));
        assert_eq!(outages.due(), None);
        outages.note(start + 2 * SECOND, &Event::Connected, Losses::default);
        assert_eq!(outages.due(), Some(start + 5 * SECOND));
        outages.note(start, &Event::Gap(Gap { cause: GapCause::ConnectionLost, missed: None }), Losses::default);
        assert!(outages.current.as_ref().is_some_and(|outage| outage.has_unknown_gap));
    }

    #[test]
    fn what_was_missed_is_a_sentence() {
        let told = |missed, not_sent, has_unknown_gap| {
            Told { lost: Losses { gaps: 1, missed, not_sent }, has_unknown_gap }.to_string()
        };
        assert_eq!(told(0, 0, false), "no message was missed; every held message was sent");
        assert_eq!(told(3, 2, false), "messages missed: 3; messages not sent: 2");
        assert_eq!(told(3, 0, true), "messages missed: at least 3; every held message was sent");
        assert_eq!(told(0, 0, true), "an unknown number of messages may have been missed; every held message was sent");
    }
}
