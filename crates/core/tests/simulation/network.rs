//! The network between peers, and the broker's count of nodes.

use std::iter;

use trunkline_core::{
    Ack, Answer, Heartbeat, Membership, Message, NodeId, Response, SocketId, SocketInfo,
    model::{Delivery, SeqChannel},
    transport::NodeCount,
};

use crate::{
    chance::Chance,
    checks::BrokerCount,
    names::{self, Set, Tag},
    peer::{PATHS, PublishedMessage},
    scenario::{MILLI, Micros},
    world::{Event, World},
};

/// Minimum latency between two peers.
const LATENCY: Micros = 200;

/// A partition between two groups of peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) group: u64,
    pub(crate) end: Micros,
}

impl World<'_> {
    /// Publishes a message to all peers that are present and subscribed.
    pub(crate) fn publish(&mut self, from: usize, mut message: Message, channel: usize) {
        let numbered = self.scenario.kind.numbered;
        let peer = &mut self.peers[from];
        let seq_no = (numbered && !peer.is_foreign())
            .then(|| peer.sequencer.assign(&peer.id, SeqChannel(u16::try_from(channel).unwrap()), &mut message))
            .flatten();
        peer.serial += 1;
        peer.numbers[channel] += 1;
        let number = seq_no.map_or(peer.numbers[channel], |seq_no| seq_no.number);
        let published = PublishedMessage { message, seq_no, tag: Tag { channel, number, serial: peer.serial } };
        if peer.connected {
            self.fan_out(from, &published);
        } else {
            peer.unsent.push(published);
        }
    }

    pub(crate) fn fan_out(&mut self, from: usize, published: &PublishedMessage) {
        for to in 0..self.peers.len() {
            let peer = &self.peers[to];
            let is_wanted = peer.is_present() && peer.subscribed[published.tag.channel];
            if is_wanted && (to != from || self.scenario.kind.echo) {
                self.send_to(from, to, published);
            }
        }
    }

    fn send_to(&mut self, from: usize, to: usize, published: &PublishedMessage) {
        let mut chance = self.chance([from as u64, to as u64, published.tag.serial, 0]);
        let path = if self.scenario.kind.split { published.tag.channel } else { 0 };
        let is_skipped = published.seq_no.is_some() && chance.happens(100);
        // A foreign peer would process a repeat as a new message, and answer twice.
        let may_repeat = published.seq_no.is_some() && !self.peers[to].is_foreign();
        let copies = self.transit(from, to, path, may_repeat, &mut chance);
        for at in copies.into_iter().flatten() {
            let sender = self.peers[from].id.clone();
            let delivery = if is_skipped && published.message.request().is_none() {
                Delivery::Skipped { from: sender, seq_no: published.seq_no }
            } else {
                let offset = Some(published.tag.offset());
                Delivery::Message {
                    from: Some(sender),
                    seq_no: published.seq_no,
                    offset,
                    message: published.message.clone(),
                }
            };
            self.push_arrival(at, from, to, delivery);
        }
    }

    /// Sends an answer from one peer to another.
    pub(crate) fn respond(&mut self, from: usize, to: usize, response: &Response) {
        if !self.peers[from].connected {
            return;
        }
        self.peers[from].serial += 1;
        let mut chance = self.chance([from as u64, to as u64, self.peers[from].serial, 1]);
        let kind = self.scenario.kind;
        let has_name = !self.peers[from].is_foreign() || kind.membership == Membership::Heartbeats || kind.named;
        // A repeated acknowledgement cannot be told from that of another client.
        let may_repeat = has_name && !matches!(response.answer, Answer::Ack(_));
        let name = has_name.then(|| self.peers[from].id.clone());
        for at in self.transit(from, to, PATHS - 1, may_repeat, &mut chance).into_iter().flatten() {
            self.push_arrival(at, from, to, Delivery::Response { from: name.clone(), response: response.clone() });
        }
    }

    /// Arrival times of a message and of its repeat; `None` for one that does not arrive.
    fn transit(
        &mut self,
        from: usize,
        to: usize,
        path: usize,
        may_repeat: bool,
        chance: &mut Chance,
    ) -> [Option<Micros>; 2] {
        let faults = self.faults;
        if self.are_partitioned(from, to) || chance.happens(faults.loss) {
            return [None, None];
        }
        let delay = LATENCY + chance.below(faults.jitter);
        let is_late = may_repeat && chance.happens(faults.reorder);
        let last = &mut self.peers[from].arrivals[to][path];
        if is_late {
            return [Some(self.now + delay + 3 * faults.jitter), None];
        }
        *last = (self.now + delay).max(*last);
        let first = *last;
        let repeat = (may_repeat && chance.happens(faults.duplication)).then(|| {
            *last += chance.below(faults.jitter);
            *last
        });
        [Some(first), repeat]
    }

    fn are_partitioned(&self, a: usize, b: usize) -> bool {
        let side = |group: u64, peer: usize| group >> (peer % 6) & 1;
        let now = self.now;
        self.partitions
            .iter()
            .any(|partition| now < partition.end && side(partition.group, a) != side(partition.group, b))
    }

    fn push_arrival(&mut self, at: Micros, from: usize, to: usize, delivery: Delivery) {
        let connection = self.peers[to].connection;
        self.queue.push(at, Event::Arrive { to, connection, from, delivery });
    }

    pub(crate) fn chance(&self, occasion: [u64; 4]) -> Chance {
        Chance::new(self.scenario.seed, occasion)
    }

    // --- the broker's count ---

    /// Starts a count for a node, unless one is under way.
    pub(crate) fn ask_count(&mut self, node: usize) {
        let now = self.now;
        let origin = self.origin;
        let Some(engine_node) = &mut self.peers[node].engine_node else { return };
        if std::mem::replace(&mut engine_node.counting, true) {
            engine_node.count_again = true;
            return;
        }
        let candidates = engine_node.engine.begin_count(origin.instant(engine_node.clock.local(now)));
        let delay = LATENCY + self.chance([node as u64, now, 2, 2]).below(self.faults.jitter);
        self.queue.push(now + delay, Event::BrokerCount { node, candidates });
    }

    /// Counts the nodes at the broker.
    pub(crate) fn count(&mut self, node: usize, candidates: Vec<NodeId>) {
        let counted: Set = (0..self.peers.len()).filter(|peer| self.peers[*peer].counted).collect();
        let absent: Set = candidates.iter().filter_map(names::index).filter(|peer| !counted.contains(*peer)).collect();
        let is_absent = |node: &NodeId| names::index(node).is_some_and(|peer| absent.contains(peer));
        let (absent_names, known): (Vec<_>, Vec<_>) = candidates.into_iter().partition(is_absent);
        let node_count = self.peers[node].connected.then(|| NodeCount::new(counted.len(), known.len(), absent_names));
        let delay = LATENCY + self.chance([node as u64, self.now, 3, 3]).below(self.faults.jitter);
        self.queue.push(self.now + delay, Event::Counted { node, node_count, count: BrokerCount { counted, absent } });
    }

    // --- foreign peers ---

    /// Delivers to a peer like those of Node.js: it answers requests, and sends heartbeats without numbers where peers
    /// send heartbeats.
    pub(crate) fn foreign_arrival(&mut self, to: usize, from: usize, delivery: Delivery) {
        let Delivery::Message { message, .. } = delivery else { return };
        if from == to {
            return;
        }
        match message {
            Message::Heartbeat(Heartbeat { initial: true, .. }) => self.foreign_heartbeat(to, false),
            message => {
                for (delay, answer) in self.answers(to, &message) {
                    let Some(request) = message.request().cloned() else { continue };
                    let response = Response { request, answer };
                    if delay == 0 {
                        self.respond(to, from, &response);
                    } else {
                        self.queue.push(self.now + delay, Event::ForeignAnswer { node: to, to: from, response });
                    }
                }
            }
        }
    }

    pub(crate) fn foreign_heartbeat(&mut self, node: usize, initial: bool) {
        if self.scenario.kind.membership == Membership::Heartbeats {
            self.publish(node, Message::Heartbeat(Heartbeat::new(initial)), 0);
        }
    }

    /// The answers of a peer to a request, each with its delay: clients acknowledge after a while, or never.
    pub(crate) fn answers(&self, node: usize, message: &Message) -> Vec<(Micros, Answer)> {
        let name = self.peers[node].id.as_str();
        match message {
            Message::FetchSockets { .. } => vec![(0, Answer::Sockets(vec![socket(name)]))],
            Message::AllRooms { .. } => vec![(0, Answer::Rooms(vec![name.into()]))],
            Message::ServerSideEmit { request: Some(_), .. } => {
                vec![(0, Answer::ServerSideEmit(Some(self.values[node].clone())))]
            }
            Message::Broadcast { request: Some(request), .. } => {
                let salt = request.as_str().bytes().fold(0, |salt, byte| salt * 31 + u64::from(byte));
                let mut chance = self.chance([node as u64, salt, 4, 4]);
                let clients = chance.below(4);
                let acks = (0..clients).filter_map(|_| {
                    let is_silent = chance.happens(80) && !self.is_quiet();
                    let delay = chance.below(1500) * MILLI + 1;
                    (!is_silent).then(|| (delay, Answer::Ack(Ack::default())))
                });
                let count = Answer::ClientCount(u32::try_from(clients).unwrap());
                iter::once((0, count)).chain(acks).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn socket(name: &str) -> SocketInfo {
    SocketInfo::new(SocketId::new(name).unwrap(), vec![name.into()])
}
