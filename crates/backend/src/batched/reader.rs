//! From the broker to the inbox of one node.
//!
//! A [`NodeSubscription`] brings batches in the order of each sender. Where the broker keeps what is not acknowledged,
//! nothing is handed to a full inbox, and nothing acknowledged meanwhile. When the server announces its shutdown, the
//! node reads from two connections for a while.

use std::{
    collections::VecDeque,
    future::pending,
    ops::ControlFlow,
    sync::{Arc, PoisonError},
    time::Duration,
};

use futures_util::{
    StreamExt as _,
    future::{BoxFuture, try_join_all},
    stream::FuturesUnordered,
};
use tokio::{
    sync::watch,
    task::consume_budget,
    time::{Instant, sleep_until},
};
use trunkline_core::{Gap, GapCause, Result, model::Delivery, transport::InboxSender};

use super::{
    Arrived, BatchBroker, BatchConnection as _, NodeSubscription as _, ReceivedBatch, Subscribing, node::JoinedNode,
    state::TransportState,
};
use crate::{
    decoder::BatchDecoder,
    rooms::{Bucket, SubscriptionQueue, SubscriptionRequest},
};

/// How long a node goes on to read from a server that is about to shut down: what went through it must have arrived by
/// then.
pub(super) const HANDOVER: Duration = Duration::from_millis(500);

/// Outcome of a change of subscriptions: the bucket that is active now, with the batches that waited in the broker then.
type SubscriptionChange = Result<Option<(Bucket, u64)>>;

/// The task that reads for one node.
pub(super) struct Reader<B: BatchBroker> {
    state: Arc<TransportState<B>>,
    node: Arc<JoinedNode<B>>,
    decoder: BatchDecoder,
    inbox: Arc<InboxSender>,
    connections: watch::Receiver<Option<Arc<B::Connection>>>,
    requests: SubscriptionQueue,
    current: Option<Subscribed<B>>,
    /// To be used when everything from the current one has arrived.
    next: Option<(Instant, Subscribed<B>)>,
    /// Has arrived, and is handed over when there is room.
    backlog: VecDeque<ReceivedBatch>,
    /// How many batches were handed over.
    handed_over: u64,
    unacknowledged: Option<u64>,
    /// Why nothing more comes.
    end: Option<String>,
    /// Resolve when a bucket is subscribed, with the batches that waited in the broker then, or to `None` when one is
    /// unsubscribed.
    changes: FuturesUnordered<BoxFuture<'static, SubscriptionChange>>,
    /// Buckets whose messages are complete when so many batches were handed over: what is before may count messages
    /// from before the subscription.
    subscribing: Vec<(u64, Bucket)>,
}

struct Subscribed<B: BatchBroker> {
    connection: Arc<B::Connection>,
    subscription: B::Subscription,
}

impl<B: BatchBroker> Reader<B> {
    pub(super) fn new(
        state: &Arc<TransportState<B>>,
        node: Arc<JoinedNode<B>>,
        decoder: BatchDecoder,
        inbox: Arc<InboxSender>,
        requests: SubscriptionQueue,
    ) -> Self {
        let mut connections = state.inbound.subscribe();
        connections.mark_changed();
        Self {
            state: Arc::clone(state),
            node,
            decoder,
            inbox,
            connections,
            requests,
            current: None,
            next: None,
            backlog: VecDeque::new(),
            handed_over: 0,
            unacknowledged: None,
            end: None,
            changes: FuturesUnordered::new(),
            subscribing: Vec::new(),
        }
    }

    /// Runs until the node leaves, or its inbox is gone.
    pub(super) async fn run(mut self) {
        let node = Arc::clone(&self.node);
        node.leaving.run_until_cancelled(async { while self.step().await.is_continue() {} }).await;
        if let Some(current) = self.current.filter(|current| !current.connection.has_ended()) {
            current.subscription.close().await;
        }
    }

    async fn step(&mut self) -> ControlFlow<()> {
        tokio::select! {
            biased;
            changed = self.connections.changed() => match changed {
                Ok(()) => self.follow().await,
                Err(_) => ControlFlow::Break(()),
            },
            request = self.requests.next() => match request {
                Some(request) => self.requested(request).await,
                None => ControlFlow::Break(()),
            },
            Some(change) = self.changes.next() => self.changed(change).await,
            () = due(self.next.as_ref()) => self.switch().await,
            arrived = next(&self.inbox, &self.backlog, &mut self.current) => match arrived {
                Some(arrived) => self.arrived(arrived).await,
                None => self.hand_over().await,
            },
        }
    }

    // --- connections ---

    /// Turns to the latest connection.
    async fn follow(&mut self) -> ControlFlow<()> {
        // A loss is noticed at the subscription, after everything that had arrived.
        let Some(connection) = self.connections.borrow_and_update().clone() else { return ControlFlow::Continue(()) };
        if self.current.as_ref().is_some_and(|current| current.connection.has_ended()) {
            self.leave_ended().await?;
        }
        let buckets = self.requests.wanted();
        match self.state.broker.subscribe(&connection, &self.node, &buckets).await {
            Ok(subscription) => self.subscribed(Subscribed { connection, subscription }, buckets),
            Err(error) => {
                tracing::warn!(node = %self.node.key.id, %error, "{} does not let a node subscribe", B::NAME);
                *self.node.refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                // The next one may.
                connection.abort("a node cannot subscribe");
                ControlFlow::Continue(())
            }
        }
    }

    fn subscribed(&mut self, subscribed: Subscribed<B>, buckets: Vec<Bucket>) -> ControlFlow<()> {
        if self.current.is_some() {
            self.next = Some((Instant::now() + HANDOVER, subscribed));
            return ControlFlow::Continue(());
        }
        self.current = Some(subscribed);
        for bucket in buckets {
            self.requests.subscribed(&bucket);
            self.decoder.tell([Delivery::Subscribed(bucket.channel())])?;
        }
        let is_return = self.node.subscribed.is_cancelled();
        if is_return {
            self.node.metrics.reconnects.increment();
        }
        // With a history, nothing that was said to all is lost.
        let is_gap = is_return && !self.state.has_history();
        self.node.tell_connected();
        self.decoder.tell(is_gap.then(connection_gap))?;
        self.node.subscribed.cancel();
        self.state.tell_obstacle(&self.node);
        ControlFlow::Continue(())
    }

    /// Takes what had arrived over a connection that has ended, whether the inbox is full or not.
    async fn leave_ended(&mut self) -> ControlFlow<()> {
        self.take_arrived().await;
        while let Some(received) = self.backlog.pop_front() {
            consume_budget().await;
            self.take(received)?;
        }
        self.lost()
    }

    /// The current connection is gone, and everything that had arrived over it was handed over.
    fn lost(&mut self) -> ControlFlow<()> {
        let Some(current) = self.current.take() else { return ControlFlow::Continue(()) };
        let reason = self.end.take().unwrap_or_else(|| current.connection.end_reason());
        // If only the queue is gone, a new connection is the way to a new one.
        current.connection.abort(&reason);
        self.unacknowledged = None;
        if let Some((_, next)) = self.next.take() {
            self.current = Some(next);
            return ControlFlow::Continue(());
        }
        self.changes.clear();
        self.subscribing.clear();
        self.requests.lost();
        self.node.lost(&reason);
        ControlFlow::Continue(())
    }

    /// Turns from a connection that still stands to the next one.
    async fn switch(&mut self) -> ControlFlow<()> {
        self.take_arrived().await;
        self.hand_over().await?;
        if let Some((_, next)) = self.next.take() {
            self.current = Some(next);
        }
        ControlFlow::Continue(())
    }

    // --- rooms ---

    async fn requested(&mut self, request: SubscriptionRequest) -> ControlFlow<()> {
        match request {
            SubscriptionRequest::Subscribe(bucket) => self.subscribe(bucket).await,
            SubscriptionRequest::Unsubscribe(buckets) => return self.unsubscribe(buckets),
            SubscriptionRequest::Rebind(rebound) => {
                // The connection may have changed since it was looked at.
                if self.connections.has_changed().unwrap_or(false) {
                    self.follow().await?;
                }
                // Fails only if the caller no longer waits.
                let _ = rebound.send(());
            }
        }
        ControlFlow::Continue(())
    }

    async fn subscribe(&mut self, bucket: Bucket) {
        if self.current.is_none() {
            return self.requests.defer(&bucket);
        }
        let mut subscribing: Vec<Subscribing> = Vec::new();
        for subscribed in self.current.iter_mut().chain(self.next.as_mut().map(|(_, next)| next)) {
            match subscribed.subscription.subscribe(bucket, self.node.namespace.room(bucket)).await {
                Ok(on_its_way) => subscribing.push(on_its_way),
                // The connection is gone: the next one begins with this bucket.
                Err(_) => return,
            }
        }
        self.changes.push(Box::pin(async move {
            let waiting = try_join_all(subscribing).await?;
            Ok(Some((bucket, waiting.into_iter().max().unwrap_or_default())))
        }));
    }

    async fn changed(&mut self, change: Result<Option<(Bucket, u64)>>) -> ControlFlow<()> {
        // What failed, failed with the connection.
        let Ok(Some((bucket, waiting))) = change else { return ControlFlow::Continue(()) };
        self.take_arrived().await;
        self.subscribing.push((self.handed_over + self.backlog.len() as u64 + waiting, bucket));
        self.requests.subscribed(&bucket);
        self.hand_over().await
    }

    /// Tells the node of the buckets whose messages are complete from here on.
    fn push_subscribed(&mut self) -> ControlFlow<()> {
        let handed_over = self.handed_over;
        let complete: Vec<_> = self.subscribing.extract_if(.., |(after, _)| *after <= handed_over).collect();
        let active = complete.into_iter().filter(|(_, bucket)| self.requests.is_active(bucket));
        self.decoder.tell(active.map(|(_, bucket)| Delivery::Subscribed(bucket.channel())))
    }

    fn unsubscribe(&mut self, buckets: Vec<Bucket>) -> ControlFlow<()> {
        for subscribed in self.current.iter_mut().chain(self.next.as_mut().map(|(_, next)| next)) {
            for bucket in &buckets {
                let done = subscribed.subscription.unsubscribe(*bucket, self.node.namespace.room(*bucket));
                self.changes.push(Box::pin(async { done.await.map(|()| None) }));
            }
        }
        self.decoder.tell(buckets.into_iter().map(|bucket| Delivery::Unsubscribed(bucket.channel())))
    }

    // --- messages ---

    async fn arrived(&mut self, arrived: Arrived) -> ControlFlow<()> {
        match arrived {
            Arrived::Batches(batches) => self.backlog.extend(batches),
            Arrived::Overflowed => {
                self.decoder.tell([Delivery::Gap(Gap { cause: GapCause::Overflow, missed: None })])?;
            }
            Arrived::Ended(reason) => self.end = Some(reason),
        }
        self.hand_over().await
    }

    async fn take_arrived(&mut self) {
        if let Some(current) = &mut self.current {
            self.backlog.extend(current.subscription.arrived().await);
        }
    }

    /// Hands over what has arrived, as far as there is room.
    async fn hand_over(&mut self) -> ControlFlow<()> {
        self.push_subscribed()?;
        while !(B::KEEPS_UNACKNOWLEDGED && self.inbox.is_full())
            && let Some(received) = self.backlog.pop_front()
        {
            consume_budget().await;
            self.take(received)?;
        }
        if !self.backlog.is_empty() {
            return ControlFlow::Continue(());
        }
        if let (Some(current), Some(tag)) = (&self.current, self.unacknowledged.take()) {
            current.subscription.acknowledge(tag).await;
        }
        if self.end.is_some() { self.lost() } else { ControlFlow::Continue(()) }
    }

    fn take(&mut self, received: ReceivedBatch) -> ControlFlow<()> {
        self.handed_over += 1;
        self.unacknowledged = Some(received.tag);
        let node = &self.node;
        self.decoder.decode(received.batch, |delivery| node.note(delivery))?;
        if self.subscribing.is_empty() { ControlFlow::Continue(()) } else { self.push_subscribed() }
    }
}

/// The gap that a lost connection makes.
pub(super) fn connection_gap() -> Delivery {
    Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None })
}

/// What arrives next; `None` when the inbox has room for more of the backlog. *Cancel safe.*
async fn next<B: BatchBroker>(
    inbox: &InboxSender,
    backlog: &VecDeque<ReceivedBatch>,
    current: &mut Option<Subscribed<B>>,
) -> Option<Arrived> {
    if B::KEEPS_UNACKNOWLEDGED {
        inbox.ready().await;
    }
    match current {
        _ if !backlog.is_empty() => None,
        Some(current) => Some(current.subscription.next().await),
        None => pending().await,
    }
}

async fn due<B: BatchBroker>(next: Option<&(Instant, Subscribed<B>)>) {
    match next {
        Some((due, _)) => sleep_until(*due).await,
        None => pending().await,
    }
}
