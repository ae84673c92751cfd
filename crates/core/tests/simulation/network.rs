//! How messages travel, and what the broker knows.

use std::iter;

use trunkline_core::{
    Answer, Heartbeat, Membership, Message, NodeId, Response, SocketId, SocketInfo,
    model::{Delivery, SeqChannel},
    transport::NodeCount,
};

use crate::{
    chance::Chance,
    checks::Count,
    names::{self, Set, Tag},
    peer::{LANES, Parcel},
    scenario::{MILLI, Micros},
    world::{Event, World},
};

/// Between two peers at least.
const LATENCY: Micros = 200;

/// A wall between two groups of peers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Partition {
    pub(crate) group: u64,
    pub(crate) end: Micros,
}

impl World<'_> {
    /// A peer publishes to all that are there and subscribed.
    pub(crate) fn publish(&mut self, from: usize, mut message: Message, channel: usize) {
        let numbered = self.scenario.kind.numbered;
        let peer = &mut self.peers[from];
        let seq_no = (numbered && !peer.is_foreign())
            .then(|| peer.sequencer.assign(&peer.id, SeqChannel(u16::try_from(channel).unwrap()), &mut message))
            .flatten();
        peer.serial += 1;
        peer.numbers[channel] += 1;
        let number = seq_no.map_or(peer.numbers[channel], |seq_no| seq_no.number);
        let parcel = Parcel { message, seq_no, tag: Tag { channel, number, serial: peer.serial } };
        if peer.connected {
            self.fan_out(from, &parcel);
        } else {
            peer.held.push(parcel);
        }
    }

    pub(crate) fn fan_out(&mut self, from: usize, parcel: &Parcel) {
        for to in 0..self.peers.len() {
            let peer = &self.peers[to];
            let is_wanted = peer.is_there() && peer.subscribed[parcel.tag.channel];
            if is_wanted && (to != from || self.scenario.kind.echo) {
                self.send_parcel(from, to, parcel);
            }
        }
    }

    fn send_parcel(&mut self, from: usize, to: usize, parcel: &Parcel) {
        let mut chance = self.chance([from as u64, to as u64, parcel.tag.serial, 0]);
        let lane = if self.scenario.kind.split { parcel.tag.channel } else { 0 };
        let is_skipped = parcel.seq_no.is_some() && chance.hits(100);
        // Foreign peers take a repeat for a message of its own, and answer twice.
        let may_repeat = parcel.seq_no.is_some() && !self.peers[to].is_foreign();
        let copies = self.transit(from, to, lane, may_repeat, &mut chance);
        for at in copies.into_iter().flatten() {
            let sender = self.peers[from].id.clone();
            let delivery = if is_skipped && parcel.message.request().is_none() {
                Delivery::Skipped { from: sender, seq_no: parcel.seq_no }
            } else {
                let offset = Some(parcel.tag.offset());
                Delivery::Message { from: Some(sender), seq_no: parcel.seq_no, offset, message: parcel.message.clone() }
            };
            self.push_arrival(at, from, to, delivery);
        }
    }

    /// A peer answers another.
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
        for at in self.transit(from, to, LANES - 1, may_repeat, &mut chance).into_iter().flatten() {
            self.push_arrival(at, from, to, Delivery::Response { from: name.clone(), response: response.clone() });
        }
    }

    /// When a message arrives, if it does, and when its repeat, if there is one.
    fn transit(
        &mut self,
        from: usize,
        to: usize,
        lane: usize,
        may_repeat: bool,
        chance: &mut Chance,
    ) -> [Option<Micros>; 2] {
        let faults = self.faults;
        if self.is_apart(from, to) || chance.hits(faults.loss) {
            return [None, None];
        }
        let delay = LATENCY + chance.below(faults.jitter);
        let is_late = may_repeat && chance.hits(faults.reorder);
        let last = &mut self.peers[from].arrivals[to][lane];
        if is_late {
            return [Some(self.now + delay + 3 * faults.jitter), None];
        }
        *last = (self.now + delay).max(*last);
        let first = *last;
        let repeat = (may_repeat && chance.hits(faults.duplication)).then(|| {
            *last += chance.below(faults.jitter);
            *last
        });
        [Some(first), repeat]
    }

    fn is_apart(&self, a: usize, b: usize) -> bool {
        let side = |group: u64, peer: usize| group >> (peer % 6) & 1;
        let now = self.now;
        self.partitions.iter().any(|wall| now < wall.end && side(wall.group, a) != side(wall.group, b))
    }

    fn push_arrival(&mut self, at: Micros, from: usize, to: usize, delivery: Delivery) {
        let connection = self.peers[to].connection;
        self.queue.push(at, Event::Arrive { to, connection, from, delivery });
    }

    pub(crate) fn chance(&self, occasion: [u64; 4]) -> Chance {
        Chance::new(self.scenario.seed, occasion)
    }

    // --- the broker's count ---

    /// A node asks for a count, unless one is on its way.
    pub(crate) fn ask_count(&mut self, node: usize) {
        let now = self.now;
        let origin = self.origin;
        let Some(own) = &mut self.peers[node].own else { return };
        if std::mem::replace(&mut own.counting, true) {
            own.count_again = true;
            return;
        }
        let asked = own.engine.begin_count(origin.instant(own.clock.local(now)));
        let delay = LATENCY + self.chance([node as u64, now, 2, 2]).below(self.faults.jitter);
        self.queue.push(now + delay, Event::Count { node, asked });
    }

    /// The broker counts.
    pub(crate) fn count(&mut self, node: usize, asked: Vec<NodeId>) {
        let counted: Set = (0..self.peers.len()).filter(|peer| self.peers[*peer].counted).collect();
        let absent: Set = asked.iter().filter_map(names::index).filter(|peer| !counted.contains(*peer)).collect();
        let is_absent = |node: &NodeId| names::index(node).is_some_and(|peer| absent.contains(peer));
        let (absent_names, known): (Vec<_>, Vec<_>) = asked.into_iter().partition(is_absent);
        let node_count = self.peers[node].connected.then(|| NodeCount {
            nodes: counted.len(),
            known: known.len(),
            absent: absent_names,
        });
        let delay = LATENCY + self.chance([node as u64, self.now, 3, 3]).below(self.faults.jitter);
        self.queue.push(self.now + delay, Event::Counted { node, node_count, count: Count { counted, absent } });
    }

    // --- foreign peers ---

    /// A peer like those of Node.js: it answers what it is asked, and where heartbeats are the custom it sends them, empty.
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
            self.publish(node, Message::Heartbeat(Heartbeat { initial, ..Heartbeat::default() }), 0);
        }
    }

    /// What a peer answers to a request, and how much later: its clients acknowledge in their own time, or never.
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
                    let is_silent = chance.hits(80) && !self.is_quiet();
                    let delay = chance.below(1500) * MILLI + 1;
                    (!is_silent).then(|| (delay, Answer::Ack(None)))
                });
                let count = Answer::ClientCount(u32::try_from(clients).unwrap());
                iter::once((0, count)).chain(acks).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn socket(name: &str) -> SocketInfo {
    SocketInfo { id: SocketId::new(name).unwrap(), node: None, rooms: vec![name.into()], handshake: None, data: None }
}
