//! One run: peers, a clock, and what lies ahead.

use std::collections::VecDeque;

use trunkline_core::{
    Answer, Membership, NodeId, Payload, RequestId, Response,
    engine::{Gather, Input, Output},
    model::Delivery,
    transport::NodeCount,
};

use crate::{
    checks::{Check, Checked, Count, Violation, ensure},
    clock::Origin,
    names::Set,
    network::Partition,
    peer::{Peer, State},
    queue::Queue,
    scenario::{Faults, Micros, SECOND, Scenario},
    tamper::Tamper,
    trace::Trace,
};

#[derive(Debug)]
pub(crate) struct World<'a> {
    pub(crate) scenario: &'a Scenario,
    pub(crate) now: Micros,
    pub(crate) origin: Origin,
    pub(crate) queue: Queue<Event>,
    pub(crate) peers: Vec<Peer>,
    pub(crate) faults: Faults,
    pub(crate) partitions: Vec<Partition>,
    /// What each peer answers to a server-side emit.
    pub(crate) values: Vec<Payload>,
    pub(crate) payload: Payload,
    /// Inputs that follow from outputs.
    pub(crate) todo: VecDeque<(usize, Input)>,
    /// Empty between steps; kept for its memory.
    pub(crate) outputs: Vec<Output>,
    pub(crate) tamper: Tamper,
    pub(crate) trace: Trace,
    pub(crate) steps: u64,
    pub(crate) events: u64,
}

/// Something that lies ahead.
#[derive(Debug)]
pub(crate) enum Event {
    Act(usize),
    Arrive { to: usize, connection: u32, from: usize, delivery: Delivery },
    Wake(usize),
    Thaw(usize),
    Reconnect(usize),
    Count { node: usize, asked: Vec<NodeId> },
    Counted { node: usize, node_count: Option<NodeCount>, count: Count },
    ClientAnswer { node: usize, to: Option<NodeId>, request: RequestId, answer: Answer },
    ForeignAnswer { node: usize, to: usize, response: Response },
    ForeignBeat(usize),
    Uncount(usize),
    Quiet,
    LastRequests,
    End,
}

/// What a run has cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Calls of `Engine::handle`.
    pub(crate) steps: u64,
}

/// How long it takes until everything has settled: a silent node is given up after 11 s, its clock may be slow, and what it said last
/// may be found out 6 s later.
const SETTLING: Micros = 26 * SECOND;

/// A run that takes longer goes round in circles.
const MAX_EVENTS: u64 = 1_000_000;

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, tamper: Tamper, trace: Trace) -> Self {
        let mut world = Self {
            scenario,
            now: 0,
            origin: Origin::new(),
            queue: Queue::new(),
            peers: Vec::new(),
            faults: scenario.faults,
            partitions: Vec::new(),
            values: Vec::new(),
            payload: Payload::event("news", &()).unwrap(),
            todo: VecDeque::new(),
            outputs: Vec::new(),
            tamper,
            trace,
            steps: 0,
            events: 0,
        };
        scenario.acts.iter().enumerate().for_each(|(index, (at, _))| world.queue.push(*at, Event::Act(index)));
        world.queue.push(scenario.quiet, Event::Quiet);
        world.queue.push(scenario.quiet + SETTLING, Event::LastRequests);
        world.queue.push(scenario.quiet + SETTLING + 6 * SECOND, Event::End);
        world
    }

    /// Runs to the end, or to the first broken promise.
    pub(crate) fn run(mut self) -> (Result<Report, Violation>, Trace) {
        let result = match self.go_on() {
            Ok(()) => Ok(Report { steps: self.steps }),
            Err(violation) => Err(Violation { steps: self.steps, ..violation }),
        };
        (result, self.trace)
    }

    fn go_on(&mut self) -> Checked {
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            ensure(self.events < MAX_EVENTS, Check::Sleep, || "there is no end of it".to_owned())?;
            let is_end = matches!(event, Event::End);
            self.happen(event)?;
            self.follow_up()?;
            if is_end {
                break;
            }
            self.tick_early()?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Checked {
        match event {
            Event::Act(index) => return self.act(self.scenario.acts[index].1),
            Event::Arrive { to, connection, from, delivery } => {
                let peer = &self.peers[to];
                if peer.is_there() && peer.connected && peer.connection == connection {
                    return self.arrive(to, Some(from), delivery);
                }
            }
            Event::Wake(node) => return self.wake(node),
            Event::Thaw(node) => return self.thaw(node),
            Event::Reconnect(node) => return self.reconnect(node),
            Event::Count { node, asked } => self.count(node, asked),
            Event::Counted { node, node_count, count } => return self.counted(node, node_count, count),
            Event::ClientAnswer { node, to, request, answer } => self.client_answer(node, to, request, answer),
            Event::ForeignAnswer { node, to, response } if self.peers[node].is_there() => {
                self.respond(node, to, &response);
            }
            Event::ForeignBeat(node) => self.foreign_beat(node),
            Event::Uncount(node) => self.peers[node].counted = false,
            Event::Quiet => return self.quiet(),
            Event::LastRequests => return self.last_requests(),
            Event::End => return self.check_settled(),
            Event::ForeignAnswer { .. } => {}
        }
        Ok(())
    }

    /// Something arrives at a peer's door.
    pub(crate) fn arrive(&mut self, to: usize, from: Option<usize>, delivery: Delivery) -> Checked {
        let peer = &mut self.peers[to];
        match (&mut peer.own, peer.state) {
            (_, State::Gone) => Ok(()),
            (None, _) => {
                from.into_iter().for_each(|from| self.foreign_arrival(to, from, delivery.clone()));
                Ok(())
            }
            (Some(own), State::Frozen) => {
                let Some(backlog) = &mut own.backlog else { return Ok(()) };
                if let (Delivery::Response { .. }, Some(from)) = (&delivery, from) {
                    backlog.responders.push_back(from);
                }
                backlog.sender.push([delivery]);
                Ok(())
            }
            (Some(_), State::Running) => self.step(to, from, Input::Delivery(delivery)),
        }
    }

    /// An input of the node itself: it waits while the process stands still.
    pub(crate) fn feed(&mut self, node: usize, input: Input) -> Checked {
        let peer = &mut self.peers[node];
        let Some(own) = &mut peer.own else { return Ok(()) };
        match (peer.state, &mut own.backlog) {
            (State::Frozen, Some(backlog)) => backlog.inputs.push(input),
            (State::Running, _) => return self.step(node, None, input),
            _ => {}
        }
        Ok(())
    }

    // --- the end ---

    pub(crate) fn is_quiet(&self) -> bool {
        self.now >= self.scenario.quiet
    }

    /// From here on nothing goes wrong.
    fn quiet(&mut self) -> Checked {
        self.faults = Faults { jitter: self.scenario.faults.jitter, ..Faults::default() };
        self.partitions.clear();
        for node in 0..self.peers.len() {
            self.thaw(node)?;
            self.reconnect(node)?;
            let peer = &mut self.peers[node];
            peer.counted = peer.is_there();
        }
        Ok(())
    }

    fn there(&self) -> Set {
        (0..self.peers.len()).filter(|peer| self.peers[*peer].is_there()).collect()
    }

    /// Every node asks all others.
    fn last_requests(&mut self) -> Checked {
        let there = self.there();
        for node in self.own_nodes() {
            let others = there.without(Set::EMPTY.with(node));
            self.ask(node, Gather::Sockets, 5 * SECOND, false, Some(others))?;
        }
        Ok(())
    }

    fn check_settled(&mut self) -> Checked {
        let there = self.there();
        let foreign: Set = there.iter().filter(|peer| self.peers[*peer].is_foreign()).collect();
        let by_census = self.scenario.kind.membership == Membership::BrokerCount;
        let (named, unnamed) = if by_census { (there.without(foreign), foreign.len()) } else { (there, 0) };
        for node in self.own_nodes() {
            let Some(own) = &self.peers[node].own else { continue };
            let others = named.without(Set::EMPTY.with(node));
            own.witness.settled(&own.engine, others, unnamed, own.metrics.missed.value())?;
        }
        Ok(())
    }

    fn own_nodes(&self) -> Vec<usize> {
        self.there().iter().filter(|peer| !self.peers[*peer].is_foreign()).collect()
    }
}
