//! One run: peers, simulated time, and future events.

use std::collections::VecDeque;

use trunkline_core::{
    Answer, Membership, NodeId, Payload, RequestId, Response,
    engine::{Gather, Input, Output},
    model::Delivery,
    transport::NodeCount,
};

use crate::{
    checks::{BrokerCount, Check, Checked, Violation, ensure},
    clock::Origin,
    defects::DefectInjector,
    names::Set,
    network::Partition,
    peer::{Peer, State},
    queue::Queue,
    scenario::{Faults, Micros, SECOND, Scenario},
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
    /// The answer of each peer to a server-side emit.
    pub(crate) values: Vec<Payload>,
    pub(crate) payload: Payload,
    /// Inputs that follow from outputs.
    pub(crate) follow_ups: VecDeque<(usize, Input)>,
    /// Empty between steps; kept to reuse its memory.
    pub(crate) outputs: Vec<Output>,
    pub(crate) defects: DefectInjector,
    pub(crate) trace: Trace,
    pub(crate) steps: u64,
    pub(crate) events: u64,
}

/// A future event.
#[derive(Debug)]
pub(crate) enum Event {
    Action(usize),
    Arrive { to: usize, connection: u32, from: usize, delivery: Delivery },
    Wake(usize),
    Thaw(usize),
    Reconnect(usize),
    BrokerCount { node: usize, candidates: Vec<NodeId> },
    Counted { node: usize, node_count: Option<NodeCount>, count: BrokerCount },
    ClientAnswer { node: usize, to: Option<NodeId>, request: RequestId, answer: Answer },
    ForeignAnswer { node: usize, to: usize, response: Response },
    ForeignHeartbeat(usize),
    StopCounting(usize),
    Quiet,
    FinalRequests,
    End,
}

/// The cost of a run.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Report {
    /// Number of calls of `Engine::handle`.
    pub(crate) steps: u64,
}

/// Time until all nodes know each other: a silent node is detected after 11 s, its clock may be slow, and the loss of
/// its last messages may be noticed 6 s later.
const SETTLING: Micros = 26 * SECOND;

/// Maximum number of events; a run with more does not end.
const MAX_EVENTS: u64 = 1_000_000;

impl<'a> World<'a> {
    pub(crate) fn new(scenario: &'a Scenario, defects: DefectInjector, trace: Trace) -> Self {
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
            follow_ups: VecDeque::new(),
            outputs: Vec::new(),
            defects,
            trace,
            steps: 0,
            events: 0,
        };
        scenario.actions.iter().enumerate().for_each(|(index, (at, _))| world.queue.push(*at, Event::Action(index)));
        world.queue.push(scenario.quiet, Event::Quiet);
        world.queue.push(scenario.quiet + SETTLING, Event::FinalRequests);
        world.queue.push(scenario.quiet + SETTLING + 6 * SECOND, Event::End);
        world
    }

    /// Runs to the end, or to the first broken promise.
    pub(crate) fn run(mut self) -> (Result<Report, Violation>, Trace) {
        let result = match self.run_events() {
            Ok(()) => Ok(Report { steps: self.steps }),
            Err(violation) => Err(Violation { steps: self.steps, ..violation }),
        };
        (result, self.trace)
    }

    fn run_events(&mut self) -> Checked {
        while let Some((at, event)) = self.queue.pop() {
            self.now = at;
            self.events += 1;
            ensure(self.events < MAX_EVENTS, Check::WakeUp, || "there is no end of it".to_owned())?;
            let is_end = matches!(event, Event::End);
            self.handle_event(event)?;
            self.handle_follow_ups()?;
            if is_end {
                break;
            }
            self.tick_early()?;
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Checked {
        match event {
            Event::Action(index) => return self.action(self.scenario.actions[index].1),
            Event::Arrive { to, connection, from, delivery } => {
                let peer = &self.peers[to];
                if peer.is_present() && peer.connected && peer.connection == connection {
                    return self.arrive(to, Some(from), delivery);
                }
            }
            Event::Wake(node) => return self.wake(node),
            Event::Thaw(node) => return self.thaw(node),
            Event::Reconnect(node) => return self.reconnect(node),
            Event::BrokerCount { node, candidates } => self.count(node, candidates),
            Event::Counted { node, node_count, count } => return self.counted(node, node_count, count),
            Event::ClientAnswer { node, to, request, answer } => self.client_answer(node, to, request, answer),
            Event::ForeignAnswer { node, to, response } if self.peers[node].is_present() => {
                self.respond(node, to, &response);
            }
            Event::ForeignHeartbeat(node) => self.foreign_heartbeat_due(node),
            Event::StopCounting(node) => self.peers[node].counted = false,
            Event::Quiet => return self.quiet(),
            Event::FinalRequests => return self.final_requests(),
            Event::End => return self.check_settled(),
            Event::ForeignAnswer { .. } => {}
        }
        Ok(())
    }

    /// Delivers something to a peer, or to its inbox while it is frozen.
    pub(crate) fn arrive(&mut self, to: usize, from: Option<usize>, delivery: Delivery) -> Checked {
        let peer = &mut self.peers[to];
        match (&mut peer.engine_node, peer.state) {
            (_, State::Gone) => Ok(()),
            (None, _) => {
                from.into_iter().for_each(|from| self.foreign_arrival(to, from, delivery.clone()));
                Ok(())
            }
            (Some(engine_node), State::Frozen) => {
                let Some(backlog) = &mut engine_node.backlog else { return Ok(()) };
                if let (Delivery::Response { .. }, Some(from)) = (&delivery, from) {
                    backlog.responders.push_back(from);
                }
                backlog.sender.push([delivery]);
                Ok(())
            }
            (Some(_), State::Running) => self.step(to, from, Input::Delivery(delivery)),
        }
    }

    /// Gives a node an input of its own, which waits while the process is frozen.
    pub(crate) fn feed(&mut self, node: usize, input: Input) -> Checked {
        let peer = &mut self.peers[node];
        let Some(engine_node) = &mut peer.engine_node else { return Ok(()) };
        match (peer.state, &mut engine_node.backlog) {
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

    /// Ends all faults.
    fn quiet(&mut self) -> Checked {
        self.faults = Faults { jitter: self.scenario.faults.jitter, ..Faults::default() };
        self.partitions.clear();
        for node in 0..self.peers.len() {
            self.thaw(node)?;
            self.reconnect(node)?;
            let peer = &mut self.peers[node];
            peer.counted = peer.is_present();
        }
        Ok(())
    }

    fn present(&self) -> Set {
        (0..self.peers.len()).filter(|peer| self.peers[*peer].is_present()).collect()
    }

    /// Has every node send a request that all others must answer.
    fn final_requests(&mut self) -> Checked {
        let present = self.present();
        for node in self.own_nodes() {
            let others = present.without(Set::EMPTY.with(node));
            self.ask(node, Gather::Sockets, 5 * SECOND, false, Some(others))?;
        }
        Ok(())
    }

    fn check_settled(&mut self) -> Checked {
        let present = self.present();
        let foreign: Set = present.iter().filter(|peer| self.peers[*peer].is_foreign()).collect();
        let by_count = self.scenario.kind.membership == Membership::BrokerCount;
        let (named, unnamed) = if by_count { (present.without(foreign), foreign.len()) } else { (present, 0) };
        for node in self.own_nodes() {
            let Some(engine_node) = &self.peers[node].engine_node else { continue };
            let others = named.without(Set::EMPTY.with(node));
            engine_node.checker.settled(&engine_node.engine, others, unnamed, engine_node.metrics.missed.value())?;
        }
        Ok(())
    }

    fn own_nodes(&self) -> Vec<usize> {
        self.present().iter().filter(|peer| !self.peers[*peer].is_foreign()).collect()
    }
}
