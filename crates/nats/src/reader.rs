//! From the server to one node: its subscriptions, merged into one order, decoded, and handed over.

use std::{collections::HashMap, future::pending, ops::ControlFlow, sync::Arc, time::Duration};

use async_nats::Message as Arrival;
use futures_util::{StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::consume_budget,
    time::{Instant, sleep_until, timeout},
};
use trunkline_core::{
    Counters, Gap, GapCause, Message, Result,
    frame::Repeats,
    inbox::{Delivery, InboxSender},
    intake::Intake,
    interest::Bucket,
};

use crate::{
    attachment::{Attachment, Framed, Next},
    connection::Connection,
    merge::in_order,
    place::{Command, Place},
    shared::Shared,
};

/// How long a node reads from a server that is about to shut down after the next one has begun to deliver: what went through the old one
/// must have arrived by then.
pub(crate) const HANDOVER: Duration = Duration::from_millis(500);

/// The task that reads for one node.
pub(crate) struct Reader {
    place: Arc<Place>,
    intake: Intake,
    counters: Arc<Counters>,
    inbox: Arc<InboxSender>,
    line: watch::Receiver<Option<Arc<Connection>>>,
    commands: mpsc::Receiver<Command>,
    /// In use.
    current: Option<Attachment>,
    /// To be used when everything from the current one has arrived.
    next: Option<(Instant, Attachment)>,
    repeats: Repeats,
    entering: FuturesUnordered<BoxFuture<'static, Result<Bucket>>>,
    waiting: HashMap<Bucket, Vec<oneshot::Sender<()>>>,
    has_history: bool,
}

impl Reader {
    pub(crate) fn new(
        shared: &Shared,
        place: Arc<Place>,
        intake: Intake,
        counters: Arc<Counters>,
        inbox: Arc<InboxSender>,
        commands: mpsc::Receiver<Command>,
    ) -> Self {
        let mut line = shared.incoming.subscribe();
        line.mark_changed();
        Self {
            place,
            intake,
            counters,
            inbox,
            line,
            commands,
            current: None,
            next: None,
            repeats: Repeats::default(),
            entering: FuturesUnordered::new(),
            waiting: HashMap::new(),
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
        let place = Arc::clone(&self.place);
        tokio::select! {
            biased;
            changed = self.line.changed() => match changed {
                Ok(()) => self.follow().await,
                Err(_) => ControlFlow::Break(()),
            },
            command = self.commands.recv() => match command {
                Some(command) => self.command(command).await,
                None => ControlFlow::Break(()),
            },
            Some(entered) = self.entering.next() => self.entered(entered).await,
            () = due(self.next.as_ref().map(|(due, _)| *due)) => self.switch().await,
            () = place.left_rooms.notified() => ControlFlow::Continue(()),
            () = due(deadline(&place)) => self.give_up_buckets(),
            next = next(&mut self.current) => match next {
                Next::Arrived(batches) => self.arrived(batches).await,
                Next::Overflowed => self.tell([Delivery::Gap(Gap { cause: GapCause::Overflow, missed: None })]),
            },
        }
    }

    // --- connections ---

    /// Turns to the latest connection.
    async fn follow(&mut self) -> ControlFlow<()> {
        // A loss is noticed at the subscriptions, after everything that had arrived.
        let Some(connection) = self.line.borrow_and_update().clone() else { return ControlFlow::Continue(()) };
        let buckets: Vec<_> = self.place.interest().wanted().collect();
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
            self.counters.reconnects.increment();
        }
        self.tell([Delivery::Connected].into_iter().chain(is_gap.then_some(gap)))?;
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
        self.place.interest().deactivate_all();
        self.entering.clear();
        // Nothing arrives now, and the next connection begins with these buckets.
        for entered in self.waiting.drain().flat_map(|(_, waiting)| waiting) {
            tell(entered);
        }
        self.tell([Delivery::Lost(current.connection.life.reason())])
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

    async fn command(&mut self, command: Command) -> ControlFlow<()> {
        match command {
            Command::Enter(bucket, entered) => self.enter(bucket, entered).await,
            // Commands are read only when the latest connection is in use.
            Command::Follow(done) => tell(done),
        }
        ControlFlow::Continue(())
    }

    async fn enter(&mut self, bucket: Bucket, entered: oneshot::Sender<()>) {
        let is_active = self.place.interest().is_active(bucket);
        if is_active || self.current.is_none() {
            tell(entered);
            return;
        }
        let waiting = self.waiting.entry(bucket).or_default();
        waiting.push(entered);
        if waiting.len() > 1 {
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
        self.tell([Delivery::Subscribed(bucket.channel())])?;
        self.place.interest().set_active(bucket, true);
        for entered in self.waiting.remove(&bucket).unwrap_or_default() {
            tell(entered);
        }
        ControlFlow::Continue(())
    }

    fn give_up_buckets(&mut self) -> ControlFlow<()> {
        let expired = self.place.expired();
        for attachment in self.current.iter_mut().chain(self.next.as_mut().map(|(_, next)| next)) {
            expired.iter().for_each(|bucket| attachment.unsubscribe(*bucket));
        }
        self.tell(expired.into_iter().map(|bucket| Delivery::Unsubscribed(bucket.channel())))
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
        let frame = match framed.frame {
            Ok(frame) => frame,
            Err(error) => {
                self.intake.refused(&error);
                return ControlFlow::Continue(());
            }
        };
        if !self.repeats.is_new(frame.sender(), frame.number()) {
            return ControlFlow::Continue(());
        }
        let mut deliveries = Vec::new();
        for message in frame {
            match message {
                Ok(message) => deliveries.extend(self.intake.take(&message).inspect(|delivery| self.note(delivery))),
                Err(error) => self.intake.refused(&error),
            }
            // The inbox must know of a join before the next message is judged.
            if deliveries.last().is_some_and(is_join) {
                self.tell(deliveries.drain(..))?;
            }
        }
        self.tell(deliveries)
    }

    /// What concerns not only the node but also how its messages travel.
    fn note(&self, delivery: &Delivery) {
        match delivery {
            // Nodes may still be subscribing to these.
            Delivery::Message { message: Message::Join { rooms, .. }, .. } => self.place.hall.note_join(rooms),
            Delivery::Message { message: Message::Heartbeat(heartbeat), .. } if heartbeat.initial => {
                self.place.note_newcomer()
            }
            _ => {}
        }
    }

    fn tell(&self, deliveries: impl IntoIterator<Item = Delivery>) -> ControlFlow<()> {
        if self.inbox.push(deliveries) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    }
}

/// Whether rooms are about to be wanted.
pub(crate) fn is_join(delivery: &Delivery) -> bool {
    matches!(delivery, Delivery::Message { message: Message::Join { .. }, .. })
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

fn deadline(place: &Place) -> Option<Instant> {
    place.interest().deadline().map(Instant::from_std)
}

async fn due(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
