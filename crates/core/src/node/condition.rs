//! What keeps a connected node from working as it should, for its health.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    model::{DownReason, Event, Gap, GapCause, MetricsSnapshot, NodeId},
    transport::Health,
};

/// How long a fault that is over is told.
const RECENT: Duration = Duration::from_secs(60);

/// Most nodes that are remembered as silent.
const MAX_SILENT: usize = 64;

/// Faults of a node that its events have told.
#[derive(Debug, Default)]
pub(super) struct Condition(Mutex<Faults>);

#[derive(Debug, Default)]
struct Faults {
    gap: Option<(Instant, Gap)>,
    misconfigured: Option<String>,
    silent: BTreeMap<NodeId, Instant>,
}

impl Condition {
    pub(super) fn note(&self, event: &Event) {
        let mut faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Gap(gap) => faults.gap = Some((Instant::now(), gap.clone())),
            Event::Misconfigured(text) => faults.misconfigured = Some(text.clone()),
            Event::NodeDown(node, DownReason::Silent) if faults.silent.len() < MAX_SILENT => {
                faults.silent.insert(node.clone(), Instant::now());
            }
            Event::NodeUp(node) | Event::NodeDown(node, _) => drop(faults.silent.remove(node)),
            Event::Connected | Event::Lost(_) => {}
        }
    }

    /// Adds what the node has counted, and why it does not work as it should, to the health of its transport.
    pub(super) fn add_to(&self, health: Health, metrics: MetricsSnapshot) -> Health {
        let degraded = self.reasons(&health);
        Health { gaps: metrics.gaps, missed_messages: metrics.missed, degraded, ..health }
    }

    fn reasons(&self, health: &Health) -> Vec<String> {
        let faults = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_recent = |at: &Instant| at.elapsed() < RECENT;
        let mut reasons = Vec::new();
        if health.refused_messages > 0 {
            let why = health.refusal.as_deref().unwrap_or("for an unknown reason");
            reasons.push(format!("the broker refused {} messages: {why}", health.refused_messages));
        }
        reasons.extend(faults.misconfigured.clone());
        reasons.extend(faults.gap.as_ref().filter(|(at, _)| is_recent(at)).map(|(_, gap)| describe(gap)));
        let silent = faults.silent.iter().filter(|(_, at)| is_recent(at));
        reasons.extend(silent.map(|(node, _)| format!("node {node} fell silent within the last minute")));
        reasons
    }
}

fn describe(gap: &Gap) -> String {
    let missed = gap.missed.map_or_else(|| "an unknown number of".to_owned(), |missed| missed.to_string());
    let cause = match gap.cause {
        GapCause::ConnectionLost => "the connection to the broker was lost",
        GapCause::Overflow => "the inbox was full",
        GapCause::Hole => "the broker or a connection dropped them",
        GapCause::Trimmed => "the history was shorter than the outage",
    };
    format!("{missed} messages were missed within the last minute: {cause}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_fault_is_told_while_it_lasts_or_for_a_minute() {
        let (condition, node) = (Condition::default(), NodeId::new("n").unwrap());
        let reasons = || condition.add_to(Health::default(), MetricsSnapshot::default()).degraded;
        condition.note(&Event::Misconfigured("room buckets: 1 here, 2 there".into()));
        condition.note(&Event::Gap(Gap { cause: GapCause::Overflow, missed: Some(3) }));
        condition.note(&Event::NodeDown(node.clone(), DownReason::Silent));
        let expected = [
            "room buckets: 1 here, 2 there",
            "3 messages were missed within the last minute: the inbox was full",
            "node n fell silent within the last minute",
        ];
        assert_eq!(reasons(), expected);
        condition.note(&Event::NodeUp(node));
        assert_eq!(reasons(), expected[..2]);
        tokio::time::advance(RECENT).await;
        assert_eq!(reasons(), expected[..1]);
        let refused = Health::default().with_refused(2, Some("too large".into()));
        let degraded = condition.add_to(refused, MetricsSnapshot::default()).degraded;
        assert_eq!(degraded[0], "the broker refused 2 messages: too large");
    }
}
