//! Own requests that wait for answers.

use std::{
    collections::{BTreeSet, HashMap},
    time::Instant,
};

use crate::{
    error::{Answers, Error, ErrorKind, Partial, Result},
    id::{NodeId, RequestId},
    message::{Answer, SocketInfo},
    payload::Payload,
    room::Room,
};

/// Which answers a request gathers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// Sockets of every other node.
    Sockets,
    /// Rooms of every other node.
    Rooms,
    /// A value of every other node.
    Values,
    /// Client counts of every node and acknowledgements of their clients.
    Acks,
}

/// One request.
#[derive(Debug)]
pub(super) struct Pending {
    gather: Gather,
    pub(super) deadline: Instant,
    /// Nodes known by name that have not answered.
    waiting: BTreeSet<NodeId>,
    /// Nodes known by name that have answered.
    answered: BTreeSet<NodeId>,
    /// Answers that name nobody.
    unnamed_answers: usize,
    /// Whether this node's own client count is still to come (acknowledged broadcasts only).
    own_outstanding: bool,
    /// The broker's count of other nodes, where it is asked; no completion without it.
    census: Census,
    sockets: Vec<SocketInfo>,
    rooms: BTreeSet<Room>,
    values: Vec<Option<Payload>>,
    acks: Acks,
}

/// What a request knows of the number of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Census {
    /// All nodes are known by name.
    NotNeeded,
    /// The broker has not told yet.
    Unknown,
    /// Other nodes counted, and those among them without a name.
    Others { all: usize, unnamed: usize },
}

/// Acknowledgements of clients, by the node that serves them. Counts and acknowledgements may come in either order.
#[derive(Debug, Default)]
struct Acks {
    nodes: HashMap<Option<NodeId>, NodeAcks>,
}

#[derive(Clone, Copy, Debug, Default)]
struct NodeAcks {
    announced: Option<u64>,
    received: u64,
}

impl Pending {
    pub(super) fn new(gather: Gather, deadline: Instant, waiting: BTreeSet<NodeId>, census: Census) -> Self {
        Self {
            gather,
            deadline,
            waiting,
            answered: BTreeSet::new(),
            unnamed_answers: 0,
            own_outstanding: gather == Gather::Acks,
            census,
            sockets: Vec::new(),
            rooms: BTreeSet::new(),
            values: Vec::new(),
            acks: Acks::default(),
        }
    }

    /// Takes an answer in. Returns an acknowledgement that is to be passed on at once, and whether the answer was of any use.
    pub(super) fn answer(&mut self, from: Option<&NodeId>, answer: Answer) -> (Option<Option<Payload>>, bool) {
        if let Answer::Ack(value) = answer {
            let wanted = self.gather == Gather::Acks;
            self.acks.received(from);
            return (wanted.then_some(value), wanted);
        }
        if !self.gather.expects(&answer) || !self.note_answered(from) {
            return (None, false);
        }
        match answer {
            Answer::Sockets(sockets) if self.gather == Gather::Rooms => {
                self.rooms.extend(sockets.into_iter().flat_map(|socket| socket.rooms));
            }
            Answer::Sockets(sockets) => self.sockets.extend(sockets),
            Answer::Rooms(rooms) => self.rooms.extend(rooms),
            Answer::ServerSideEmit(value) => self.values.push(value),
            Answer::ClientCount(count) => self.acks.announced(from, count),
            Answer::Ack(_) => {}
        }
        (None, true)
    }

    /// Takes this node's own client count in.
    pub(super) fn own_client_count(&mut self, me: &NodeId, count: u32) {
        self.own_outstanding = false;
        self.acks.announced(Some(me), count);
    }

    /// Notes that a node has answered. Returns `false` for a second answer.
    fn note_answered(&mut self, from: Option<&NodeId>) -> bool {
        let Some(from) = from else {
            self.unnamed_answers += 1;
            return true;
        };
        self.waiting.remove(from);
        self.answered.insert(from.clone())
    }

    /// A node is gone: neither its answer nor its clients are waited for.
    pub(super) fn node_gone(&mut self, node: &NodeId) {
        self.waiting.remove(node);
        self.acks.node_gone(node);
    }

    /// The broker has counted.
    pub(super) fn counted(&mut self, all: usize, unnamed: usize) {
        if self.census != Census::NotNeeded {
            self.census = Census::Others { all, unnamed };
        }
    }

    /// Whether nothing more is to come.
    pub(super) fn is_complete(&self) -> bool {
        let nodes_done = match self.census {
            Census::NotNeeded => self.waiting.is_empty(),
            Census::Unknown => false,
            Census::Others { all, unnamed } => {
                let named_done = self.waiting.is_empty() && self.unnamed_answers >= unnamed;
                named_done || self.other_answers() >= all
            }
        };
        nodes_done && !self.own_outstanding && self.acks.is_complete()
    }

    fn other_answers(&self) -> usize {
        self.answered.len() + self.unnamed_answers
    }

    /// What was gathered.
    pub(super) fn finish(self) -> Result<Answers> {
        if self.is_complete() { Ok(self.answers()) } else { Err(self.timed_out()) }
    }

    fn timed_out(self) -> Error {
        let missing: Vec<_> = self.waiting.iter().cloned().collect();
        let missing_unnamed = match self.census {
            Census::Others { unnamed, .. } => unnamed.saturating_sub(self.unnamed_answers),
            Census::NotNeeded | Census::Unknown => 0,
        };
        let context = self.describe_missing(&missing, missing_unnamed);
        Error::new(ErrorKind::Timeout, context).with_partial(Partial {
            answers: self.answers(),
            missing,
            missing_unnamed,
        })
    }

    fn describe_missing(&self, missing: &[NodeId], missing_unnamed: usize) -> String {
        let nodes = missing.len() + missing_unnamed;
        if nodes == 0 && self.gather == Gather::Acks {
            let (expected, received) = self.acks.totals();
            return format!("{received} of {expected} clients acknowledged");
        }
        let names: Vec<_> = missing.iter().map(NodeId::as_str).collect();
        let total = nodes + self.other_answers();
        match names.as_slice() {
            [] => format!("{nodes} of {total} nodes did not answer"),
            names => format!("{nodes} of {total} nodes did not answer, among them {}", names.join(", ")),
        }
    }

    fn answers(self) -> Answers {
        match self.gather {
            Gather::Sockets => Answers::Sockets(self.sockets),
            Gather::Rooms => Answers::Rooms(self.rooms.into_iter().collect()),
            Gather::Values => Answers::Values(self.values),
            Gather::Acks => {
                let (expected, received) = self.acks.totals();
                Answers::Acks { expected, received }
            }
        }
    }
}

impl Gather {
    fn expects(self, answer: &Answer) -> bool {
        match answer {
            Answer::Sockets(_) => matches!(self, Self::Sockets | Self::Rooms),
            Answer::Rooms(_) => self == Self::Rooms,
            Answer::ServerSideEmit(_) => self == Self::Values,
            Answer::ClientCount(_) | Answer::Ack(_) => self == Self::Acks,
        }
    }
}

impl Acks {
    fn entry(&mut self, from: Option<&NodeId>) -> &mut NodeAcks {
        self.nodes.entry(from.cloned()).or_default()
    }

    fn announced(&mut self, from: Option<&NodeId>, count: u32) {
        let node = self.entry(from);
        node.announced = Some(node.announced.unwrap_or(0) + u64::from(count));
    }

    fn received(&mut self, from: Option<&NodeId>) {
        self.entry(from).received += 1;
    }

    /// The clients of a dead node that have not answered will not.
    fn node_gone(&mut self, node: &NodeId) {
        if let Some(acks) = self.nodes.get_mut(&Some(node.clone())) {
            acks.announced = Some(acks.received);
        }
    }

    /// Where some answers name nobody, their sums decide: a node may name itself in one answer and not in the other.
    fn is_complete(&self) -> bool {
        let each = self.nodes.values().all(|node| node.announced.is_some_and(|count| node.received >= count));
        let (expected, received) = self.totals();
        each || (self.nodes.contains_key(&None) && received >= expected)
    }

    fn totals(&self) -> (u64, u64) {
        self.nodes.values().fold((0, 0), |(expected, received), node| {
            (expected + node.announced.unwrap_or(0), received + node.received)
        })
    }
}

/// All own requests, bounded.
#[derive(Debug, Default)]
pub(super) struct Requests {
    pending: HashMap<RequestId, Pending>,
}

impl Requests {
    pub(super) fn insert(&mut self, id: RequestId, pending: Pending) {
        self.pending.insert(id, pending);
    }

    pub(super) fn get_mut(&mut self, id: &RequestId) -> Option<&mut Pending> {
        self.pending.get_mut(id)
    }

    pub(super) fn remove(&mut self, id: &RequestId) -> Option<Pending> {
        self.pending.remove(id)
    }

    pub(super) fn len(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Pending> {
        self.pending.values_mut()
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.pending.values().map(|pending| pending.deadline).min()
    }

    /// Removes those that are complete or whose time is up, in the order of their ids.
    pub(super) fn take_ended(&mut self, now: Instant) -> Vec<(RequestId, Pending)> {
        let ended = |pending: &Pending| pending.deadline <= now || pending.is_complete();
        let mut ids: Vec<_> =
            self.pending.iter().filter(|(_, pending)| ended(pending)).map(|(id, _)| id.clone()).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|id| self.pending.remove(&id).map(|pending| (id, pending))).collect()
    }
}
