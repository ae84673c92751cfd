//! What a node measures now and then, for the recorder of the `metrics` crate.

use std::{future, time::Duration};

use tokio::time::{Interval, interval};

use super::{Driver, InFlight};
use crate::{
    engine::{Gather, Gathered},
    error::Result,
    model::{Levels, NodeMetrics, RequestError, RequestKind, RequestOutcome},
};

/// How often levels are exported.
const LEVELS: Duration = Duration::from_secs(1);

impl Driver {
    pub(super) fn export_request(&self, request: &InFlight, outcome: RequestOutcome) {
        if let Some((kind, started)) = request.started {
            self.metrics.exported.requested(kind, outcome, started.elapsed());
        }
    }

    pub(super) fn export_levels(&self, inbox_messages: usize) {
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

/// When levels are due; never if nothing is exported.
pub(super) fn levels_due(metrics: &NodeMetrics) -> Option<Interval> {
    metrics.exported.wants_levels().then(|| interval(LEVELS))
}

pub(super) async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => future::pending().await,
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
