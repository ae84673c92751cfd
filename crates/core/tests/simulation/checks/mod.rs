//! What must hold, checked at every step. Each node has a witness that sees what reaches the engine and what comes out of it.

mod presence;
mod requests;
mod streams;

use trunkline_core::{
    Event, Heartbeat, Message,
    engine::{Engine, EngineConfig, Output},
    model::Delivery,
};

pub(crate) use self::requests::{Asked, Count};
use self::{presence::Presence, requests::Requests, streams::Streams};
use crate::{
    names::{self, Set, Tag},
    scenario::{Faults, Kind, Micros, SECOND},
};

/// A broken promise.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) check: Check,
    pub(crate) text: String,
    /// Calls of `Engine::handle` up to it.
    pub(crate) steps: u64,
}

impl Check {
    pub(crate) const ALL: [Self; 13] = [
        Self::AtMostOnce,
        Self::Order,
        Self::Gaps,
        Self::Deadline,
        Self::Sleep,
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

/// The promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Check {
    /// No message of a numbering sender is served twice.
    AtMostOnce,
    /// What one sender says is served in that order: per channel always, over all channels where the network keeps it.
    Order,
    /// Every hole in the numbers is reported, with its size, and nothing that is no hole.
    Gaps,
    /// No request outlives its deadline, and none is given up before it.
    Deadline,
    /// The engine never wants to be woken later than something is to happen.
    Sleep,
    /// No request ends well while a node that was expected, lives and is connected has not answered.
    Premature,
    /// A request ends as soon as nobody is waited for any more; those that are gone are not.
    Stuck,
    /// What a request returns is what was answered, and a time-out names exactly those that are missing.
    Answers,
    /// Only nodes that are there come up, and only those go down that left, fell silent or were disconnected.
    Presence,
    /// A node that is silent for too long is given up.
    Silence,
    /// A node sends heartbeats in time.
    Heartbeats,
    /// Every request ends once, and nothing is kept that has ended.
    Bounds,
    /// After a quiet while all nodes know each other, and requests reach everybody.
    Convergence,
}

pub(crate) fn broken<T>(check: Check, text: impl FnOnce() -> String) -> Checked<T> {
    Err(Violation { check, text: text(), steps: 0 })
}

pub(crate) fn ensure(holds: bool, check: Check, text: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { broken(check, text) }
}

/// Watches one node.
#[derive(Debug)]
pub(crate) struct Witness {
    me: usize,
    streams: Streams,
    presence: Presence,
    pub(crate) requests: Requests,
}

impl Witness {
    pub(crate) fn new(me: usize, kind: Kind, faults: Faults, config: EngineConfig) -> Self {
        Self { me, streams: Streams::new(kind, faults), presence: Presence::new(config), requests: Requests::new(kind) }
    }

    /// The engine is about to begin.
    pub(crate) fn started(&mut self, local: Micros) {
        self.presence.started(local);
    }

    /// Something is about to reach the engine. `from` is the node that really sent it, if any did.
    pub(crate) fn delivered(&mut self, local: Micros, from: Option<usize>, delivery: &Delivery) {
        match (from, delivery) {
            (Some(from), _) if from == self.me => {}
            (Some(from), delivery) => self.sent(local, from, delivery),
            (None, Delivery::Overflow(overflow)) => {
                for from in overflow.dropped.iter().filter_map(|dropped| names::index(&dropped.from)) {
                    self.presence.heard(local, from, true);
                }
                self.streams.overflowed(self.me, overflow);
            }
            (None, Delivery::Lost(_)) => self.presence.deafened(),
            (None, Delivery::Connected) => self.presence.connected(local),
            (None, Delivery::Subscribed(channel)) => self.streams.subscribed(usize::from(channel.0)),
            (None, Delivery::Unsubscribed(channel)) => self.streams.unsubscribed(usize::from(channel.0)),
            (None, _) => {}
        }
    }

    fn sent(&mut self, local: Micros, from: usize, delivery: &Delivery) {
        match delivery {
            Delivery::Message { message, .. } => {
                self.presence.heard(local, from, matches!(message, Message::Heartbeat(_)));
                match message {
                    Message::Heartbeat(Heartbeat { high_water_marks, .. }) => {
                        self.streams.high_water_marks(from, high_water_marks)
                    }
                    Message::Leaving => self.presence.said_goodbye(from),
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

    /// A message that nobody here wants was taken note of, and not as a repeat.
    pub(crate) fn skipped(&mut self, local: Micros, from: usize, channel: usize, number: u64) {
        self.presence.heard(local, from, true);
        self.streams.accepted(from, channel, number);
    }

    /// The process stands still.
    pub(crate) fn froze(&mut self, local: Micros) {
        self.presence.froze(local);
    }

    /// The process goes on after it stood still.
    pub(crate) fn thawed(&mut self, local: Micros) {
        self.presence.thawed(local);
    }

    /// The broker's count is about to reach the engine.
    pub(crate) fn counted(&mut self, count: Count) {
        self.presence.counted(&count);
        self.requests.counted(count);
    }

    /// The engine asks the cluster.
    pub(crate) fn asks(&mut self, asked: Asked) {
        let expected = if asked.published { self.presence.members() } else { Set::EMPTY };
        self.requests.asked(Asked { expected, ..asked });
    }

    /// Something came out of the engine.
    pub(crate) fn output(&mut self, local: Micros, output: &Output) -> Checked {
        match output {
            Output::Serve { from, offset: Some(offset), .. } => {
                let Some(index) = names::index(from) else { return Ok(()) };
                self.presence.heard(local, index, true);
                self.streams.served(index, Tag::read(offset), !names::is_foreign(from))
            }
            Output::Publish(Message::Heartbeat(_)) => self.presence.beats(local),
            Output::Publish(Message::Leaving) => {
                self.presence.leaves();
                Ok(())
            }
            Output::Acknowledged(request, _) => self.requests.acknowledged(request),
            Output::Finished(request, result) => self.requests.finished(local, request, result),
            Output::Event(event) => self.event(local, event),
            _ => Ok(()),
        }
    }

    fn event(&mut self, local: Micros, event: &Event) -> Checked {
        match event {
            Event::NodeUp(node) => self.presence.up(local, self.me, names::index(node)),
            Event::NodeDown(node, reason) => {
                let index = names::index(node);
                index.into_iter().for_each(|index| self.requests.node_down(index));
                self.presence.down(local, index, *reason)
            }
            Event::Misconfigured(text) => broken(Check::Presence, || text.clone()),
            _ => Ok(()),
        }
    }

    /// A step is done. The engine has so many requests pending, wants to be woken then, and has reported so many messages missing.
    pub(crate) fn stepped(&mut self, local: Micros, pending: usize, wake: Option<Micros>, missed: u64) -> Checked {
        self.streams.check(missed)?;
        self.presence.stepped(local, wake)?;
        self.requests.check(local, pending, wake)
    }

    /// A tick is done: silence was judged.
    pub(crate) fn ticked(&mut self, local: Micros, engine: &Engine) -> Checked {
        let members: Set = engine.members().filter_map(names::index).collect();
        self.presence.ticked(local, members)
    }

    /// Everything has been quiet for a while: `others` are there.
    pub(crate) fn settled(&self, engine: &Engine, others: Set, foreign: usize, missed: u64) -> Checked {
        self.presence.settled(others)?;
        self.streams.settled(missed)?;
        let peers = engine.peer_count();
        ensure(peers == others.len() + foreign, Check::Convergence, || {
            format!("{peers} peers are counted, {} are there by name and {foreign} foreign ones", others.len())
        })
    }
}

/// Simulated time within a message.
pub(crate) fn shown(local: Micros) -> String {
    format!("{:.6}", local as f64 / SECOND as f64)
}
