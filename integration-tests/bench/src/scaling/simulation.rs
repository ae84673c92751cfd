//! Many engines on a simulated network that loses nothing: what they say to each other, counted.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use trunkline::core::{
    Answer, Capabilities, Membership, Message, Namespace, NodeId, NodeKey, NodeMetrics, RequestId, Response, SocketId,
    SocketInfo, Target,
    codec::{Format, encode},
    engine::{Engine, EngineConfig, Gather, Input, Output, Request},
    model::{Delivery, SeqChannel, SeqNo},
};

use super::figures::{Figure, Quantity};
use crate::Failure;

/// What a cluster of so many nodes says while nothing is emitted, when a node starts, when one dies, and when one asks all.
pub(crate) fn measure(nodes: usize) -> Result<Vec<Figure>, Failure> {
    let mut world = World::new();
    for _ in 0..nodes {
        world.start()?;
        // Over one interval, as processes start: otherwise all heartbeats fall together.
        world.run(INTERVAL / u32::try_from(nodes)?);
    }
    world.run_until("all nodes know each other", |world| world.all_know(nodes))?;
    world.run(INTERVAL);

    let before = world.counts;
    world.run(WINDOW);
    let idle = world.counts.since(before);

    let (before, began) = (world.counts, world.now);
    world.start()?;
    world.run_until("all nodes know the new one", |world| world.all_know(nodes + 1))?;
    let started = world.now - began;
    world.run(SETTLED);
    let start = world.counts.since(before);

    let began = world.now;
    world.nodes[nodes] = None;
    world.run_until("the dead node is given up", |world| world.all_know(nodes))?;
    let given_up = world.now - began;

    let (before, began) = (world.counts, world.now);
    world.fetch()?;
    world.run_until("all nodes have answered", |world| world.finished > 0)?;
    let fetched = world.counts.since(before);
    let fetch_took = world.now - began;

    let seconds = WINDOW.as_secs_f64();
    let figure = |quantity, value| Figure { source: "simulation".into(), nodes, quantity, value };
    Ok(vec![
        figure(Quantity::IdleMessages, idle.messages as f64 / seconds),
        figure(Quantity::IdleBytes, idle.bytes as f64 / seconds),
        figure(Quantity::IdleDeliveries, idle.deliveries as f64 / seconds / nodes as f64),
        figure(Quantity::StartMessages, start.messages as f64),
        figure(Quantity::StartTime, started.as_secs_f64()),
        figure(Quantity::DeathTime, given_up.as_secs_f64()),
        figure(Quantity::FetchAnswers, fetched.answers as f64),
        figure(Quantity::FetchTime, fetch_took.as_secs_f64()),
    ])
}

/// What was sent so far.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    /// Published to all.
    messages: u64,
    /// Of what was published.
    bytes: u64,
    /// Messages that nodes have received.
    deliveries: u64,
    /// Sent to one node.
    answers: u64,
}

impl Counts {
    fn since(self, before: Self) -> Self {
        Self {
            messages: self.messages - before.messages,
            bytes: self.bytes - before.bytes,
            deliveries: self.deliveries - before.deliveries,
            answers: self.answers - before.answers,
        }
    }
}

struct World {
    now: Instant,
    /// None for a node that has died.
    nodes: Vec<Option<Node>>,
    /// In the order of their arrival: all take the same time.
    under_way: VecDeque<UnderWay>,
    counts: Counts,
    /// Requests that ended with all answers.
    finished: usize,
}

struct Node {
    key: NodeKey,
    engine: Engine,
}

struct UnderWay {
    due: Instant,
    from: usize,
    /// None is all others.
    to: Option<usize>,
    delivery: Delivery,
}

impl World {
    fn new() -> Self {
        Self {
            now: Instant::now(),
            nodes: Vec::new(),
            under_way: VecDeque::new(),
            counts: Counts::default(),
            finished: 0,
        }
    }

    fn start(&mut self) -> Result<(), Failure> {
        let node = self.nodes.len();
        let key = NodeKey { id: NodeId::new(format!("{node:016x}"))?, namespace: Namespace::new("/") };
        let engine = Engine::new(key.clone(), capabilities(), EngineConfig::default(), Arc::<NodeMetrics>::default());
        self.nodes.push(Some(Node { key, engine }));
        self.input(node, Input::Start);
        Ok(())
    }

    /// The first node fetches a socket of each.
    fn fetch(&mut self) -> Result<(), Failure> {
        let id = RequestId::new("0123456789abcdef")?;
        let message = Message::FetchSockets { request: id.clone(), target: Target::all() };
        let deadline = self.now + Duration::from_secs(5);
        self.input(0, Input::Request(Request { id, gather: Gather::Sockets, message: Some(message), deadline }));
        Ok(())
    }

    /// Whether each of so many nodes knows all others, and no more.
    fn all_know(&self, nodes: usize) -> bool {
        self.nodes.iter().flatten().all(|node| node.engine.members().count() + 1 == nodes)
    }

    fn run_until(&mut self, what: &str, is_done: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        let limit = self.now + Duration::from_secs(60);
        while !is_done(self) {
            if self.now > limit {
                return Err(format!("simulation: it takes more than a minute until {what}").into());
            }
            self.run(STEP);
        }
        Ok(())
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            while self.under_way.front().is_some_and(|next| next.due <= self.now) {
                let Some(next) = self.under_way.pop_front() else { break };
                self.arrive(next);
            }
            for node in 0..self.nodes.len() {
                let deadline = self.nodes[node].as_ref().and_then(|node| node.engine.deadline());
                if deadline.is_some_and(|deadline| deadline <= self.now) {
                    self.input(node, Input::Tick);
                }
            }
        }
    }

    fn arrive(&mut self, UnderWay { from, to, delivery, .. }: UnderWay) {
        let receivers = to.map_or(0..self.nodes.len(), |to| to..to + 1);
        for receiver in receivers {
            if receiver != from && self.nodes[receiver].is_some() {
                self.counts.deliveries += 1;
                self.input(receiver, Input::Delivery(delivery.clone()));
            }
        }
    }

    fn input(&mut self, index: usize, input: Input) {
        let Some(node) = &mut self.nodes[index] else { return };
        node.engine.handle(self.now, input);
        let mut answered = None;
        while let Some(output) = node.engine.poll_output() {
            let due = self.now + LATENCY;
            match output {
                Output::Publish(message) => {
                    let bytes = encode(Format::Json, &node.key.id, &node.key.namespace, &message);
                    let mark = SeqNo { channel: SeqChannel::ALL, number: 1_000_000 };
                    self.counts.messages += 1;
                    self.counts.bytes += bytes.map_or(0, |bytes| bytes.finish(None, &[mark]).len()) as u64;
                    let from = Some(node.key.id.clone());
                    let delivery = Delivery::Message { from, seq_no: None, offset: None, message };
                    self.under_way.push_back(UnderWay { due, from: index, to: None, delivery });
                }
                Output::Send(to, response) => {
                    self.counts.answers += 1;
                    let delivery = Delivery::Response { from: Some(node.key.id.clone()), response };
                    let to = usize::from_str_radix(to.as_str(), 16).ok();
                    self.under_way.push_back(UnderWay { due, from: index, to, delivery });
                }
                Output::Serve { from, message: Message::FetchSockets { request, .. }, .. } => {
                    answered = Some(answer(from, request, &node.key.id));
                }
                Output::Finished(_, Ok(_)) => self.finished += 1,
                _ => {}
            }
        }
        if let Some(answer) = answered {
            self.input(index, answer);
        }
    }
}

/// One socket.
fn answer(to: NodeId, request: RequestId, me: &NodeId) -> Input {
    let sockets = SocketId::new(me.as_str()).map(|id| SocketInfo::new(id, vec!["room".into()])).into_iter().collect();
    let Response { request, answer } = Response { request, answer: Answer::Sockets(sockets) };
    Input::LocalAnswer { to: Some(to), request, answer }
}

/// Capabilities of a transport without a node counter: membership is known from heartbeats, so most of the work is the
/// engine's.
fn capabilities() -> Capabilities {
    Capabilities::new(Membership::Heartbeats)
        .with_acknowledged_in_order(true)
        .with_numbered(true)
        .with_announced_leave(true)
        .with_named_answers(true)
}

const STEP: Duration = Duration::from_millis(1);
/// Latency from one node to another.
const LATENCY: Duration = Duration::from_millis(1);
/// Time between two heartbeats of a node.
const INTERVAL: Duration = Duration::from_secs(5);
/// Time for which an idle cluster is watched.
const WINDOW: Duration = Duration::from_secs(20);
/// Time in which all have answered a newcomer.
const SETTLED: Duration = Duration::from_secs(1);
