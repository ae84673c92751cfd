//! The protocol of one node, without I/O, clock or randomness.
//!
//! [`Engine::handle`] takes what happened and when; [`Engine::poll_output`] says what to do; [`Engine::deadline`] says when to call
//! [`Engine::handle`] with [`Input::Tick`] if nothing else happens before.
//!
//! # Invariant
//! Between two calls of `handle`, with all outputs drained: every pending request is incomplete and its deadline lies ahead, every known
//! node was heard within the heartbeat time-out (up to the last tick), and `deadline()` is the earliest moment at which any of that changes.

mod members;
mod requests;
mod tracker;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::requests::Gather;
use self::{
    members::Members,
    requests::{Census, Pending, Requests},
    tracker::{Tracker, Verdict},
};
use crate::{
    capabilities::{Capabilities, Membership},
    counters::Counters,
    error::{Answers, Error, ErrorKind, Result},
    event::{DownReason, Event, Gap, GapCause},
    id::{Node, NodeId, Offset, RequestId},
    inbox::{Delivery, Overflow},
    message::{Answer, Heartbeat, Message, Response, Stamp},
    payload::Payload,
};

/// Times and bounds of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// How long after its last request-like message a node sends a heartbeat. Default 5 s, as the official adapters.
    pub heartbeat_interval: Duration,
    /// How long a node may be silent before it counts as gone. Default 10 s, as the official adapters.
    pub heartbeat_timeout: Duration,
    /// How long a counter in a heartbeat may be ahead of the messages it counts, and how long peers have after a reconnect to tell what
    /// was missed. Default 1 s.
    pub gap_grace: Duration,
    /// How often the broker is asked for its count while a request waits on it. Default 500 ms.
    pub census_interval: Duration,
    /// Own requests that may be pending at a time. Default 10,000.
    pub max_pending_requests: usize,
    /// The number of room buckets of this node's transport, to be checked against that of others.
    pub buckets: Option<u16>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            heartbeat_timeout: Duration::from_secs(10),
            gap_grace: Duration::from_secs(1),
            census_interval: Duration::from_millis(500),
            max_pending_requests: 10_000,
            buckets: None,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The node has joined: say hello.
    Start,
    /// Time has passed.
    Tick,
    /// Something arrived.
    Delivery(Delivery),
    /// The broker has counted the nodes, this one included; `None` if it could not.
    Census(Option<usize>),
    /// This node asks the cluster.
    Request(Request),
    /// The caller of a request is gone.
    Cancel(RequestId),
    /// The request's message could not be published.
    PublishFailed(RequestId, Error),
    /// This node's own clients answer: to an own request if `to` is `None`.
    LocalAnswer {
        /// The node that asked.
        to: Option<NodeId>,
        /// Its request.
        request: RequestId,
        /// The answer.
        answer: Answer,
    },
    /// The node is about to leave: say goodbye.
    Leave,
}

/// A question to the cluster.
#[derive(Debug)]
pub struct Request {
    /// Links the answers; unique.
    pub id: RequestId,
    /// What to gather.
    pub gather: Gather,
    /// What to publish; `None` if only this node is asked.
    pub message: Option<Message>,
    /// When to give up.
    pub deadline: Instant,
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Publish a message. If it belongs to a request and that fails, tell by [`Input::PublishFailed`].
    Publish(Message),
    /// Send an answer to one node.
    Send(NodeId, Response),
    /// Apply a message to the local sockets, and answer by [`Input::LocalAnswer`] if it is a request.
    Serve {
        /// Who asks; the emitter's id if unknown.
        from: NodeId,
        /// What to do.
        message: Message,
        /// The offset to append for clients that want to recover.
        offset: Option<Offset>,
    },
    /// A client's acknowledgement for the caller of an own request.
    Acknowledged(RequestId, Option<Payload>),
    /// An own request is over.
    Finished(RequestId, Result<Answers>),
    /// Ask the broker for its count, then [`Input::Census`].
    AskCensus,
    /// Tell whoever listens.
    Event(Event),
}

/// The state of one node.
#[derive(Debug)]
pub struct Engine {
    me: Node,
    capabilities: Capabilities,
    config: EngineConfig,
    counters: Arc<Counters>,
    members: Members,
    tracker: Tracker,
    requests: Requests,
    outputs: VecDeque<Output>,
    next_heartbeat: Option<Instant>,
    last_heartbeat: Option<Instant>,
    next_census: Option<Instant>,
    gap: Option<OpenGap>,
    /// Own requests that ended lately, so that late answers to them are told from answers meant for others.
    ended: VecDeque<RequestId>,
    /// The earliest moment at which time changes anything, or an earlier one: signs of life only move it back.
    wake: Option<Instant>,
    /// Whether `wake` may be too late.
    changed: bool,
}

/// A gap whose size is being found out: peers are asked for their counters.
#[derive(Debug)]
struct OpenGap {
    cause: GapCause,
    since: Instant,
    due: Instant,
    missed: u64,
}

impl Engine {
    /// A node that has not said hello yet.
    #[must_use]
    pub fn new(me: Node, capabilities: Capabilities, config: EngineConfig, counters: Arc<Counters>) -> Self {
        Self {
            me,
            capabilities,
            config,
            counters,
            members: Members::default(),
            tracker: Tracker::new(config.gap_grace),
            requests: Requests::default(),
            outputs: VecDeque::new(),
            next_heartbeat: None,
            last_heartbeat: None,
            next_census: None,
            gap: None,
            ended: VecDeque::new(),
            wake: None,
            changed: false,
        }
    }

    /// Takes in what happened at `now`, which never goes back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.changed |=
            !matches!(&input, Input::Delivery(Delivery::Message { .. } | Delivery::Skipped { .. }) | Input::Tick);
        match input {
            Input::Start => self.start(now),
            Input::Tick => {}
            Input::Delivery(delivery) => self.delivery(now, delivery),
            Input::Census(count) => self.census(now, count),
            Input::Request(request) => self.request(now, request),
            Input::Cancel(id) => drop(self.requests.remove(&id)),
            Input::PublishFailed(id, error) => self.publish_failed(id, error),
            Input::LocalAnswer { to, request, answer } => self.local_answer(to, request, answer),
            Input::Leave => self.leave(),
        }
        if self.changed || self.wake.is_some_and(|wake| wake <= now) {
            self.on_time(now);
            self.wake = self.next_change();
            self.changed = false;
        }
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Engine::handle`] with [`Input::Tick`], if nothing else happens before. A tick may turn out to be early.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    /// The other nodes known by name.
    pub fn members(&self) -> impl Iterator<Item = &NodeId> {
        self.members.names()
    }

    /// How many other nodes there are, as far as known: by name, and by the broker's count beyond.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.members.len() + self.members.unnamed()
    }

    /// Changes whenever [`Engine::members`] or [`Engine::peer_count`] do.
    #[must_use]
    pub fn membership_version(&self) -> u64 {
        self.members.version()
    }

    /// How many own requests wait.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.requests.len()
    }

    // --- time ---

    fn on_time(&mut self, now: Instant) {
        for node in self.members.take_silent(now, self.config.heartbeat_timeout) {
            self.node_down(&node, DownReason::Silent);
        }
        let missing = self.tracker.take_missing(now);
        self.missing(missing);
        self.close_gap(now);
        if self.next_census.is_some_and(|due| due <= now) {
            self.ask_census(now);
        }
        self.finish_requests(now);
        if self.next_heartbeat.is_some_and(|due| due <= now) {
            self.heartbeat(now, false);
        }
    }

    fn next_change(&self) -> Option<Instant> {
        [
            self.next_heartbeat,
            self.next_census,
            self.gap.as_ref().map(|gap| gap.due),
            self.requests.deadline(),
            self.tracker.deadline(),
            self.members.next_silence(self.config.heartbeat_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn start(&mut self, now: Instant) {
        self.heartbeat(now, true);
        if self.counts_by_census() {
            self.ask_census(now);
        }
    }

    fn leave(&mut self) {
        self.next_heartbeat = None;
        self.outputs.push_back(Output::Publish(Message::Leaving));
    }

    fn heartbeat(&mut self, now: Instant, initial: bool) {
        let heartbeat = Heartbeat { initial, counters: Vec::new(), buckets: self.config.buckets };
        self.outputs.push_back(Output::Publish(Message::Heartbeat(heartbeat)));
        self.last_heartbeat = Some(now);
        self.next_heartbeat = Some(now + self.config.heartbeat_interval);
    }

    /// Everybody who hears a request knows that this node is alive.
    fn postpone_heartbeat(&mut self, now: Instant) {
        if self.next_heartbeat.is_some() {
            self.next_heartbeat = Some(now + self.config.heartbeat_interval);
        }
    }

    // --- what arrives ---

    fn delivery(&mut self, now: Instant, delivery: Delivery) {
        match delivery {
            Delivery::Message { from, stamp, offset, message } => self.message(now, from, stamp, offset, message),
            Delivery::Skipped { from, stamp } => self.skipped(now, &from, stamp),
            Delivery::Response { from, response } => self.response(now, from.as_ref(), response),
            Delivery::Stored { message, offset } => self.serve(self.me.id.clone(), message, offset),
            Delivery::Gap(gap) => self.transport_gap(now, gap),
            Delivery::Overflow(overflow) => self.overflow(now, &overflow),
            Delivery::Connected => self.event(Event::Connected),
            Delivery::Lost(reason) => self.lost(reason),
            Delivery::Subscribed(channel) => self.tracker.subscribe(channel),
            Delivery::Unsubscribed(channel) => self.tracker.unsubscribe(channel),
        }
    }

    fn message(
        &mut self,
        now: Instant,
        from: Option<NodeId>,
        stamp: Option<Stamp>,
        offset: Option<Offset>,
        message: Message,
    ) {
        let from = from.unwrap_or(NodeId::EMITTER);
        if from == self.me.id {
            self.counters.own_echoes.increment();
            return;
        }
        if message == Message::Leaving {
            self.left(&from);
            return;
        }
        if !self.accept(now, &from, stamp, matches!(message, Message::Heartbeat(_))) {
            return;
        }
        self.counters.delivered.increment();
        match message {
            Message::Heartbeat(heartbeat) => self.heard_heartbeat(now, &from, &heartbeat),
            // A request of nobody in particular cannot be answered.
            message if message.request().is_some() && from.is_emitter() => self.counters.malformed.increment(),
            message => self.serve(from, message, offset),
        }
    }

    fn skipped(&mut self, now: Instant, from: &NodeId, stamp: Option<Stamp>) {
        if *from != self.me.id && self.accept(now, from, stamp, false) {
            self.counters.unwanted.increment();
        }
    }

    /// Notes a sign of life and judges the number. Returns `false` for a repeat.
    fn accept(&mut self, now: Instant, from: &NodeId, stamp: Option<Stamp>, is_heartbeat: bool) -> bool {
        if from.is_emitter() {
            return true;
        }
        self.sign_of_life(now, from, stamp.is_some(), is_heartbeat);
        let Some(stamp) = stamp else { return true };
        match self.tracker.arrived(now, from, stamp) {
            Verdict::Fresh => true,
            Verdict::Hole(missing) => {
                self.missing(missing);
                true
            }
            Verdict::Repeat => {
                self.counters.repeats.increment();
                false
            }
        }
    }

    /// Where the broker counts, a peer without heartbeats would never be seen to leave: only heartbeats make it known by name.
    fn sign_of_life(&mut self, now: Instant, from: &NodeId, ours: bool, is_heartbeat: bool) {
        if self.counts_by_census() && !is_heartbeat {
            self.members.refresh(now, from);
        } else if self.members.heard(now, from, ours) {
            self.changed = true;
            self.event(Event::NodeUp(from.clone()));
        }
    }

    fn heard_heartbeat(&mut self, now: Instant, from: &NodeId, heartbeat: &Heartbeat) {
        self.changed = true;
        self.tracker.announced(now, from, &heartbeat.counters);
        if let (Some(mine), Some(theirs)) = (self.config.buckets, heartbeat.buckets)
            && mine != theirs
        {
            self.event(Event::Misconfigured(format!("room buckets: {mine} here, {theirs} on node {from}")));
        }
        // One answer serves everybody who asked at the same time.
        if heartbeat.initial && self.next_heartbeat.is_some() && self.last_heartbeat != Some(now) {
            self.heartbeat(now, false);
        }
    }

    fn serve(&mut self, from: NodeId, message: Message, offset: Option<Offset>) {
        self.outputs.push_back(Output::Serve { from, message, offset });
    }

    fn left(&mut self, node: &NodeId) {
        if self.members.left(node) {
            self.changed = true;
            self.node_down(node, DownReason::Left);
        }
    }

    fn node_down(&mut self, node: &NodeId, reason: DownReason) {
        for pending in self.requests.iter_mut() {
            pending.node_gone(node);
        }
        self.event(Event::NodeDown(node.clone(), reason));
    }

    // --- own requests ---

    fn request(&mut self, now: Instant, request: Request) {
        let Request { id, gather, message, deadline } = request;
        if self.requests.len() >= self.config.max_pending_requests {
            let context = format!("{} requests are pending, allowed are no more", self.requests.len());
            self.outputs.push_back(Output::Finished(id, Err(Error::new(ErrorKind::QueueFull, context))));
            return;
        }
        self.counters.requests.increment();
        let (waiting, census) = self.expected(message.is_some());
        self.requests.insert(id, Pending::new(gather, deadline, waiting, census));
        if let Some(message) = message {
            self.outputs.push_back(Output::Publish(message));
            self.postpone_heartbeat(now);
            if census == Census::Unknown {
                self.ask_census(now);
            }
        }
    }

    /// Who is to answer a request.
    fn expected(&self, published: bool) -> (BTreeSet<NodeId>, Census) {
        if !published {
            return (BTreeSet::new(), Census::NotNeeded);
        }
        let census = if self.counts_by_census() { Census::Unknown } else { Census::NotNeeded };
        (self.members.names().cloned().collect(), census)
    }

    fn response(&mut self, now: Instant, from: Option<&NodeId>, response: Response) {
        if let Some(from) = from {
            self.members.refresh(now, from);
        }
        let Some(pending) = self.requests.get_mut(&response.request) else {
            self.counters.late_answers.add(u64::from(self.ended.contains(&response.request)));
            return;
        };
        let (ack, useful) = pending.answer(from, response.answer);
        if !useful {
            self.counters.late_answers.increment();
        }
        if let Some(value) = ack {
            self.outputs.push_back(Output::Acknowledged(response.request, value));
        }
    }

    fn local_answer(&mut self, to: Option<NodeId>, request: RequestId, answer: Answer) {
        if let Some(to) = to {
            self.outputs.push_back(Output::Send(to, Response { request, answer }));
            return;
        }
        let Some(pending) = self.requests.get_mut(&request) else { return };
        if let Answer::ClientCount(count) = answer {
            pending.own_client_count(&self.me.id, count);
            return;
        }
        if let (Some(value), _) = pending.answer(Some(&self.me.id), answer) {
            self.outputs.push_back(Output::Acknowledged(request, value));
        }
    }

    fn publish_failed(&mut self, id: RequestId, error: Error) {
        if self.requests.remove(&id).is_some() {
            self.outputs.push_back(Output::Finished(id, Err(error)));
        }
    }

    fn finish_requests(&mut self, now: Instant) {
        for (id, pending) in self.requests.take_ended(now) {
            let result = pending.finish();
            if let Err(error) = &result {
                self.counters.requests_timed_out.increment();
                let missing =
                    error.partial().is_some_and(|partial| !partial.missing.is_empty() || partial.missing_unnamed > 0);
                self.counters.requests_partial.add(u64::from(missing));
            }
            self.ended.push_back(id.clone());
            self.outputs.push_back(Output::Finished(id, result));
        }
        while self.ended.len() > ENDED {
            self.ended.pop_front();
        }
        if self.requests.is_empty() {
            self.next_census = None;
        }
    }

    // --- the broker's count ---

    fn counts_by_census(&self) -> bool {
        self.capabilities.membership == Membership::Census
    }

    fn ask_census(&mut self, now: Instant) {
        self.outputs.push_back(Output::AskCensus);
        self.next_census = Some(now + self.config.census_interval);
    }

    fn census(&mut self, now: Instant, count: Option<usize>) {
        let Some(count) = count else { return };
        self.members.counted(now, count);
        let unnamed = self.members.unnamed();
        for pending in self.requests.iter_mut() {
            pending.counted(count.saturating_sub(1), unnamed);
        }
    }

    // --- gaps ---

    fn lost(&mut self, reason: String) {
        self.counters.connections_lost.increment();
        self.event(Event::Lost(reason));
    }

    /// The transport reports a gap. If it does not know its size, peers may: they are asked, and the gap is reported once they had time
    /// to answer.
    fn transport_gap(&mut self, now: Instant, gap: Gap) {
        if gap.missed.is_some() || !self.capabilities.numbered {
            self.report_gap(gap);
            return;
        }
        if self.gap.is_none() {
            let due = now + self.config.gap_grace * 2;
            self.gap = Some(OpenGap { cause: gap.cause, since: now, due, missed: 0 });
        }
        if self.next_heartbeat.is_some() {
            self.heartbeat(now, true);
        }
    }

    /// Numbered messages are missing: part of an open gap, or one of its own.
    fn missing(&mut self, missing: u64) {
        if missing == 0 {
            return;
        }
        match &mut self.gap {
            Some(gap) => gap.missed += missing,
            None => self.report_gap(Gap { cause: GapCause::Hole, missed: Some(missing) }),
        }
    }

    fn overflow(&mut self, now: Instant, overflow: &Overflow) {
        for (from, stamp) in &overflow.advanced {
            self.members.refresh(now, from);
            self.tracker.advance(now, from, *stamp);
        }
        if overflow.missed > 0 {
            self.report_gap(Gap { cause: GapCause::Overflow, missed: Some(overflow.missed) });
        }
    }

    fn close_gap(&mut self, now: Instant) {
        if self.gap.as_ref().is_none_or(|gap| gap.due > now) {
            return;
        }
        let Some(gap) = self.gap.take() else { return };
        let known = self.members.all_ours() && self.members.all_heard_since(gap.since);
        let missed = known.then_some(gap.missed);
        self.counters.missed.add(if known { 0 } else { gap.missed });
        self.report_gap(Gap { cause: gap.cause, missed });
    }

    fn report_gap(&mut self, gap: Gap) {
        self.counters.gaps.increment();
        self.counters.missed.add(gap.missed.unwrap_or(0));
        self.event(Event::Gap(gap));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}

/// Ended requests that are remembered.
const ENDED: usize = 256;
