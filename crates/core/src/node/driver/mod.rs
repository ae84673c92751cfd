//! The task of a node: it drives the engine over the backend.

mod answers;
mod measures;
mod sending;
mod status;

use std::{
    collections::{HashMap, VecDeque},
    future,
    sync::{Arc, Weak},
};

use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

use self::measures::{Measures, outcome, request_kind};
use super::{
    NodeConfig,
    acks::AckItem,
    command::{Command, InFlight, LocalAckBroadcast, ResponseSink},
    condition::Condition,
    outage::{Losses, Outages},
    outgoing::{Job, Outgoing},
    position::Position,
    returning::Returning,
    sessions::LiveSessions,
};
use crate::{
    engine::{Engine, Gathered, Input, Output, Request},
    error::{Error, ErrorKind, Result},
    model::{
        Ack, Answer, Capabilities, Delivery, Event, Message, NodeId, NodeKey, NodeMetrics, Offset, RequestError,
        RequestId, RequestOutcome, Room,
    },
    server::{AckSink, DeliveryReport, EventReply, Local, LocalAnswer},
    trace,
    transport::{Backend, Inbox, NodeCount},
};

/// The other nodes, as the driver last knew them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Peers {
    pub(super) names: Vec<NodeId>,
    pub(super) count: usize,
}

/// Where a driver reports what happens.
pub(super) struct Observers {
    pub(super) metrics: Arc<NodeMetrics>,
    pub(super) condition: Arc<Condition>,
    pub(super) events: broadcast::Sender<Event>,
    pub(super) peers: watch::Sender<Peers>,
    pub(super) returning: Arc<Returning>,
    pub(super) position: watch::Sender<Position>,
    pub(super) sessions: Arc<LiveSessions>,
}

/// Task of one node: feeds its engine with deliveries, commands, answers and time, and does what the engine says. What
/// takes time waits in `outgoing`, in order.
#[derive(Debug)]
pub(crate) struct Driver {
    node: NodeKey,
    backend: Backend,
    capabilities: Capabilities,
    local: Weak<dyn Local>,
    config: NodeConfig,
    metrics: Arc<NodeMetrics>,
    condition: Arc<Condition>,
    outages: Outages,
    events: broadcast::Sender<Event>,
    peers: watch::Sender<Peers>,
    returning: Arc<Returning>,
    position: watch::Sender<Position>,
    sessions: Arc<LiveSessions>,
    peers_version: Option<u64>,
    /// Report of the last delivery, with the pause it asked for.
    last_report: DeliveryReport,
    engine: Engine,
    outgoing: VecDeque<Outgoing>,
    count_wanted: bool,
    in_flight: HashMap<RequestId, InFlight>,
    /// Acknowledged broadcasts on their way out, which the own clients get in their place among what the caller sends.
    local_acks: HashMap<RequestId, LocalAckBroadcast>,
    /// Whether it was logged that an official peer could not be answered.
    told_too_large: bool,
    answers: mpsc::UnboundedSender<LocalAnswer>,
    received_answers: Option<mpsc::UnboundedReceiver<LocalAnswer>>,
}

/// Deliveries after which the sockets get their turn to flush, well below the default buffer of a socketioxide socket
/// (128 packets).
const PACE: usize = 32;

/// Answers that are taken in, or handed to the transport, before anything else is looked at.
const AT_ONCE: usize = 128;

impl Driver {
    pub(crate) fn new(
        node: NodeKey,
        backend: Backend,
        capabilities: Capabilities,
        local: Weak<dyn Local>,
        config: NodeConfig,
        Observers { metrics, condition, events, peers, returning, position, sessions }: Observers,
    ) -> Self {
        let engine = Engine::new(node.clone(), capabilities, config.engine, Arc::clone(&metrics));
        let (answers, received_answers) = mpsc::unbounded_channel();
        Self {
            node,
            backend,
            capabilities,
            local,
            outages: Outages::new(config.engine.gap_grace),
            config,
            metrics,
            condition,
            events,
            peers,
            returning,
            position,
            sessions,
            peers_version: None,
            last_report: DeliveryReport::default(),
            engine,
            outgoing: VecDeque::new(),
            count_wanted: false,
            in_flight: HashMap::new(),
            local_acks: HashMap::new(),
            told_too_large: false,
            answers,
            received_answers: Some(received_answers),
        }
    }

    /// Runs until the node is closed, the server is gone or every handle is.
    pub(crate) async fn run(
        mut self,
        mut inbox: Inbox,
        mut commands: mpsc::Receiver<Command>,
        closing: CancellationToken,
    ) {
        self.input(Input::Start);
        self.serve_until_closed(&mut inbox, &mut commands, &closing).await;
        self.leave().await;
        self.metrics.give();
    }

    async fn serve_until_closed(
        &mut self,
        inbox: &mut Inbox,
        commands: &mut mpsc::Receiver<Command>,
        closing: &CancellationToken,
    ) {
        let Some(mut answers) = self.received_answers.take() else { return };
        let mut sending: Option<Job<Result<()>>> = None;
        let mut counting: Option<Job<Option<NodeCount>>> = None;
        let mut batch = VecDeque::new();
        let mut answered = Vec::new();
        let mut measures = Measures::of(&self.metrics);
        loop {
            if self.local.strong_count() == 0 {
                return;
            }
            sending = sending.or_else(|| self.send_queued());
            counting = counting.or_else(|| self.count());
            let deadline = self.engine.deadline().into_iter().chain(self.outages.due()).min();
            tokio::select! {
                () = closing.cancelled() => return,
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
                // The clients of a broadcast answer at about the same time: their answers go together.
                _ = answers.recv_many(&mut answered, AT_ONCE) => {
                    answered.drain(..).for_each(|answer| self.local_answer(answer));
                }
                result = poll(&mut sending), if sending.is_some() => {
                    sending = None;
                    self.sent(result);
                }
                count = poll(&mut counting), if counting.is_some() => {
                    counting = None;
                    self.input(Input::NodeCount(count));
                }
                () = sleep(deadline) => self.tick(),
                measure = measures.next(&self.backend, &self.node) => self.measured(&measure, inbox.len()),
            }
        }
    }

    /// Announces the leave and ends the membership, both bounded in time.
    async fn leave(&mut self) {
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

    fn tick(&mut self) {
        self.input(Input::Tick);
        let losses = || Losses::now(&self.metrics, &*self.backend.transport);
        self.outages.tell(Instant::now().into_std(), &self.node, losses);
    }

    async fn deliver(&mut self, batch: &mut VecDeque<Delivery>) {
        let mut paced = 0;
        while let Some(delivery) = batch.pop_front() {
            paced += 1;
            trace::receive(self.backend.name, &self.node).in_scope(|| self.input(Input::Delivery(delivery)));
            std::mem::take(&mut self.last_report).wait_for_sockets().await;
            if paced == PACE {
                paced = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Request { request, sink, published } => self.request(*request, sink, published),
            Command::Cancel(id) => {
                if let Some(request) = self.in_flight.remove(&id) {
                    self.export_request(&request, RequestOutcome::Cancelled);
                }
                self.input(Input::Cancel(id));
            }
            Command::RoomsChanged { rooms, had_members } => self.interest(rooms, had_members),
            Command::CountNodes => self.count_wanted = true,
        }
    }

    fn request(&mut self, request: Request, mut sink: ResponseSink, published: oneshot::Sender<Result<()>>) {
        let (id, is_local) = (request.id.clone(), request.message.is_none());
        let local = sink.take_local().filter(|_| is_local || !self.acknowledged_come_back());
        self.local_acks.extend(local.map(|local| (id.clone(), local)));
        let started = (!is_local).then(|| (request_kind(request.gather), Instant::now()));
        self.in_flight.insert(id.clone(), InFlight { sink, published: Some(published), started });
        self.input(Input::Request(request));
        if is_local {
            self.published(&id, Ok(()));
        }
    }

    /// Notes that the message of a request has its place in the queue, or never will. Own clients get it, also if the
    /// caller is gone, unless it is refused as a whole.
    fn published(&mut self, id: &RequestId, result: Result<()>) {
        let is_refused =
            result.as_ref().is_err_and(|error| matches!(error.kind(), ErrorKind::TooLarge | ErrorKind::Closed));
        if let Some(local) = self.local_acks.remove(id).filter(|_| !is_refused) {
            self.ask_own_clients(id.clone(), local);
        }
        if let Some(request) = self.in_flight.get_mut(id) {
            request.published(result.clone());
        }
        if let Err(error) = result {
            self.input(Input::PublishFailed(id.clone(), error));
        }
    }

    /// With history, the own clients get acknowledged broadcasts in the common order, as they do plain ones, if that is
    /// promised.
    fn acknowledged_come_back(&self) -> bool {
        self.capabilities.history && self.capabilities.acknowledged_in_order
    }

    fn ask_own_clients(&mut self, id: RequestId, (target, payload, timeout): LocalAckBroadcast) {
        let Some(local) = self.local.upgrade() else { return };
        let sink = AckSink::new(None, id.clone(), self.answers.clone());
        let count = local.deliver_with_ack(&target, &payload, timeout, sink);
        self.metrics.sent_to_sockets.add(u64::from(count));
        self.local_answer(LocalAnswer { to: None, request: id, answer: Answer::ClientCount(count) });
    }

    fn local_answer(&mut self, LocalAnswer { to, request, answer }: LocalAnswer) {
        self.input(Input::LocalAnswer { to, request, answer });
    }

    // --- output ---

    fn perform(&mut self) {
        // First, so that a listener that hears of a node finds it counted.
        self.publish_peers();
        while let Some(output) = self.engine.poll_output() {
            match output {
                Output::Publish(message) => self.publish(message),
                Output::Send(to, response) => self.send(to, response),
                Output::Serve { from, message, offset } => self.serve(from, message, offset.as_ref()),
                Output::Acknowledged(id, ack) => self.acknowledged(&id, ack),
                Output::Finished(id, result) => self.finished(&id, result),
                Output::CountNodes => self.count_wanted = true,
                Output::Event(event) => {
                    self.condition.note(&event);
                    let losses = || Losses::now(&self.metrics, &*self.backend.transport);
                    self.outages.note(Instant::now().into_std(), &event, losses);
                    // Fails where there is no listener.
                    let _ = self.events.send(event);
                }
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
            self.published(&id, Err(error));
        }
    }

    fn queue(&mut self, outgoing: Outgoing) -> Result<()> {
        let waiting = self.outgoing.len();
        // Rooms of which the broker is not told now would never be told.
        if waiting >= self.config.max_outgoing && !matches!(outgoing, Outgoing::Interest { .. }) {
            self.metrics.outgoing_overflow.increment();
            let context = format!("{waiting} answers and requests wait for the transport, more are not allowed");
            return Err(Error::new(ErrorKind::QueueFull, context));
        }
        self.outgoing.push_back(outgoing);
        Ok(())
    }

    fn acknowledged(&self, id: &RequestId, ack: Ack) {
        if let Some(InFlight { sink: ResponseSink::Acks { items, .. }, .. }) = self.in_flight.get(id) {
            // Fails only when the caller is gone; its cancellation is on the way.
            let _ = items.send(AckItem::Ack(ack));
        }
    }

    fn finished(&mut self, id: &RequestId, result: Result<Gathered, RequestError<Gathered>>) {
        let Some(mut request) = self.in_flight.remove(id) else { return };
        self.export_request(&request, outcome(&result));
        request.published(match &result {
            Err(error) if error.incomplete().is_none() => Err(error.as_error().clone()),
            _ => Ok(()),
        });
        request.sink.finish(result);
    }

    /// Applies a message to the local sockets.
    fn serve(&mut self, from: NodeId, message: Message, offset: Option<&Offset>) {
        let Some(local) = self.local.upgrade() else { return };
        let returned = (from == self.node.id && message.changes_sockets()).then(|| message.clone());
        match message {
            Message::Broadcast { request: None, target, payload } => {
                if target.is_mark() {
                    self.sessions.note(&payload);
                }
                let span = trace::process(self.backend.name, &self.node, target.trace.as_ref());
                let report = span.in_scope(|| local.deliver(&target, &payload, offset));
                if let Some(offset) = offset {
                    self.position.send_replace(Position::at(offset.clone()));
                }
                self.metrics.sent_to_sockets.add(report.sent);
                self.metrics.dropped_by_sockets.add(report.dropped);
                self.last_report = report;
            }
            Message::Broadcast { request: Some(request), target, payload } => {
                let timeout = target.flags.timeout.unwrap_or(self.config.request_timeout);
                if from == self.node.id {
                    return self.ask_own_clients(request, (target, payload, timeout));
                }
                let span = trace::process(self.backend.name, &self.node, target.trace.as_ref());
                let _entered = span.enter();
                let sink = AckSink::new(Some(from.clone()), request.clone(), self.answers.clone());
                let count = local.deliver_with_ack(&target, &payload, timeout, sink);
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
                let sockets = local.sockets(&target);
                self.make_reachable(sockets.iter().flat_map(|socket| &socket.rooms));
                self.answer(from, request, Answer::Sockets(sockets));
            }
            Message::AllRooms { request } => {
                let rooms = local.rooms();
                self.make_reachable(&rooms);
                self.answer(from, request, Answer::Rooms(rooms));
            }
            Message::ServerSideEmit { request: Some(request), payload } if Self::is_status_request(&payload) => {
                let status = self.status();
                self.answer(from, request, Answer::ServerSideEmit(status));
            }
            Message::ServerSideEmit { request, payload } => {
                let reply = request
                    .map(|request| EventReply::new(AckSink::new(Some(from.clone()), request, self.answers.clone())));
                // Without a reply it is not for us: a session is handed over to a node that waits for it.
                match reply.is_some().then(|| self.sessions.answer(&payload, &*local)).flatten() {
                    Some(answer) => reply.into_iter().for_each(|reply| reply.answer(answer.clone())),
                    None => local.server_side_event(&from, &payload, reply),
                }
            }
            Message::Heartbeat(_) | Message::Leaving => {}
        }
        returned.iter().for_each(|message| self.returning.applied(message));
    }

    /// Tells the broker about rooms into or out of which local sockets were moved.
    fn interest(&mut self, rooms: Vec<Room>, had_members: bool) {
        if self.backend.interest.is_some() {
            drop(self.queue(Outgoing::Interest { rooms, had_members }));
        }
    }
}

/// Polls a job that is known to be there.
async fn poll<T>(job: &mut Option<Job<T>>) -> T {
    match job {
        Some(job) => job.await,
        None => future::pending().await,
    }
}

async fn sleep(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(deadline) => sleep_until(Instant::from_std(deadline)).await,
        None => future::pending().await,
    }
}
