//! The task that drives one engine over one backend.

use std::{
    collections::{HashMap, VecDeque},
    future,
    sync::{Arc, Weak},
};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    NodeConfig,
    adapter::AckItem,
    command::{Command, Own, Waiter, Waiting},
    handle::Peers,
    outgoing::{Job, Outgoing},
};
use crate::{
    engine::{Engine, Input, Output, Request},
    error::{Answers, Error, ErrorKind, Result},
    model::{Answer, Delivery, Event, Message, NodeId, NodeKey, NodeMetrics, Offset, RequestId, Response, Room},
    payload::Payload,
    server::{AckSink, DeliveryReport, EventReply, Local, LocalAnswer},
    transport::{Backend, Inbox, NodeCount},
};

/// Drives one engine. Everything it does not do at once stands in `outgoing`, in order.
#[derive(Debug)]
pub(crate) struct Driver {
    node: NodeKey,
    backend: Backend,
    local: Weak<dyn Local>,
    config: NodeConfig,
    metrics: Arc<NodeMetrics>,
    events: broadcast::Sender<Event>,
    peers: watch::Sender<Peers>,
    peers_version: Option<u64>,
    /// What the last delivery asked for.
    delivered: DeliveryReport,
    engine: Engine,
    outgoing: VecDeque<Outgoing>,
    wants_census: bool,
    waiters: HashMap<RequestId, Waiting>,
    /// Acknowledged broadcasts on their way out, which the own clients get in their place among what the caller sends.
    own: HashMap<RequestId, Own>,
    answers: mpsc::UnboundedSender<LocalAnswer>,
    received_answers: Option<mpsc::UnboundedReceiver<LocalAnswer>>,
}

/// Deliveries after which the sockets get their turn to flush, well below the default buffer of a socketioxide socket (128 packets).
const PACE: usize = 32;

impl Driver {
    pub(crate) fn new(
        node: NodeKey,
        backend: Backend,
        local: Weak<dyn Local>,
        config: NodeConfig,
        metrics: Arc<NodeMetrics>,
        events: broadcast::Sender<Event>,
        peers: watch::Sender<Peers>,
    ) -> Self {
        let engine = Engine::new(node.clone(), backend.transport.capabilities(), config.engine, Arc::clone(&metrics));
        let (answers, received_answers) = mpsc::unbounded_channel();
        Self {
            node,
            backend,
            local,
            config,
            metrics,
            events,
            peers,
            peers_version: None,
            delivered: DeliveryReport::default(),
            engine,
            outgoing: VecDeque::new(),
            wants_census: false,
            waiters: HashMap::new(),
            own: HashMap::new(),
            answers,
            received_answers: Some(received_answers),
        }
    }

    /// Runs until the node is closed, the server is gone or every handle is.
    pub(crate) async fn run(
        mut self,
        mut inbox: Inbox,
        mut commands: mpsc::Receiver<Command>,
        mut closing: watch::Receiver<bool>,
        ended: watch::Sender<bool>,
    ) {
        let mut ended = Ended(Some(ended));
        self.input(Input::Start);
        self.serve_until_closed(&mut inbox, &mut commands, &mut closing).await;
        self.say_goodbye().await;
        drop(inbox);
        drop(self);
        ended.tell();
    }

    async fn serve_until_closed(
        &mut self,
        inbox: &mut Inbox,
        commands: &mut mpsc::Receiver<Command>,
        closing: &mut watch::Receiver<bool>,
    ) {
        let Some(mut answers) = self.received_answers.take() else { return };
        let mut sending: Option<Job<Result<()>>> = None;
        let mut counting: Option<Job<Option<NodeCount>>> = None;
        let mut batch = VecDeque::new();
        loop {
            if self.local.strong_count() == 0 {
                return;
            }
            sending = sending.or_else(|| {
                self.outgoing.front().map(|outgoing| outgoing.send(&self.backend, self.node.clone(), &self.local))
            });
            counting = counting.or_else(|| self.count());
            let deadline = self.engine.deadline();
            tokio::select! {
                () = closed(closing) => return,
                open = inbox.next_batch(&mut batch) => {
                    if !open {
                        return;
                    }
                    self.deliver(&mut batch).await;
                }
                command = commands.recv() => match command {
                    Some(command) => self.command(command),
                    None => return,
                },
                Some(answer) = answers.recv() => self.local_answer(answer),
                result = poll(&mut sending), if sending.is_some() => {
                    sending = None;
                    self.sent(result);
                }
                count = poll(&mut counting), if counting.is_some() => {
                    counting = None;
                    self.input(Input::NodeCount(count));
                }
                () = sleep(deadline) => self.input(Input::Tick),
            }
        }
    }

    /// Announces the leave and gives the seat back, both bounded in time.
    async fn say_goodbye(&mut self) {
        self.input(Input::Leave);
        let transport = Arc::clone(&self.backend.transport);
        let limit = self.config.leave_timeout;
        let last_words = async {
            while let Some(outgoing) = self.outgoing.pop_front() {
                let _ = outgoing.send(&self.backend, self.node.clone(), &self.local).await;
            }
        };
        let _ = timeout(limit, last_words).await;
        if let Ok(Err(error)) = timeout(limit, transport.leave(&self.node)).await {
            tracing::debug!(node = %self.node.id, %error, "leaving failed");
        }
    }

    // --- input ---

    fn input(&mut self, input: Input) {
        self.engine.handle(Instant::now().into_std(), input);
        self.perform();
    }

    async fn deliver(&mut self, batch: &mut VecDeque<Delivery>) {
        let mut paced = 0;
        while let Some(delivery) = batch.pop_front() {
            paced += 1;
            self.input(Input::Delivery(delivery));
            std::mem::take(&mut self.delivered).hold_back().await;
            if paced == PACE {
                paced = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Request { request, waiter, entered } => self.request(*request, waiter, entered),
            Command::Cancel(id) => {
                self.waiters.remove(&id);
                self.input(Input::Cancel(id));
            }
            Command::RoomsChanged { rooms, were_entered } => self.interest(rooms, were_entered),
            Command::Recount => self.wants_census = true,
        }
    }

    fn request(&mut self, request: Request, mut waiter: Waiter, entered: oneshot::Sender<Result<()>>) {
        let (id, is_local) = (request.id.clone(), request.message.is_none());
        let own = waiter.take_own().filter(|_| is_local || !self.acknowledged_come_back());
        self.own.extend(own.map(|own| (id.clone(), own)));
        self.waiters.insert(id.clone(), Waiting { waiter, entered: Some(entered) });
        self.input(Input::Request(request));
        if is_local {
            self.entered(&id, Ok(()));
        }
    }

    /// The message of a request has its place in the queue, or never will. Own clients get it, also if nobody wants to wait for them, unless
    /// it is refused as a whole.
    fn entered(&mut self, id: &RequestId, result: Result<()>) {
        let is_refused =
            result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Closed));
        if let Some(own) = self.own.remove(id).filter(|_| !is_refused) {
            self.ask_own_clients(id.clone(), own);
        }
        if let Some(waiting) = self.waiters.get_mut(id) {
            waiting.enter(result.clone());
        }
        if let Err(error) = result {
            self.input(Input::PublishFailed(id.clone(), error));
        }
    }

    /// With history, the own clients get acknowledged broadcasts in the common order, as they do plain ones, if that is promised.
    fn acknowledged_come_back(&self) -> bool {
        self.backend.history.is_some() && self.backend.transport.capabilities().acknowledged_in_order
    }

    fn ask_own_clients(&mut self, id: RequestId, (target, payload, timeout): Own) {
        let Some(local) = self.local.upgrade() else { return };
        let replies = AckSink::new(None, id.clone(), self.answers.clone());
        let count = local.deliver_with_ack(&target, &payload, timeout, replies);
        self.metrics.sent_to_sockets.add(u64::from(count));
        self.local_answer(LocalAnswer { to: None, request: id, answer: Answer::ClientCount(count) });
    }

    fn local_answer(&mut self, LocalAnswer { to, request, answer }: LocalAnswer) {
        self.input(Input::LocalAnswer { to, request, answer });
    }

    // --- output ---

    fn perform(&mut self) {
        // First, so that whoever hears of a node finds it counted.
        self.publish_peers();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Publish(message) => self.publish(message),
                Output::Send(to, response) => drop(self.queue(Outgoing::Send(to, response))),
                Output::Serve { from, message, offset } => self.serve(from, message, offset.as_ref()),
                Output::Acknowledged(id, value) => self.acknowledged(&id, value),
                Output::Finished(id, result) => self.finished(&id, result),
                Output::AskCensus => self.wants_census = true,
                Output::Event(event) => drop(self.events.send(event)),
            }
        }
    }

    fn publish_peers(&mut self) {
        let version = self.engine.membership_version();
        if self.peers_version != Some(version) {
            self.peers_version = Some(version);
            let mut names: Vec<_> = self.engine.members().cloned().collect();
            names.sort_unstable();
            self.peers.send_replace(Peers { names, count: self.engine.peer_count() });
        }
    }

    fn publish(&mut self, message: Message) {
        let request = message.request().cloned();
        if let (Err(error), Some(id)) = (self.queue(Outgoing::Publish(message)), request) {
            self.entered(&id, Err(error));
        }
    }

    fn queue(&mut self, outgoing: Outgoing) -> Result<()> {
        let waiting = self.outgoing.len();
        // What the broker is not told about rooms, nobody would tell it later.
        if waiting >= self.config.max_outgoing && !matches!(outgoing, Outgoing::Interest { .. }) {
            self.metrics.outgoing_overflow.increment();
            let context = format!("{waiting} answers and requests wait for the transport, more are not allowed");
            return Err(Error::new(ErrorKind::QueueFull, context));
        }
        self.outgoing.push_back(outgoing);
        Ok(())
    }

    fn acknowledged(&self, id: &RequestId, value: Option<Payload>) {
        if let Some(Waiting { waiter: Waiter::Acks { items, .. }, .. }) = self.waiters.get(id) {
            // Fails only when the caller is gone; its cancellation is on the way.
            let _ = items.send(AckItem::Ack(value));
        }
    }

    fn finished(&mut self, id: &RequestId, result: Result<Answers>) {
        let Some(mut waiting) = self.waiters.remove(id) else { return };
        waiting.enter(match &result {
            Err(error) if error.partial().is_none() => Err(error.clone()),
            _ => Ok(()),
        });
        match waiting.waiter {
            Waiter::Answers(answers) => drop(answers.send(result)),
            Waiter::Acks { items, .. } => drop(items.send(AckItem::End(result))),
        }
    }

    /// Applies a message to the local sockets.
    fn serve(&mut self, from: NodeId, message: Message, offset: Option<&Offset>) {
        let Some(local) = self.local.upgrade() else { return };
        match message {
            Message::Broadcast { request: None, target, payload } => {
                let delivered = local.deliver(&target, &payload, offset);
                self.metrics.sent_to_sockets.add(delivered.sent);
                self.metrics.dropped_by_sockets.add(delivered.dropped);
                self.delivered = delivered;
            }
            Message::Broadcast { request: Some(request), target, payload } => {
                let timeout = target.flags.timeout.unwrap_or(self.config.request_timeout);
                if from == self.node.id {
                    return self.ask_own_clients(request, (target, payload, timeout));
                }
                let replies = AckSink::new(Some(from.clone()), request.clone(), self.answers.clone());
                let count = local.deliver_with_ack(&target, &payload, timeout, replies);
                self.metrics.sent_to_sockets.add(u64::from(count));
                self.answer(from, request, Answer::ClientCount(count));
            }
            Message::Join { target, rooms } => {
                local.join(&target, &rooms);
                self.interest(rooms, false);
            }
            Message::Leave { target, rooms } => {
                local.leave(&target, &rooms);
                self.interest(rooms, true);
            }
            Message::Disconnect { target, close } => local.disconnect(&target, close),
            Message::FetchSockets { request, target } => {
                self.answer(from, request, Answer::Sockets(local.sockets(&target)));
            }
            Message::AllRooms { request } => self.answer(from, request, Answer::Rooms(local.rooms())),
            Message::ServerSideEmit { request, payload } => {
                let reply = request
                    .map(|request| EventReply::new(AckSink::new(Some(from.clone()), request, self.answers.clone())));
                local.server_side_event(&from, &payload, reply);
            }
            Message::Heartbeat(_) | Message::Leaving => {}
        }
    }

    fn answer(&mut self, to: NodeId, request: RequestId, answer: Answer) {
        drop(self.queue(Outgoing::Send(to, Response { request, answer })));
    }

    /// Local sockets were moved into or out of rooms: the broker has to know.
    fn interest(&mut self, rooms: Vec<Room>, were_entered: bool) {
        if self.backend.interest.is_some() {
            drop(self.queue(Outgoing::Interest { rooms, were_entered }));
        }
    }

    // --- what takes time ---

    fn sent(&mut self, result: Result<()>) {
        let Some(outgoing) = self.outgoing.pop_front() else { return };
        match &result {
            Ok(()) => self.metrics.published.increment(),
            Err(error) => {
                self.metrics.publish_errors.increment();
                tracing::debug!(node = %self.node.id, %error, "publishing failed");
            }
        }
        if let Outgoing::Publish(message) = outgoing
            && let Some(id) = message.request()
        {
            self.entered(id, result);
        }
    }

    fn count(&mut self) -> Option<Job<Option<NodeCount>>> {
        if !std::mem::take(&mut self.wants_census) {
            return None;
        }
        let node_counter = self.backend.node_counter.clone()?;
        let node = self.node.clone();
        let known = self.engine.begin_count(Instant::now().into_std());
        Some(Box::pin(async move {
            node_counter
                .count_nodes(&node, &known)
                .await
                .inspect_err(|error| tracing::debug!(%error, "counting nodes failed"))
                .ok()
        }))
    }
}

/// Polls a job that is known to be there.
async fn poll<T>(job: &mut Option<Job<T>>) -> T {
    match job {
        Some(job) => job.await,
        None => future::pending().await,
    }
}

/// Waits until the node is closed, or all its handles are gone.
async fn closed(closing: &mut watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn sleep(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
        None => future::pending().await,
    }
}

/// Tells that the driver is gone, also when it panics.
struct Ended(Option<watch::Sender<bool>>);

impl Ended {
    fn tell(&mut self) {
        if let Some(ended) = self.0.take() {
            ended.send_replace(true);
        }
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.tell();
    }
}
