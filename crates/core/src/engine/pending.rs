//! One own request that waits for answers.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{
    acks::Acks,
    interface::{Gather, Gathered},
    parts::Parts,
    unnamed_peers::{Discovery, UnnamedPeers},
};
use crate::{
    error::{Error, ErrorKind},
    model::{Ack, Answer, Incomplete, NodeId, Part, RequestError, Room, SocketInfo},
    payload::Payload,
};

/// An own request: what it gathers, which nodes have answered, and their answers.
#[derive(Debug)]
pub(super) struct Pending {
    gather: Gather,
    pub(super) deadline: Instant,
    /// Nodes that are or were waited for, and others that have answered; sorted by name.
    responders: Vec<Responder>,
    /// Number of responders that are [`State::Awaited`].
    awaited: usize,
    /// Nodes without a name that are waited for too; `None` where all nodes are known by name.
    unnamed_peers: Option<UnnamedPeers>,
    sockets: Vec<SocketInfo>,
    rooms: BTreeSet<Room>,
    values: Vec<Option<Payload>>,
    acks: Acks,
    answered_at: Vec<(NodeId, Instant)>,
    echo: Option<Duration>,
    /// Whether an own heartbeat must come back, too.
    awaits_echo: bool,
    parts: Parts,
    /// Nodes whose answer, or a part of it, the broker does not take, and what they say of its size.
    too_large: Vec<(Option<NodeId>, String)>,
}

/// A node that is asked, or has answered.
#[derive(Debug)]
struct Responder {
    node: NodeId,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Known by name when the request began, and has not answered.
    Awaited,
    /// Has answered.
    Answered,
    /// Has answered, and is not known by name.
    AnsweredUnnamed,
    /// Is not seen by the broker. It is not waited for: it may be dead. It is missing unless it answers: it may be cut off.
    Absent,
    /// Has left or fallen silent: neither waited for nor missing, unless it comes back.
    Gone,
}

/// Effect of an answer on a request.
#[derive(Debug, PartialEq)]
pub(super) enum AnswerOutcome {
    /// A client's acknowledgement, to be passed on at once.
    Acknowledgement(Ack),
    /// Gathered.
    Noted,
    /// Ignored: a repeat, or of another kind than the request gathers.
    Nothing,
}

impl Pending {
    /// A request that `nodes`, sorted, are to answer, and `absent` ones cannot, as far as the broker knows.
    pub(super) fn new<'a>(
        gather: Gather,
        deadline: Instant,
        nodes: impl Iterator<Item = &'a NodeId>,
        absent: impl Iterator<Item = &'a NodeId>,
        unnamed_peers: Option<UnnamedPeers>,
    ) -> Self {
        let responder = |state| move |node: &NodeId| Responder { node: node.clone(), state };
        let mut responders: Vec<_> = nodes.map(responder(State::Awaited)).collect();
        let awaited = responders.len();
        responders.extend(absent.map(responder(State::Absent)));
        if responders.len() > awaited {
            responders.sort_unstable_by(|one, other| one.node.cmp(&other.node));
        }
        Self {
            gather,
            deadline,
            awaited,
            responders,
            unnamed_peers,
            sockets: Vec::new(),
            rooms: BTreeSet::new(),
            values: Vec::new(),
            acks: Acks::new(gather == Gather::Acks),
            answered_at: Vec::new(),
            echo: None,
            awaits_echo: false,
            parts: Parts::default(),
            too_large: Vec::new(),
        }
    }

    /// The same, which is complete only when an own heartbeat has come back, too.
    pub(super) fn awaiting_echo(self, awaits_echo: bool) -> Self {
        Self { awaits_echo, ..self }
    }

    /// Adds an answer of another node. `known` tells whether `from` is a node known by name.
    pub(super) fn answer(&mut self, now: Instant, from: Option<&NodeId>, known: bool, answer: Answer) -> AnswerOutcome {
        if !self.gather.expects(&answer) {
            return AnswerOutcome::Nothing;
        }
        match answer {
            Answer::Ack(ack) => {
                let fresh = self.acks.received(from);
                return if fresh { AnswerOutcome::Acknowledgement(ack) } else { AnswerOutcome::Nothing };
            }
            Answer::Part(part) => return self.part(from, known, part),
            Answer::TooLarge(text) => return self.too_large(from, known, text),
            _ => {}
        }
        if !self.note_answered(from, known) {
            return AnswerOutcome::Nothing;
        }
        if self.gather == Gather::RoundTrips {
            self.answered_at.extend(from.map(|from| (from.clone(), now)));
        } else {
            self.add(from, answer);
        }
        AnswerOutcome::Noted
    }

    /// Notes how long an own heartbeat took to the broker and back.
    pub(super) fn echoed(&mut self, took: Duration) {
        if self.gather == Gather::RoundTrips && self.echo.is_none() {
            self.echo = Some(took);
            self.awaits_echo = false;
        }
    }

    /// Adds a part of an answer. It counts when all parts are there.
    fn part(&mut self, from: Option<&NodeId>, known: bool, part: Part) -> AnswerOutcome {
        let Some(from) = from.filter(|from| !self.has_answered(from)) else { return AnswerOutcome::Nothing };
        if !self.parts.add(from, part) {
            return AnswerOutcome::Nothing;
        }
        if let Some(answers) = self.parts.take_whole(from) {
            self.note_answered(Some(from), known);
            answers.into_iter().for_each(|answer| self.add(Some(from), answer));
        }
        AnswerOutcome::Noted
    }

    /// Notes that a node cannot send its answer, or a part of it; of an acknowledged broadcast, one acknowledgement.
    fn too_large(&mut self, from: Option<&NodeId>, known: bool, text: String) -> AnswerOutcome {
        let fresh = match self.gather {
            Gather::Acks => self.acks.refused(from),
            _ => self.note_answered(from, known),
        };
        if !fresh {
            return AnswerOutcome::Nothing;
        }
        let parts = from.map(|from| self.parts.take(from)).unwrap_or_default();
        parts.into_iter().for_each(|answer| self.add(from, answer));
        self.too_large.push((from.cloned(), text));
        AnswerOutcome::Noted
    }

    fn add(&mut self, from: Option<&NodeId>, answer: Answer) {
        match answer {
            Answer::Sockets(sockets) if self.gather == Gather::Rooms => {
                self.rooms.extend(sockets.into_iter().flat_map(|socket| socket.rooms));
            }
            Answer::Sockets(mut sockets) => {
                name_node(&mut sockets, from);
                match self.sockets.is_empty() {
                    true => self.sockets = sockets,
                    false => self.sockets.append(&mut sockets),
                }
            }
            Answer::Rooms(rooms) => self.rooms.extend(rooms),
            Answer::ServerSideEmit(value) => self.values.push(value),
            Answer::ClientCount(count) => self.acks.announced(from, count),
            Answer::Ack(_) | Answer::Part(_) | Answer::TooLarge(_) => {}
        }
    }

    /// Adds an answer of this node's own clients.
    pub(super) fn own_answer(&mut self, answer: Answer) -> AnswerOutcome {
        match answer {
            Answer::ClientCount(count) => self.acks.own_announced(count),
            Answer::Ack(ack) if self.acks.own_received() => return AnswerOutcome::Acknowledgement(ack),
            _ => return AnswerOutcome::Nothing,
        }
        AnswerOutcome::Noted
    }

    /// Whether a node has answered, or was given up.
    fn has_answered(&self, node: &NodeId) -> bool {
        self.position(node).is_ok_and(|index| !self.responders[index].state.is_missing())
    }

    /// Notes that a node has answered. Returns `false` for a second answer, and for one of a node that was given up.
    fn note_answered(&mut self, from: Option<&NodeId>, known: bool) -> bool {
        let Some(from) = from else {
            self.unnamed_peers.iter_mut().for_each(UnnamedPeers::answered);
            return true;
        };
        match self.position(from) {
            Ok(index) if !self.responders[index].state.is_missing() => return false,
            Ok(index) => {
                let before = std::mem::replace(&mut self.responders[index].state, State::Answered);
                self.awaited -= usize::from(before == State::Awaited);
            }
            Err(index) => {
                let state = if known { State::Answered } else { State::AnsweredUnnamed };
                self.responders.insert(index, Responder { node: from.clone(), state });
                match &mut self.unnamed_peers {
                    Some(unnamed_peers) if known => unnamed_peers.named_answered(from),
                    Some(unnamed_peers) => unnamed_peers.answered(),
                    None => {}
                }
            }
        }
        true
    }

    fn position(&self, node: &NodeId) -> Result<usize, usize> {
        self.responders.binary_search_by(|responder| responder.node.cmp(node))
    }

    /// Stops waiting for a node that is gone, and for its clients.
    pub(super) fn node_gone(&mut self, node: &NodeId) {
        self.give_up(node, State::Gone);
        self.parts.take(node);
    }

    /// Stops waiting for a node that the broker does not see, and for its clients: they are missing.
    pub(super) fn node_absent(&mut self, node: &NodeId) {
        let has_all = self.has_answered(node) && !self.acks.awaits(node);
        self.give_up(node, if has_all { State::Answered } else { State::Absent });
    }

    fn give_up(&mut self, node: &NodeId, state: State) {
        self.unnamed_peers.iter_mut().for_each(|unnamed_peers| unnamed_peers.gone(node));
        let Ok(index) = self.position(node) else { return };
        let before = std::mem::replace(&mut self.responders[index].state, state);
        self.awaited -= usize::from(before == State::Awaited);
        self.acks.node_gone(node);
    }

    /// Notes that a node is known by name now. One that had been given up since the request began is missing: it lives,
    /// and has not answered.
    pub(super) fn node_known(&mut self, node: &NodeId, discovery: Discovery) {
        let position = self.position(node);
        if let Ok(index) = position
            && self.responders[index].state == State::Gone
        {
            self.responders[index].state = State::Absent;
        }
        let Some(unnamed_peers) = &mut self.unnamed_peers else { return };
        match position {
            Ok(index) if self.responders[index].state == State::AnsweredUnnamed => {
                self.responders[index].state = State::Answered;
                unnamed_peers.answerer_named(node);
            }
            Ok(_) => {}
            Err(_) => unnamed_peers.named(node, discovery),
        }
    }

    /// Takes over the broker's `count`-th count: `unnamed` nodes are not known by name.
    pub(super) fn counted(&mut self, count: u64, unnamed: usize) {
        self.unnamed_peers.iter_mut().for_each(|unnamed_peers| unnamed_peers.counted(count, unnamed));
    }

    /// Whether nothing more is to come.
    pub(super) fn is_complete(&self) -> bool {
        if self.is_found() {
            return true;
        }
        let strangers_done = self.unnamed_peers.as_ref().is_none_or(UnnamedPeers::is_complete);
        self.awaited == 0 && strangers_done && self.acks.is_complete() && !self.awaits_echo
    }

    /// Whether one answer is enough, and has come.
    fn is_found(&self) -> bool {
        self.gather == Gather::Session && self.values.iter().any(Option::is_some)
    }

    /// What was gathered; as an error if not everything has come.
    pub(super) fn finish(mut self) -> Result<Gathered, RequestError<Gathered>> {
        let is_missing = self.responders.iter().any(|responder| responder.state.is_missing());
        let is_complete = self.is_found() || self.is_complete() && !is_missing;
        for (node, answer) in self.parts.take_all().collect::<Vec<_>>() {
            self.add(Some(&node), answer);
        }
        match self.too_large.first() {
            _ if !is_complete => Err(self.timed_out()),
            None => Ok(self.gathered()),
            Some((node, text)) => {
                let node = node.as_ref().map_or("an unknown node", NodeId::as_str);
                let context = format!("node {node} cannot send its answer: {text}");
                let missing = self.too_large.iter().filter_map(|(node, _)| node.clone()).collect();
                let incomplete = Incomplete::new(self.gathered(), missing, 0);
                Err(RequestError::incomplete_for(Error::new(ErrorKind::TooLarge, context), incomplete))
            }
        }
    }

    fn timed_out(self) -> RequestError<Gathered> {
        let missing = self.responders.iter().filter(|responder| responder.state.is_missing());
        let missing: Vec<_> = missing.map(|responder| responder.node.clone()).collect();
        let missing_unnamed = self.unnamed_peers.as_ref().map_or(0, UnnamedPeers::missing);
        let incomplete = Incomplete::new((), missing, missing_unnamed);
        let context = self.describe_missing(&incomplete);
        RequestError::incomplete_for(Error::new(ErrorKind::Timeout, context), incomplete.map(|()| self.gathered()))
    }

    fn describe_missing(&self, incomplete: &Incomplete<()>) -> String {
        let missing = incomplete.missing_nodes();
        if missing > 0 {
            let unseen = if self.is_complete() { ": the broker does not see them" } else { "" };
            return incomplete.describe(missing + self.answered()) + unseen;
        }
        if self.unnamed_peers.as_ref().is_none_or(UnnamedPeers::are_counted) {
            self.acks.describe()
        } else {
            "the broker did not tell how many nodes there are".to_owned()
        }
    }

    fn answered(&self) -> usize {
        let named = self.responders.iter().filter(|responder| responder.state == State::Answered).count();
        named + self.unnamed_peers.as_ref().map_or(0, UnnamedPeers::answers)
    }

    fn gathered(self) -> Gathered {
        Gathered {
            sockets: self.sockets,
            rooms: self.rooms.into_iter().collect(),
            values: self.values,
            acks: self.acks.totals(),
            answered_at: self.answered_at,
            echo: self.echo,
        }
    }
}

/// Names the node of sockets, where the wire does not.
fn name_node(sockets: &mut [SocketInfo], node: Option<&NodeId>) {
    for socket in sockets.iter_mut().filter(|socket| socket.node.is_none()) {
        socket.node = node.cloned();
    }
}

impl State {
    fn is_missing(self) -> bool {
        matches!(self, Self::Awaited | Self::Absent)
    }
}

impl Gather {
    fn expects(self, answer: &Answer) -> bool {
        match answer {
            Answer::Sockets(_) => matches!(self, Self::Sockets | Self::Rooms | Self::RoundTrips),
            Answer::Rooms(_) => self == Self::Rooms,
            Answer::ServerSideEmit(_) => matches!(self, Self::Values | Self::Session),
            Answer::ClientCount(_) | Answer::Ack(_) => self == Self::Acks,
            Answer::Part(part) => self.expects(&part.answer),
            Answer::TooLarge(_) => true,
        }
    }
}
