//! What a node measures now and then, for the recorder of the `metrics` crate.

use std::{future, time::Duration};

use tokio::time::{Interval, MissedTickBehavior, interval};

use super::{Driver, InFlight, poll};
use crate::{
    engine::{Gather, Gathered},
    error::Result,
    model::{Levels, NodeKey, NodeMetrics, RequestError, RequestKind, RequestOutcome},
    node::outgoing::Job,
    transport::Backend,
};

/// How often counters and levels are exported.
const LEVELS: Duration = Duration::from_secs(1);

/// How often the broker is asked how far the history reaches.
const REACH: Duration = Duration::from_secs(10);

/// What is measured now and then; nothing if nothing is exported.
pub(super) struct Measures {
    times: Option<(Interval, Interval)>,
    asked: Option<Job<Result<Option<Duration>>>>,
}

/// A measure that is due, or has come.
pub(super) enum Measure {
    Levels,
    Reach(Duration),
}

impl Measures {
    pub(super) fn of(metrics: &NodeMetrics) -> Self {
        let every = |period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let times = metrics.exported.wants_levels().then(|| (every(LEVELS), every(REACH)));
        Self { times, asked: None }
    }

    /// The next measure. *Cancel safe.*
    pub(super) async fn next(&mut self, backend: &Backend, node: &NodeKey) -> Measure {
        let Some((levels, reach)) = &mut self.times else { return future::pending().await };
        loop {
            tokio::select! {
                _ = levels.tick() => return Measure::Levels,
                _ = reach.tick(), if self.asked.is_none() => {
                    self.asked = backend.history.clone().map(|history| -> Job<_> {
                        let node = node.clone();
                        Box::pin(async move { history.reach(&node).await })
                    });
                }
                told = poll(&mut self.asked), if self.asked.is_some() => {
                    self.asked = None;
                    // It is asked again.
                    if let Ok(Some(reach)) = told {
                        return Measure::Reach(reach);
                    }
                }
            }
        }
    }
}

impl Driver {
    pub(super) fn measured(&self, measure: &Measure, inbox_messages: usize) {
        match measure {
            Measure::Levels => self.export_levels(inbox_messages),
            Measure::Reach(reach) => self.metrics.exported.history_reach(*reach),
        }
    }

    pub(super) fn export_request(&self, request: &InFlight, outcome: RequestOutcome) {
        if let Some((kind, started)) = request.started {
            self.metrics.exported.requested(kind, outcome, started.elapsed());
        }
    }

    fn export_levels(&self, inbox_messages: usize) {
        self.metrics.give();
        let health = self.backend.transport.health();
        let lost = (!health.connected).then(|| health.since.and_then(|since| since.elapsed().ok()).unwrap_or_default());
        let interest = self.backend.interest.as_ref();
        let named_peers = self.engine.members().count();
        self.metrics.exported.levels(&Levels {
            lost,
            outbox_messages: health.queued_messages,
            outbox_bytes: health.queued_bytes,
            outbox_oldest: health.oldest_queued.unwrap_or_default(),
            inbox_messages,
            room_subscriptions: interest.map_or(0, |interest| interest.subscriptions(&self.node)),
            named_peers,
            counted_peers: self.engine.peer_count().saturating_sub(named_peers),
        });
    }
}

pub(super) fn request_kind(gather: Gather) -> RequestKind {
    match gather {
        Gather::Sockets => RequestKind::Sockets,
        Gather::Rooms => RequestKind::Rooms,
        Gather::Values | Gather::Session => RequestKind::Values,
        Gather::Acks => RequestKind::Acks,
        Gather::RoundTrips => RequestKind::Probe,
    }
}

pub(super) fn outcome(result: &Result<Gathered, RequestError<Gathered>>) -> RequestOutcome {
    match result.as_ref().map_err(RequestError::incomplete) {
        Ok(_) => RequestOutcome::Complete,
        Err(Some(incomplete)) if incomplete.missing_nodes() > 0 => RequestOutcome::Partial,
        Err(Some(_)) => RequestOutcome::TimedOut,
        Err(None) => RequestOutcome::Failed,
    }
}
