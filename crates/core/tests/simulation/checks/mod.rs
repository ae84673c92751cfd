//! Checks of the promises at every step. Each node has a checker that sees what reaches its engine and what comes out
//! of it.

mod deliveries;
mod presence;
mod requests;

use trunkline_core::{
    Event, Heartbeat, Message,
    engine::{Engine, EngineConfig, Output},
    model::Delivery,
};

pub(crate) use self::requests::{BrokerCount, PendingRequest};
use self::{deliveries::Deliveries, presence::Presence, requests::Requests};
use crate::{
    names::{self, Set, Tag},
    scenario::{BackendKind, Faults, Micros, SECOND},
};

/// A broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) check: Check,
    pub(crate) text: String,
    /// Number of calls of `Engine::handle` before it.
    pub(crate) steps: u64,
}

impl Check {
    pub(crate) const ALL: [Self; 14] = [
        Self::AtMostOnce,
        Self::Order,
        Self::Gaps,
        Self::Deadline,
        Self::WakeUp,
        Self::Whole,
        Self::Premature,
        Self::Stuck,
        Self::Answers,
        Self::Presence,
        Self::Silence,
        Self::Heartbeats,
        Self::Bounds,
        Self::Convergence,
    ];
}

pub(crate) type Checked<T = ()> = Result<T, Violation>;

/// The promises that are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// No message of a numbering sender is served twice.
    AtMostOnce,
    /// Messages of one sender are served in the order of sending: per channel always, across channels where the network
    /// keeps it.
    Order,
    /// Every gap in the numbers is reported with its size, and nothing else is.
    Gaps,
    /// No request outlives its deadline, and none is given up before it.
    Deadline,
    /// The engine asks to be woken no later than it has to act.
    WakeUp,
    /// A request that succeeds has the answers of all nodes that are alive in truth, and that were heard since the
    /// time-out.
    Whole,
    /// No request succeeds while an expected node has neither answered, nor left, nor been silent for the time-out.
    Premature,
    /// A request ends as soon as no node is waited for, and nodes that are gone are not waited for.
    Stuck,
    /// A request returns the answers that were sent, and its timeout names exactly the missing nodes.
    Answers,
    /// Only nodes that are present come up, and only those go down that left, fell silent or were disconnected.
    Presence,
    /// A node that is silent for too long goes down.
    Silence,
    /// A node sends its heartbeats in time.
    Heartbeats,
    /// Every request ends once, and nothing is kept of it.
    Bounds,
    /// After a time without faults all nodes know each other, and requests reach all of them.
    Convergence,
}

pub(crate) fn broken<T>(check: Check, text: impl FnOnce() -> String) -> Checked<T> {
    Err(Violation { check, text: text(), steps: 0 })
}

pub(crate) fn ensure(holds: bool, check: Check, text: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { broken(check, text) }
}

/// Checks the promises of one node.
#[derive(Debug)]
pub(crate) struct NodeChecker {
    me: usize,
    deliveries: Deliveries,
    presence: Presence,
    pub(crate) requests: Requests,
}

impl NodeChecker {
    pub(crate) fn new(me: usize, kind: BackendKind, faults: Faults, config: EngineConfig) -> Self {
        Self {
            me,
            deliveries: Deliveries::new(kind, faults),
            presence: Presence::new(config),
            requests: Requests::new(kind),
        }
    }

    /// The engine is about to start.
    pub(crate) fn started(&mut self, local: Micros) {
        self.presence.started(local);
    }

    /// A delivery is about to reach the engine. `from` is its real sender, if a peer sent it.
    pub(crate) fn delivered(&mut self, local: Micros, from: Option<usize>, delivery: &Delivery) {
        if !matches!(delivery, Delivery::Lost(_)) {
            self.presence.delivered(local);
        }
        match (from, delivery) {
            (Some(from), _) if from == self.me => self.presence.heard_itself(),
            (Some(from), delivery) => self.sent(local, from, delivery),
            (None, Delivery::Overflow(overflow)) => {
                for from in overflow.dropped.iter().filter_map(|dropped| names::index(&dropped.from)) {
                    self.presence.heard(local, from, true);
                }
                self.deliveries.overflowed(self.me, overflow);
            }
            (None, Delivery::Lost(_)) => self.presence.disconnected(),
            (None, Delivery::Connected) => self.presence.connected(local),
            (None, Delivery::Subscribed(channel)) => self.deliveries.subscribed(usize::from(channel.0)),
            (None, Delivery::Unsubscribed(channel)) => self.deliveries.unsubscribed(usize::from(channel.0)),
            (None, _) => {}
        }
    }

    fn sent(&mut self, local: Micros, from: usize, delivery: &Delivery) {
        match delivery {
            Delivery::Message { message, .. } => {
                self.presence.heard(local, from, matches!(message, Message::Heartbeat(_)));
                match message {
                    Message::Heartbeat(Heartbeat { high_water_marks, .. }) => {
                        self.deliveries.high_water_marks(from, high_water_marks)
                    }
                    Message::Leaving => self.presence.announced_leave(from),
                    _ => {}
                }
            }
            Delivery::Response { from: name, response } => {
                let is_member = self.presence.members().contains(from);
                self.presence.heard(local, from, is_member);
                self.requests.answered(from, name.is_some(), response);
            }
            Delivery::Skipped { .. } => self.presence.heard(local, from, false),
            _ => {}
        }
    }

    /// A message without matching sockets was accepted as a new one.
    pub(crate) fn skipped(&mut self, local: Micros, from: usize, channel: usize, number: u64) {
        self.presence.heard(local, from, true);
        self.deliveries.accepted(from, channel, number);
    }

    /// The process is frozen.
    pub(crate) fn froze(&mut self, local: Micros) {
        self.presence.froze(local);
    }

    /// The process continues.
    pub(crate) fn thawed(&mut self, local: Micros) {
        self.presence.thawed(local);
    }

    /// The broker's count is about to reach the engine.
    pub(crate) fn counted(&mut self, count: BrokerCount) {
        self.presence.counted(&count);
        self.requests.counted(count);
    }

    /// The engine is about to send a request.
    pub(crate) fn request_begins(&mut self, request: PendingRequest) {
        if !request.published {
            return self.requests.began(request);
        }
        let (expected, absent) = (self.presence.members(), self.presence.absent(request.began));
        self.requests.began(PendingRequest { expected, absent, heard_of: expected.or(absent), ..request });
    }

    /// Checks an output of the engine, while the peers `alive` exist.
    pub(crate) fn output(&mut self, local: Micros, output: &Output, alive: Set) -> Checked {
        match output {
            Output::Serve { from, offset: Some(offset), .. } => {
                let Some(index) = names::index(from) else { return Ok(()) };
                self.presence.heard(local, index, true);
                self.deliveries.served(index, Tag::read(offset), !names::is_foreign(from))
            }
            Output::Publish(Message::Heartbeat(_)) => self.presence.heartbeat_sent(local),
            Output::Publish(Message::Leaving) => {
                self.presence.leaves();
                Ok(())
            }
            Output::Acknowledged(request, _) => self.requests.acknowledged(request),
            Output::Finished(request, result) => {
                let heard = self.presence.heard_lately(local);
                self.requests.finished(local, request, result, alive.and(heard))
            }
            Output::Event(event) => self.event(local, event),
            _ => Ok(()),
        }
    }

    fn event(&mut self, local: Micros, event: &Event) -> Checked {
        match event {
            Event::NodeUp(node) => {
                names::index(node).into_iter().for_each(|index| self.requests.node_up(index));
                self.presence.up(local, self.me, names::index(node))
            }
            Event::NodeDown(node, reason) => {
                let index = names::index(node);
                index.into_iter().for_each(|index| self.requests.node_down(index, *reason));
                self.presence.down(local, index, *reason)
            }
            Event::Misconfigured(text) => broken(Check::Presence, || text.clone()),
            _ => Ok(()),
        }
    }

    /// Checks the state after a step: the number of pending requests, the wake-up, and the number of messages reported
    /// as missed.
    pub(crate) fn stepped(&mut self, local: Micros, pending: usize, wake: Option<Micros>, missed: u64) -> Checked {
        self.deliveries.check(missed)?;
        self.presence.stepped(local, wake)?;
        self.requests.check(local, pending, wake)
    }

    /// Checks the state after a tick, in which silent nodes are detected.
    pub(crate) fn ticked(&mut self, local: Micros, engine: &Engine) -> Checked {
        let members: Set = engine.members().filter_map(names::index).collect();
        self.presence.ticked(local, members)
    }

    /// Checks the state after a time without faults, with `others` present.
    pub(crate) fn settled(&self, engine: &Engine, others: Set, foreign: usize, missed: u64) -> Checked {
        self.presence.settled(others)?;
        self.deliveries.settled(missed)?;
        let peers = engine.peer_count();
        ensure(peers == others.len() + foreign, Check::Convergence, || {
            format!("{peers} peers are counted, {} are there by name and {foreign} foreign ones", others.len())
        })
    }
}

/// Formats simulated time as seconds.
pub(crate) fn shown(local: Micros) -> String {
    format!("{:.6}", local as f64 / SECOND as f64)
}
