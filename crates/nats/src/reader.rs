//! From the server to one node: its subscriptions, merged into one order, decoded, and handed over.

use std::{future::pending, ops::ControlFlow, sync::Arc, time::Duration};

use async_nats::Message as Arrival;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{oneshot, watch},
    task::consume_budget,
    time::{Instant, sleep_until, timeout},
};
use trunkline_backend::{
    decoder::BatchDecoder,
    rooms::{Bucket, SubscriptionQueue, SubscriptionRequest},
};
use trunkline_core::{Gap, GapCause, NodeMetrics, Result, model::Delivery};

use crate::{
    attachment::{Attachment, Framed, Next},
    connection::Connection,
    merge::in_order,
    place::Place,
    shared::Shared,
};

/// How long a node reads from a server that is about to shut down after the next one has begun to deliver: what went through the old one
/// must have arrived by then.
pub(crate) const HANDOVER: Duration = Duration::from_millis(500);

/// The task that reads for one node.
pub(crate) struct Reader {
    place: Arc<Place>,
    frames: BatchDecoder,
    metrics: Arc<NodeMetrics>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    requests: SubscriptionQueue,
    /// In use.
    current: Option<Attachment>,
    /// To be used when everything from the current one has arrived.
    next: Option<(Instant, Attachment)>,
    entering: FuturesUnordered<BoxFuture<'static, Result<Bucket>>>,
    has_history: bool,
}

impl Reader {
    pub(crate) fn new(
        shared: &Shared,
        place: Arc<Place>,
        frames: BatchDecoder,
        metrics: Arc<NodeMetrics>,
        requests: SubscriptionQueue,
    ) -> Self {
        let mut line = shared.incoming.subscribe();
        line.mark_changed();
        Self {
            place,
            frames,
            metrics,
            line,
            requests,
            current: None,
            next: None,
            entering: FuturesUnordered::new(),
            has_history: shared.streams.is_some(),
        }
    }

    /// Runs until the node leaves, or nobody reads its inbox any more.
    pub(crate) async fn run(mut self) {
        let place = Arc::clone(&self.place);
        tokio::select! {
            () = place.leaving.cancelled() => {}
            () = async { while self.step().await.is_continue() {} } => {}
        }
    }

    async fn step(&mut self) -> ControlFlow<()> {
        tokio::select! {
            biased;
            changed = self.line.changed() => match changed {
                Ok(()) => self.follow().await,
                Err(_) => ControlFlow::Break(()),
            },
            request = self.requests.next() => match request {
                Some(request) => self.requested(request).await,
                None => ControlFlow::Break(()),
            },
            Some(entered) = self.entering.next() => self.entered(entered).await,
            () = due(self.next.as_ref().map(|(due, _)| *due)) => self.switch().await,
            next = next(&mut self.current) => match next {
                Next::Arrived(batches) => self.arrived(batches).await,
                Next::Overflowed => self.frames.tell([Delivery::Gap(Gap { cause: GapCause::Overflow, missed: None })]),
            },
        }
    }

    // --- connections ---

    /// Turns to the latest connection.
    async fn follow(&mut self) -> ControlFlow<()> {
        // A loss is noticed at the subscriptions, after everything that had arrived.
        let Some(connection) = self.line.borrow_and_update().clone() else { return ControlFlow::Continue(()) };
        let buckets = self.requests.wanted();
        let attached = Attachment::open(&connection, &self.place, &buckets).await;
        if self.current.as_ref().is_some_and(|current| current.connection.has_ended()) {
            self.drain_lost().await?;
        }
        let Ok(attachment) = attached else { return ControlFlow::Continue(()) };
        if self.current.is_some() {
            self.next = Some((Instant::now() + HANDOVER, attachment));
            return ControlFlow::Continue(());
        }
        self.current = Some(attachment);
        for bucket in buckets {
            self.activate(bucket)?;
        }
        let gap = Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None });
        // Where there is a history, nothing that was said to all is lost.
        let is_gap = self.place.attached.is_cancelled() && !self.has_history;
        if self.place.attached.is_cancelled() {
            self.metrics.reconnects.increment();
        }
        self.frames.tell([Delivery::Connected].into_iter().chain(is_gap.then_some(gap)))?;
        self.place.attached.cancel();
        ControlFlow::Continue(())
    }

    /// Takes what had arrived over a connection that has ended.
    async fn drain_lost(&mut self) -> ControlFlow<()> {
        /// The client lets go of all subscriptions at once; this only bounds the wait for it.
        const AT_ONCE: Duration = Duration::from_secs(1);
        let until = Instant::now() + AT_ONCE;
        while self.current.is_some() {
            let left = until.saturating_duration_since(Instant::now());
            match timeout(left, next(&mut self.current)).await {
                Ok(Next::Arrived(batches)) => self.arrived(batches).await?,
                Ok(Next::Overflowed) => {}
                Err(_) => self.lost()?,
            }
        }
        ControlFlow::Continue(())
    }

    /// The current connection is gone, and everything that had arrived over it was handed over.
    fn lost(&mut self) -> ControlFlow<()> {
        let Some(current) = self.current.take() else { return ControlFlow::Continue(()) };
        if let Some((_, next)) = self.next.take() {
            self.current = Some(next);
            return ControlFlow::Continue(());
        }
        self.entering.clear();
        self.requests.lost();
        self.frames.tell([Delivery::Lost(current.connection.life.reason())])
    }

    /// Turns from a connection that still stands to the next one.
    async fn switch(&mut self) -> ControlFlow<()> {
        if let Some(current) = &mut self.current {
            let batches = current.take_arrived().await;
            self.arrived(batches).await?;
        }
        self.current = self.next.take().map(|(_, next)| next);
        ControlFlow::Continue(())
    }

    // --- rooms ---

    async fn requested(&mut self, request: SubscriptionRequest) -> ControlFlow<()> {
        match request {
            SubscriptionRequest::Subscribe(bucket) => self.subscribe(bucket).await,
            SubscriptionRequest::Unsubscribe(buckets) => return self.give_up(buckets),
            SubscriptionRequest::Rebind(followed) => {
                // The connection may have changed since it was looked at.
                if self.line.has_changed().unwrap_or(false) {
                    self.follow().await?;
                }
                tell(followed);
            }
        }
        ControlFlow::Continue(())
    }

    async fn subscribe(&mut self, bucket: Bucket) {
        if self.current.is_none() {
            self.requests.defer(bucket);
            return;
        }
        let mut connections = Vec::new();
        for attachment in self.current.iter_mut().chain(self.next.as_mut().map(|(_, next)| next)) {
            // If the connection is gone, the next one begins with this bucket.
            if attachment.subscribe(&self.place.hall.subjects, bucket).await.is_ok() {
                connections.push(Arc::clone(&attachment.connection));
            }
        }
        self.entering.push(Box::pin(async move {
            for connection in connections {
                connection.settle().await?;
            }
            Ok(bucket)
        }));
    }

    async fn entered(&mut self, entered: Result<Bucket>) -> ControlFlow<()> {
        let Ok(bucket) = entered else { return ControlFlow::Continue(()) };
        // What arrived before belongs before: the counters in it do not count for this bucket yet.
        if let Some(current) = &mut self.current {
            let batches = current.take_arrived().await;
            self.arrived(batches).await?;
        }
        self.activate(bucket)
    }

    fn activate(&mut self, bucket: Bucket) -> ControlFlow<()> {
        self.frames.tell([Delivery::Subscribed(bucket.channel())])?;
        self.requests.subscribed(bucket);
        ControlFlow::Continue(())
    }

    fn give_up(&mut self, buckets: Vec<Bucket>) -> ControlFlow<()> {
        for attachment in self.current.iter_mut().chain(self.next.as_mut().map(|(_, next)| next)) {
            buckets.iter().for_each(|bucket| attachment.unsubscribe(*bucket));
        }
        self.frames.tell(buckets.into_iter().map(|bucket| Delivery::Unsubscribed(bucket.channel())))
    }

    // --- messages ---

    /// Hands over what has arrived, in order. No batches: a subscription has ended.
    async fn arrived(&mut self, batches: Vec<Vec<Arrival>>) -> ControlFlow<()> {
        let batches: Vec<Vec<Framed>> =
            batches.into_iter().map(|batch| batch.into_iter().map(Framed::from).collect()).collect();
        for framed in in_order(batches) {
            consume_budget().await;
            self.take_in(framed)?;
        }
        if self.current.as_ref().is_some_and(Attachment::has_ended) {
            return self.lost();
        }
        ControlFlow::Continue(())
    }

    fn take_in(&mut self, framed: Framed) -> ControlFlow<()> {
        let place = &self.place;
        self.frames.decode(framed.frame, |delivery| place.note(delivery))
    }
}

/// Fails only if nobody waits any more.
fn tell(waiting: oneshot::Sender<()>) {
    let _ = waiting.send(());
}

async fn next(current: &mut Option<Attachment>) -> Next {
    match current {
        Some(attachment) => attachment.next().await,
        None => pending().await,
    }
}

async fn due(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
