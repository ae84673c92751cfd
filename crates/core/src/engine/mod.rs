//! The protocol of one node, without I/O, clock or randomness.
//!
//! [`Engine::handle`] takes an input and its time; [`Engine::poll_output`] gives the outputs to carry out;
//! [`Engine::deadline`] tells when to call [`Engine::handle`] with [`Input::Tick`] if nothing else happens before.
//!
//! | file | idea |
//! |---|---|
//! | `arrivals` | messages that arrive, and which are dropped at once: echoes, repeats, what an emitter must not send |
//! | `presence`, `members`, `newcomers` | heartbeats, the known nodes, and what the broker's count adds |
//! | `requests`, `table`, `pending`, `parts`, `unnamed_peers`, `acks` | own requests: which nodes are waited for, and when one is complete |
//! | `tracker`, `gaps` | sequence numbers: repeats, holes, and how many messages a lost connection has cost |
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
mod newcomers;
mod parts;
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
use self::{gaps::OpenGap, members::Members, newcomers::Newcomers, table::Requests, tracker::SequenceTracker};
use crate::model::{Capabilities, Event, NodeId, NodeKey, NodeMetrics};

/// Protocol state of one node.
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
    /// When the own heartbeat was sent whose return is awaited, for the time that the broker takes.
    awaits_echo: Option<Instant>,
    /// Latest time of the heartbeat that answers newcomers.
    owes_heartbeat: Option<Instant>,
    next_count: Option<Instant>,
    count_begun: Option<Instant>,
    /// Number of counts that have begun.
    counts: u64,
    gap: Option<OpenGap>,
    /// When the transport last delivered anything.
    last_heard: Option<Instant>,
    /// Whether own messages have come back: if they do, silence of all others can be told from a dead connection.
    hears_itself: bool,
    /// Whether all others are suspected, and anything that arrives proves that the connection is not dead.
    awaits_proof: bool,
    newcomers: Newcomers,
    /// Whether the connection to the broker is away.
    is_disconnected: bool,
    has_left: bool,
    /// Next time at which a tick has an effect, or an earlier one.
    wake: Option<Instant>,
}

impl Engine {
    /// Engine of a node that has not sent its first heartbeat yet.
    #[must_use]
    pub fn new(me: NodeKey, capabilities: Capabilities, config: EngineConfig, metrics: Arc<NodeMetrics>) -> Self {
        Self {
            me,
            capabilities,
            config,
            metrics,
            members: Members::new(config.heartbeat_interval),
            tracker: SequenceTracker::new(config.gap_grace),
            requests: Requests::default(),
            outputs: VecDeque::new(),
            next_heartbeat: None,
            last_heartbeat: None,
            awaits_echo: None,
            owes_heartbeat: None,
            next_count: None,
            count_begun: None,
            counts: 0,
            gap: None,
            last_heard: None,
            hears_itself: false,
            awaits_proof: false,
            newcomers: Newcomers::default(),
            is_disconnected: false,
            has_left: false,
            wake: None,
        }
    }

    /// Handles an input that happened at `now`, which never goes back. Drain [`Engine::poll_output`] afterwards.
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

    /// Next output to carry out; `None` when all are drained.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Time at which to call [`Engine::handle`] with [`Input::Tick`], if nothing else happens before. A tick that comes
    /// earlier does no harm.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.wake
    }

    /// Nodes to ask the broker about along with its count. To be called when the count begins.
    pub fn begin_count(&mut self, now: Instant) -> Vec<NodeId> {
        self.count_begun = Some(now);
        self.counts += 1;
        self.members.to_count()
    }

    /// Other nodes known by name, sorted.
    pub fn members(&self) -> impl Iterator<Item = &NodeId> {
        self.members.names()
    }

    /// Number of other nodes, as far as known: by name, and by the broker's count beyond.
    #[must_use]
    pub fn peer_count(&self) -> usize {
        self.members.count()
    }

    /// Whether this is a node of ours, and not an official peer: ours number what they send.
    #[must_use]
    pub fn is_ours(&self, node: &NodeId) -> bool {
        self.tracker.is_numbering(node)
    }

    /// Version of [`Engine::members`] and [`Engine::peer_count`]: changes whenever one of them does.
    #[must_use]
    pub fn membership_version(&self) -> u64 {
        self.members.version()
    }

    /// Number of own requests that wait for answers.
    #[must_use]
    pub fn pending_requests(&self) -> usize {
        self.requests.len()
    }

    /// Does what is due at `now`. Silence of nodes is judged at ticks only: the message that ends it may wait among the
    /// deliveries of which this is one.
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

    /// Makes sure that the next tick is not later than `due`.
    fn wake_by(&mut self, due: Instant) {
        self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }
}
