//! One own request that waits for answers.

use std::{collections::BTreeSet, time::Instant};

use super::{
    acks::Acks,
    interface::Gather,
    strangers::{Introduction, Strangers},
};
use crate::{
    error::{Answers, Error, ErrorKind, Partial, Result},
    model::{Answer, NodeId, Room, SocketInfo},
    payload::Payload,
};

/// What was asked, who has answered, and what.
#[derive(Debug)]
pub(super) struct Pending {
    gather: Gather,
    pub(super) deadline: Instant,
    /// Who is or was waited for, and whoever else has answered; sorted by name.
    parties: Vec<Party>,
    /// How many parties are [`State::Awaited`].
    awaited: usize,
    /// Who else is waited for; `None` where all nodes are known by name.
    strangers: Option<Strangers>,
    sockets: Vec<SocketInfo>,
    rooms: BTreeSet<Room>,
    values: Vec<Option<Payload>>,
    acks: Acks,
}

/// A node that has to do with the request.
#[derive(Debug)]
struct Party {
    node: NodeId,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It was known when the request began, and has not answered.
    Awaited,
    /// It has answered.
    Answered,
    /// It has answered, and is not known to be one of ours.
    AnsweredStranger,
    /// It left or died, and is waited for no longer.
    Gone,
}

/// What became of an answer.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// It is a client's acknowledgement, to be passed on at once.
    Acknowledgement(Option<Payload>),
    /// It was noted.
    Noted,
    /// It was of no use: repeated, or of another kind.
    Nothing,
}

impl Pending {
    /// A request that `nodes`, sorted, are to answer.
    pub(super) fn new<'a>(
        gather: Gather,
        deadline: Instant,
        nodes: impl Iterator<Item = &'a NodeId>,
        strangers: Option<Strangers>,
    ) -> Self {
        let parties: Vec<_> = nodes.map(|node| Party { node: node.clone(), state: State::Awaited }).collect();
        Self {
            gather,
            deadline,
            awaited: parties.len(),
            parties,
            strangers,
            sockets: Vec::new(),
            rooms: BTreeSet::new(),
            values: Vec::new(),
            acks: Acks::new(gather == Gather::Acks),
        }
    }

    /// Takes an answer in. `known` tells whether `from` is a node known by name.
    pub(super) fn answer(&mut self, from: Option<&NodeId>, known: bool, answer: Answer) -> Taken {
        if !self.gather.expects(&answer) {
            return Taken::Nothing;
        }
        if let Answer::Ack(value) = answer {
            let fresh = self.acks.received(from);
            return if fresh { Taken::Acknowledgement(value) } else { Taken::Nothing };
        }
        if !self.note_answered(from, known) {
            return Taken::Nothing;
        }
        match answer {
            Answer::Sockets(sockets) if self.gather == Gather::Rooms => {
                self.rooms.extend(sockets.into_iter().flat_map(|socket| socket.rooms));
            }
            Answer::Sockets(sockets) => self.sockets.extend(sockets.into_iter().map(|socket| of_node(socket, from))),
            Answer::Rooms(rooms) => self.rooms.extend(rooms),
            Answer::ServerSideEmit(value) => self.values.push(value),
            Answer::ClientCount(count) => self.acks.announced(from, count),
            Answer::Ack(_) => {}
        }
        Taken::Noted
    }

    /// Takes an answer of this node's own clients in.
    pub(super) fn own_answer(&mut self, answer: Answer) -> Taken {
        match answer {
            Answer::ClientCount(count) => self.acks.own_announced(count),
            Answer::Ack(value) if self.acks.own_received() => return Taken::Acknowledgement(value),
            _ => return Taken::Nothing,
        }
        Taken::Noted
    }

    /// Notes that a node has answered. Returns `false` for a second answer, and for one of a node that was given up.
    fn note_answered(&mut self, from: Option<&NodeId>, known: bool) -> bool {
        let Some(from) = from else {
            self.strangers.iter_mut().for_each(Strangers::answered);
            return true;
        };
        match self.position(from) {
            Ok(index) if self.parties[index].state != State::Awaited => return false,
            Ok(index) => {
                self.parties[index].state = State::Answered;
                self.awaited -= 1;
            }
            Err(index) => {
                let state = if known { State::Answered } else { State::AnsweredStranger };
                self.parties.insert(index, Party { node: from.clone(), state });
                match &mut self.strangers {
                    Some(strangers) if known => strangers.named_answered(from),
                    Some(strangers) => strangers.answered(),
                    None => {}
                }
            }
        }
        true
    }

    fn position(&self, node: &NodeId) -> std::result::Result<usize, usize> {
        self.parties.binary_search_by(|party| party.node.cmp(node))
    }

    /// A node is gone: neither its answer nor its clients are waited for.
    pub(super) fn node_gone(&mut self, node: &NodeId) {
        self.strangers.iter_mut().for_each(|strangers| strangers.gone(node));
        let Ok(index) = self.position(node) else { return };
        let state = std::mem::replace(&mut self.parties[index].state, State::Gone);
        self.awaited -= usize::from(state == State::Awaited);
        self.acks.node_gone(node);
    }

    /// A node turns out to be one of ours.
    pub(super) fn node_known(&mut self, node: &NodeId, introduction: Introduction) {
        let position = self.position(node);
        let Some(strangers) = &mut self.strangers else { return };
        match position {
            Ok(index) if self.parties[index].state == State::AnsweredStranger => {
                self.parties[index].state = State::Answered;
                strangers.answerer_named(node);
            }
            Ok(_) => {}
            Err(_) => strangers.named(node, introduction),
        }
    }

    /// The broker has counted for the `count`-th time: so many nodes have no name.
    pub(super) fn counted(&mut self, count: u64, unnamed: usize) {
        self.strangers.iter_mut().for_each(|strangers| strangers.counted(count, unnamed));
    }

    /// Whether nothing more is to come.
    pub(super) fn is_complete(&self) -> bool {
        let strangers_done = self.strangers.as_ref().is_none_or(Strangers::is_complete);
        self.awaited == 0 && strangers_done && self.acks.is_complete()
    }

    /// What was gathered.
    pub(super) fn finish(self) -> Result<Answers> {
        if self.is_complete() { Ok(self.answers()) } else { Err(self.timed_out()) }
    }

    fn timed_out(self) -> Error {
        let awaited = self.parties.iter().filter(|party| party.state == State::Awaited);
        let missing: Vec<_> = awaited.map(|party| party.node.clone()).collect();
        let missing_unnamed = self.strangers.as_ref().map_or(0, Strangers::missing);
        let context = self.describe_missing(&missing, missing_unnamed);
        Error::new(ErrorKind::Timeout, context).with_partial(Partial {
            answers: self.answers(),
            missing,
            missing_unnamed,
        })
    }

    fn describe_missing(&self, missing: &[NodeId], missing_unnamed: usize) -> String {
        let nodes = missing.len() + missing_unnamed;
        if nodes == 0 {
            let are_counted = self.strangers.as_ref().is_none_or(Strangers::are_counted);
            let uncounted = || "the broker did not tell how many nodes there are".to_owned();
            return if are_counted { self.acks.describe() } else { uncounted() };
        }
        let names: Vec<_> = missing.iter().map(NodeId::as_str).collect();
        let total = nodes + self.answered();
        match names.as_slice() {
            [] => format!("{nodes} of {total} nodes did not answer"),
            names => format!("{nodes} of {total} nodes did not answer, among them {}", names.join(", ")),
        }
    }

    fn answered(&self) -> usize {
        let named = self.parties.iter().filter(|party| party.state == State::Answered).count();
        named + self.strangers.as_ref().map_or(0, Strangers::answers)
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

/// Names the node of a socket, if the wire does not.
fn of_node(mut socket: SocketInfo, node: Option<&NodeId>) -> SocketInfo {
    socket.node = socket.node.or_else(|| node.cloned());
    socket
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
