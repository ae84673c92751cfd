//! From the queue of one node to its inbox.
//!
//! Everything that a node receives comes through one queue, so it comes in order. While the inbox is full nothing is acknowledged, and the
//! broker keeps what comes, up to the limits of the queue.

use std::{collections::VecDeque, future::pending, ops::ControlFlow, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use lapin::message::Delivery as Arrival;
use tokio::{
    sync::{oneshot, watch},
    task::consume_budget,
    time::timeout,
};
use trunkline_backend::{
    batch::Batch,
    decoder::BatchDecoder,
    rooms::{Bucket, SubscriptionQueue, SubscriptionRequest},
};
use trunkline_core::{Error, ErrorKind, Gap, GapCause, model::Delivery, transport::InboxSender};

use crate::{
    attachment::{Arrived, Attachment, Change},
    connection::Connection,
    place::Place,
    shared::Shared,
};

/// How long a queue may take to go.
const GOODBYE: Duration = Duration::from_secs(1);

/// The task that reads for one node.
pub(crate) struct Reader {
    shared: Arc<Shared>,
    place: Arc<Place>,
    frames: BatchDecoder,
    inbox: Arc<InboxSender>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    requests: SubscriptionQueue,
    current: Option<Attachment>,
    /// Has arrived, and is to be handed over when there is room.
    backlog: VecDeque<Arrival>,
    /// How many deliveries of the current connection were handed over.
    handed: u64,
    unacknowledged: Option<u64>,
    /// Why nothing more comes.
    loss: Option<String>,
    changes: FuturesUnordered<BoxFuture<'static, lapin::Result<Change>>>,
    /// Bound, and complete when so many deliveries were handed over: what is before may count messages from before the binding.
    subscribing: Vec<(u64, Bucket)>,
}

impl Reader {
    pub(crate) fn new(
        shared: &Arc<Shared>,
        place: Arc<Place>,
        frames: BatchDecoder,
        inbox: Arc<InboxSender>,
        requests: SubscriptionQueue,
    ) -> Self {
        let mut line = shared.incoming.subscribe();
        line.mark_changed();
        Self {
            shared: Arc::clone(shared),
            place,
            frames,
            inbox,
            line,
            requests,
            current: None,
            backlog: VecDeque::new(),
            handed: 0,
            unacknowledged: None,
            loss: None,
            changes: FuturesUnordered::new(),
            subscribing: Vec::new(),
        }
    }

    /// Runs until the node leaves, or nobody reads its inbox any more.
    pub(crate) async fn run(mut self) {
        let place = Arc::clone(&self.place);
        tokio::select! {
            () = place.leaving.cancelled() => {}
            () = async { while self.step().await.is_continue() {} } => {}
        }
        if let Some(current) = self.current.filter(|current| !current.connection.has_ended()) {
            // Otherwise it goes with the connection.
            let _ = timeout(GOODBYE, current.close()).await;
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
            Some(change) = self.changes.next() => self.changed(change).await,
            next = next(&self.inbox, &self.backlog, &mut self.current) => match next {
                Next::Room => self.hand_over().await,
                Next::Arrived(arrived) => self.arrived(arrived).await,
            },
        }
    }

    // --- connections ---

    /// Turns to the latest connection.
    async fn follow(&mut self) -> ControlFlow<()> {
        // A loss is noticed at the deliveries, after everything that had arrived.
        let Some(connection) = self.line.borrow_and_update().clone() else { return ControlFlow::Continue(()) };
        self.leave_lost().await?;
        let buckets = self.requests.wanted();
        let connector = &self.shared.connector;
        let sender = connector.sender.to_string();
        let opening = Attachment::open(&connection, &connector.config, &self.place, &buckets, &sender);
        match connection.outcome(opening).await {
            Ok(attachment) => self.attached(attachment, buckets),
            Err(error) => {
                tracing::warn!(node = %self.place.node.id, %error, "the broker does not let a node listen");
                self.place.refused(Error::new(ErrorKind::Broker, "no queue for the node").with_source(error));
                // The next one may.
                connection.cut();
                ControlFlow::Continue(())
            }
        }
    }

    fn attached(&mut self, attachment: Attachment, buckets: Vec<Bucket>) -> ControlFlow<()> {
        self.current = Some(attachment);
        self.handed = 0;
        for bucket in buckets {
            self.requests.subscribed(bucket);
            self.frames.tell([Delivery::Subscribed(bucket.channel())])?;
        }
        let is_return = self.place.attached.is_cancelled();
        if is_return {
            self.place.metrics.reconnects.increment();
        }
        let gap = Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None });
        // Where there is a history, nothing that was said to all is lost.
        let is_gap = is_return && !self.shared.has_history();
        self.frames.tell([Delivery::Connected].into_iter().chain(is_gap.then_some(gap)))?;
        self.place.attached.cancel();
        ControlFlow::Continue(())
    }

    /// Takes what had arrived over the connection before, whether there is room for it or not.
    async fn leave_lost(&mut self) -> ControlFlow<()> {
        let Some(current) = &mut self.current else { return ControlFlow::Continue(()) };
        self.backlog.extend(current.take_arrived().into_iter().flatten());
        while let Some(arrival) = self.backlog.pop_front() {
            consume_budget().await;
            self.take_in(arrival)?;
        }
        let reason = self.loss.take().unwrap_or_else(|| "the connection was closed".into());
        self.lost(reason)
    }

    /// The current connection is gone, and everything that had arrived over it was handed over.
    fn lost(&mut self, reason: String) -> ControlFlow<()> {
        let Some(current) = self.current.take() else { return ControlFlow::Continue(()) };
        // If only the queue is gone, a new connection is the way to a new one.
        current.connection.cut();
        self.changes.clear();
        self.subscribing.clear();
        self.unacknowledged = None;
        self.requests.lost();
        self.frames.tell([Delivery::Lost(reason)])
    }

    // --- rooms ---

    async fn requested(&mut self, request: SubscriptionRequest) -> ControlFlow<()> {
        match request {
            SubscriptionRequest::Subscribe(bucket) => match &self.current {
                Some(current) => self.changes.push(current.bind(bucket, self.place.hall.keys.room(bucket))),
                None => self.requests.defer(bucket),
            },
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

    async fn changed(&mut self, change: lapin::Result<Change>) -> ControlFlow<()> {
        // What failed, failed with the connection.
        let Ok(Change::Bound(bucket, queued)) = change else { return ControlFlow::Continue(()) };
        self.requests.subscribed(bucket);
        if let Some(current) = &mut self.current {
            let arrived = current.take_arrived();
            self.note_arrived(arrived);
        }
        self.subscribing.push((self.handed + self.backlog.len() as u64 + queued, bucket));
        self.hand_over().await
    }

    /// Tells of the buckets whose messages are complete from here on.
    fn subscribed(&mut self) -> ControlFlow<()> {
        let handed = self.handed;
        let complete: Vec<_> = self.subscribing.extract_if(.., |(after, _)| *after <= handed).collect();
        self.frames.tell(
            complete
                .into_iter()
                .filter(|(_, bucket)| self.requests.is_active(*bucket))
                .map(|(_, bucket)| Delivery::Subscribed(bucket.channel())),
        )
    }

    fn give_up(&mut self, buckets: Vec<Bucket>) -> ControlFlow<()> {
        if let Some(current) = &self.current {
            self.changes.extend(buckets.iter().map(|bucket| current.unbind(self.place.hall.keys.room(*bucket))));
        }
        self.frames.tell(buckets.into_iter().map(|bucket| Delivery::Unsubscribed(bucket.channel())))
    }

    // --- messages ---

    async fn arrived(&mut self, arrived: Arrived) -> ControlFlow<()> {
        match arrived {
            Some(arrived) => self.note_arrived(arrived),
            None => self.loss = Some(self.loss.take().unwrap_or_else(|| "the queue was deleted".into())),
        }
        self.hand_over().await
    }

    fn note_arrived(&mut self, arrived: Vec<lapin::Result<Arrival>>) {
        for arrival in arrived {
            match arrival {
                Ok(arrival) => self.backlog.push_back(arrival),
                Err(error) => self.loss = Some(error.to_string()),
            }
        }
    }

    /// Hands over what has arrived, as far as there is room.
    async fn hand_over(&mut self) -> ControlFlow<()> {
        self.subscribed()?;
        while !self.backlog.is_empty() && !self.inbox.is_full() {
            consume_budget().await;
            let Some(arrival) = self.backlog.pop_front() else { break };
            self.take_in(arrival)?;
        }
        if !self.backlog.is_empty() {
            return ControlFlow::Continue(());
        }
        if let (Some(current), Some(tag)) = (&self.current, self.unacknowledged.take()) {
            current.acknowledge(tag).await;
        }
        match self.loss.take() {
            Some(reason) => self.lost(reason),
            None => ControlFlow::Continue(()),
        }
    }

    fn take_in(&mut self, arrival: Arrival) -> ControlFlow<()> {
        self.handed += 1;
        self.unacknowledged = Some(arrival.delivery_tag);
        let place = &self.place;
        self.frames.decode(Batch::parse(arrival.data.into()), |delivery| place.note(delivery))?;
        if self.subscribing.is_empty() { ControlFlow::Continue(()) } else { self.subscribed() }
    }
}

/// Fails only if nobody waits any more.
fn tell(waiting: oneshot::Sender<()>) {
    let _ = waiting.send(());
}

/// What there is to do about messages.
enum Next {
    /// There is room for more of the backlog.
    Room,
    Arrived(Arrived),
}

/// *Cancel safe.*
async fn next(inbox: &InboxSender, backlog: &VecDeque<Arrival>, current: &mut Option<Attachment>) -> Next {
    inbox.ready().await;
    match current {
        _ if !backlog.is_empty() => Next::Room,
        Some(attachment) => Next::Arrived(attachment.next().await),
        None => pending().await,
    }
}
