//! The protocol of one node, without I/O, clock or randomness.
//!
//! [`Engine::handle`] takes what happened and when; [`Engine::poll_output`] says what to do; [`Engine::deadline`] says when to call
//! [`Engine::handle`] with [`Input::Tick`] if nothing else happens before.
//!
//! | file | idea |
//! |---|---|
//! | `arrivals` | what arrives, and what is dropped at once: echoes, repeats, what an emitter cannot say |
//! | `presence`, `members` | heartbeats, who is there, and what the broker's count adds |
//! | `requests`, `table`, `pending`, `unnamed_peers`, `acks` | own requests: who is waited for, and when one is complete |
//! | `tracker`, `gaps` | numbers: repeats, holes, and how much a lost connection has cost |
//!
//! # Invariant
//! Between two calls of `handle`, with all outputs drained:
//! * every pending request is incomplete and its deadline lies ahead;
//! * every known node was heard within the heartbeat time-out, or is suspected, up to the last tick;
//! * before `deadline()` time alone changes nothing: a tick that comes earlier has no output.

mod acks;
mod arrivals;
mod config;
mod gaps;
mod interface;
mod members;
mod pending;
mod presence;
mod requests;
mod table;
mod tracker;
mod unnamed_peers;

use std::{collections::VecDeque, sync::Arc, time::Instant};

pub use self::{
    config::EngineConfig,
    interface::{Gather, Gathered, Input, Output, Request},
};
use self::{gaps::OpenGap, members::Members, table::Requests, tracker::SequenceTracker};
use crate::model::{Capabilities, Event, NodeId, NodeKey, NodeMetrics};

/// The state of one node.
#[derive(Debug)]
pub struct Engine {
    me: NodeKey,
    capabilities: Capabilities,
    config: EngineConfig,
    metrics: Arc<NodeMetrics>,
    members: Members,
    tracker: SequenceTracker,
    requests: Requests,
    outputs: VecDeque<Output>,
    /// `None` before the start and after the leave.
    next_heartbeat: Option<Instant>,
    last_heartbeat: Option<Instant>,
    /// When newcomers get their answer at the latest.
    owes_heartbeat: Option<Instant>,
    next_count: Option<Instant>,
    count_begun: Option<Instant>,
    /// Counts that have begun.
    counts: u64,
    gap: Option<OpenGap>,
    /// The connection to the broker is away.
    is_disconnected: bool,
    has_left: bool,
    /// The earliest moment at which time changes anything, or an earlier one.
    wake: Option<Instant>,
}

impl Engine {
    /// A node that has not said hello yet.
    #[must_use]
    pub fn new(me: NodeKey, capabilities: Capabilities, config: EngineConfig, metrics: Arc<NodeMetrics>) -> Self {
        Self {
            me,
            capabilities,
            config,
            metrics,
            members: Members::default(),
            tracker: SequenceTracker::new(config.gap_grace),
            requests: Requests::default(),
            outputs: VecDeque::new(),
            next_heartbeat: None,
            last_heartbeat: None,
            owes_heartbeat: None,
            next_count: None,
            count_begun: None,
            counts: 0,
            gap: None,
            is_disconnected: false,
            has_left: false,
            wake: None,
        }
    }

    /// Takes in what happened at `now`, which never goes back.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if self.has_left && !matches!(input, Input::Request(_)) {
            return;
        }
        let is_tick = matches!(input, Input::Tick);
        match input {
            Input::Start => self.start(now),
            Input::Tick => {}
            Input::Delivery(delivery) => self.delivery(now, delivery),
            Input::NodeCount(node_count) => self.counted(node_count.as_ref()),
            Input::Request(request) => self.request(now, request),
            Input::Cancel(id) => self.cancel(&id),
            Input::PublishFailed(id, error) => self.publish_failed(now, id, error),
            Input::LocalAnswer { to, request, answer } => self.local_answer(to, request, answer),
            Input::Leave => self.leave(),
        }
        if is_tick || self.wake.is_some_and(|wake| wake <= now) {
            self.on_time(now, is_tick);
            self.wake = self.next_change();
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

    /// Whom to ask the broker about along with its count. To be taken when the count begins.
    pub fn begin_count(&mut self, now: Instant) -> Vec<NodeId> {
        self.count_begun = Some(now);
        self.counts += 1;
        self.members.to_count()
    }

    /// The other nodes known by name, sorted.
    pub fn members(&self) -> impl Iterator<Item = &NodeId> {
        self.members.names()
    }

    /// How many other nodes there are, as far as known: by name, and by the broker's count beyond.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.members.count()
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

    /// Does what is due. Without anything due, does nothing. Silence is judged at ticks only: what breaks it may wait among the deliveries
    /// of which this is one.
    fn on_time(&mut self, now: Instant, is_tick: bool) {
        if is_tick {
            self.give_up_silent(now);
        }
        let missing = self.tracker.take_missing(now);
        self.missing(missing);
        self.close_gap(now);
        self.ask_for_count_again(now);
        self.finish_due(now);
        if self.heartbeat_due().is_some_and(|due| due <= now) {
            self.heartbeat(now, false);
        }
    }

    fn next_change(&self) -> Option<Instant> {
        [
            self.heartbeat_due(),
            self.next_count,
            self.gap.as_ref().map(|gap| gap.due),
            self.requests.deadline(),
            self.tracker.deadline(),
            self.next_silence(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Something is to happen at `due`.
    fn wake_by(&mut self, due: Instant) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
