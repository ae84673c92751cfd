//! The task that follows the change stream.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::sleep;
use trunkline_backend::Backoff;
use trunkline_core::{
    ErrorKind, Gap, GapCause, Message,
    codec::{Body, Kind},
    model::Delivery,
};

use crate::{
    collection,
    seats::{Plan, Taken},
    server::Server,
    shared::{Direction, Shared},
    stream::{self, Changes, Failure, Place},
    wire::{Arrived, Event},
};

/// Follows the changes for all namespaces, over one stream after the other.
#[derive(Debug)]
pub(crate) struct Reader {
    shared: Arc<Shared>,
    server: Server,
    /// Where the stream stood when there was nothing to report.
    place: Place,
    /// Of the last event since then.
    token: Option<Bytes>,
    /// The collection was dropped or renamed.
    is_invalidated: bool,
    /// How often in a row the server has refused to go on without a single event in between.
    refusals: u32,
}

/// After so many refusals for whatever reason, the place is given up.
const MAX_REFUSALS: u32 = 5;

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>, server: Server, first: &Changes) -> Self {
        Self { shared, server, place: first.place(), token: None, is_invalidated: false, refusals: 0 }
    }

    /// Runs until the transport is closed.
    pub(crate) async fn run(mut self, first: Changes) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = self.follow_until_closed(first) => {}
            () = shared.closing() => {}
        }
    }

    async fn follow_until_closed(&mut self, first: Changes) {
        let mut backoff = Backoff::default();
        let mut failure = self.serve(first).await;
        loop {
            self.shared.lost(Direction::Inbound, &failure.to_string());
            let has_lost_its_place = self.note(&failure);
            if !has_lost_its_place && !self.is_invalidated {
                sleep(backoff.next_pause()).await;
            }
            failure = match self.reopen().await {
                Ok(changes) => {
                    backoff.reset();
                    self.shared.restored(Direction::Inbound);
                    self.serve(changes).await
                }
                Err(failure) => {
                    tracing::debug!(%failure, "cannot open the change stream yet");
                    sleep(backoff.next_pause()).await;
                    failure
                }
            };
        }
    }

    /// Judges whether the stream can go on where it stood. If it cannot, something may be missed.
    fn note(&mut self, failure: &Failure) -> bool {
        self.refusals = if failure.is_answer() { self.refusals + 1 } else { self.refusals };
        let place = self.token.take().as_ref().and_then(stream::behind);
        self.stands_at(place);
        let is_lost = self.place.is_some() && (failure.is_history_lost() || self.refusals >= MAX_REFUSALS);
        if is_lost {
            tracing::warn!(%failure, "the change stream goes on from now: what happened meanwhile is lost");
            self.place = None;
            self.refusals = 0;
        }
        is_lost
    }

    async fn reopen(&mut self) -> Result<Changes, Failure> {
        if self.is_invalidated {
            self.recreate().await;
        }
        let is_anew = self.place.is_none();
        let changes = stream::open(&self.server, &self.shared.config, &self.place).await?;
        if is_anew {
            self.place = changes.place();
        }
        if std::mem::take(&mut self.is_invalidated) || is_anew {
            // Without the collection nobody can get what was kept in it; without the place, what came since.
            self.shared.seats.tell(&Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None }));
        }
        Ok(changes)
    }

    /// Makes the collection again. If that fails the stream goes on all the same: inserting makes one, of whatever kind.
    async fn recreate(&self) {
        let Shared { config, kind, .. } = &*self.shared;
        if let Err(error) = collection::restore(&self.server.database, config, *kind).await {
            tracing::warn!(%error, "the collection is gone and cannot be made again as it was");
        }
    }

    /// Follows a stream until it ends.
    async fn serve(&mut self, mut changes: Changes) -> Failure {
        let mut plan = self.shared.seats.plan();
        loop {
            match changes.next(flush(&plan)).await {
                Ok(Some(bytes)) => {
                    plan = self.follow_plan(plan).await;
                    self.event(&plan, &bytes);
                    if self.is_invalidated {
                        flush(&plan).await;
                        return Failure::Ended;
                    }
                    if changes.has_waited() {
                        // A lone event is taken in before the server is asked for more.
                        flush(&plan).await;
                        tokio::task::yield_now().await;
                    }
                }
                Ok(None) => {
                    flush(&plan).await;
                    self.refusals = 0;
                    self.stands_at(changes.place());
                }
                Err(failure) => {
                    flush(&plan).await;
                    return failure;
                }
            }
        }
    }

    fn stands_at(&mut self, place: Place) {
        if place.is_some() {
            (self.place, self.token) = (place, None);
        }
    }

    /// Takes over who takes part where. What was kept for others is handed over before.
    async fn follow_plan(&self, plan: Arc<Plan>) -> Arc<Plan> {
        let new = self.shared.seats.plan();
        if !Arc::ptr_eq(&new, &plan) {
            flush(&plan).await;
        }
        new
    }

    fn event(&mut self, plan: &Plan, bytes: &Bytes) {
        self.refusals = 0;
        let Ok(event) = Event::read(bytes) else {
            tracing::debug!("a change cannot be read");
            return;
        };
        // A copy, so that it does not keep the event.
        self.token = event.token.as_deref().map(Bytes::copy_from_slice).or_else(|| self.token.take());
        self.is_invalidated |= event.is_invalidation;
        if let Some(document) = &event.inserted {
            deliver(plan, document);
        }
    }
}

async fn flush(plan: &Plan) {
    for taken in plan.values().flat_map(|row| row.iter()) {
        taken.flush().await;
    }
}

/// Hands a document to the nodes of its namespace.
fn deliver(plan: &Plan, document: &Bytes) {
    let Ok(arrived) = Arrived::read(document) else {
        tracing::debug!("a document is no message");
        return;
    };
    let row = arrived.namespace.as_ref().and_then(|namespace| plan.get(namespace));
    for taken in row.into_iter().flat_map(|row| row.iter()).filter(|_| !arrived.is_session()) {
        match arrived.kind() {
            Some(kind) => {
                if let Some(delivery) = judge(taken, &arrived, kind) {
                    taken.keep(delivery);
                }
            }
            None => taken.metrics.unknown_type.increment(),
        }
    }
}

/// What a node makes of a document.
fn judge(taken: &Taken, arrived: &Arrived<'_>, kind: Kind) -> Option<Delivery> {
    let is_own = arrived.from.as_ref() == Some(&taken.node.id);
    if is_own && kind != Kind::Broadcast {
        taken.metrics.own_echoes.increment();
        return None;
    }
    if arrived.to.as_ref().is_some_and(|to| *to != taken.node.id) {
        return None;
    }
    if !is_own
        && let Some(from) = &arrived.from
        && arrived.room().is_some_and(|room| !taken.wants(&room))
    {
        return Some(Delivery::Skipped { from: from.clone(), seq_no: arrived.seq_no });
    }
    match arrived.body(kind) {
        Ok(Body::Message(message)) => Some(understood(arrived, message, is_own)),
        Ok(Body::Response(response)) => Some(Delivery::Response { from: arrived.from.clone(), response }),
        Err(error) => {
            let counter = match error.kind() {
                ErrorKind::Unsupported => &taken.metrics.unknown_type,
                _ => &taken.metrics.malformed,
            };
            counter.increment();
            tracing::debug!(node = %taken.node.id, %error, "a message was dropped");
            None
        }
    }
}

fn understood(arrived: &Arrived<'_>, message: Message, is_own: bool) -> Delivery {
    // Only what can be replayed tells clients where it lies.
    let offset = match &message {
        Message::Broadcast { request: None, target, .. } if !target.flags.is_volatile() => arrived.offset(),
        _ => None,
    };
    if is_own {
        return Delivery::Stored { message, offset };
    }
    Delivery::Message { from: arrived.from.clone(), seq_no: arrived.seq_no, offset, message }
}
