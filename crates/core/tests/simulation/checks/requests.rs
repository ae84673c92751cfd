//! The requests of one node, and what it can know about them.

use trunkline_core::{Answer, Answers, Error, ErrorKind, Membership, RequestId, Response, Result, engine::Gather};

use super::{Check, Checked, broken, ensure, shown};
use crate::{
    names::{self, MAX_PEERS, Set},
    scenario::{Kind, Micros},
};

/// Where the clients are counted of all peers that do not name themselves: only their sum can be known.
const UNNAMED: usize = MAX_PEERS;

/// The pending requests.
#[derive(Debug)]
pub(crate) struct Requests {
    kind: Kind,
    asked: Vec<Asked>,
}

/// A pending request.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: RequestId,
    pub(crate) gather: Gather,
    pub(crate) deadline: Micros,
    /// Whether other nodes are asked.
    pub(crate) published: bool,
    /// It must end well, with an answer of each of these.
    pub(crate) must_reach: Option<Set>,
    /// Known by name when it began.
    pub(crate) expected: Set,
    /// Foreign peers that were there when it began.
    pub(crate) foreign: Set,
    pub(crate) answered: Set,
    /// Given up since.
    pub(crate) gone: Set,
    pub(crate) own_clients: Option<u32>,
    pub(crate) own_acks: u32,
    /// Clients announced and acknowledged, by peer; the last ones are of peers that do not name themselves.
    pub(crate) clients: Vec<(u32, u32)>,
    /// Acknowledgements that were handed on.
    pub(crate) handed_on: u64,
    pub(crate) count: Option<Count>,
}

/// A count of the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    /// Everybody it counted.
    pub(crate) counted: Set,
    /// Whom it was asked about and did not see.
    pub(crate) absent: Set,
}

impl Asked {
    pub(crate) fn new(id: RequestId, gather: Gather, deadline: Micros, foreign: Set) -> Self {
        Self {
            id,
            gather,
            deadline,
            published: true,
            must_reach: None,
            expected: Set::EMPTY,
            foreign,
            answered: Set::EMPTY,
            gone: Set::EMPTY,
            own_clients: None,
            own_acks: 0,
            clients: if gather == Gather::Acks { vec![(0, 0); MAX_PEERS + 1] } else { Vec::new() },
            handed_on: 0,
            count: None,
        }
    }

    /// Expected nodes that have neither answered nor gone.
    fn missing(&self) -> Set {
        self.expected.without(self.answered).without(self.gone)
    }

    fn clients_done(&self) -> bool {
        let done = |peer: usize| self.clients[peer].1 >= self.clients[peer].0;
        self.gather != Gather::Acks
            || (self.own_clients.is_some_and(|count| self.own_acks >= count)
                && self.answered.without(self.gone).iter().all(done)
                && done(UNNAMED))
    }
}

impl Requests {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, asked: Vec::new() }
    }

    pub(super) fn asked(&mut self, asked: Asked) {
        self.asked.push(asked);
    }

    /// The latest pending request.
    pub(crate) fn latest(&self) -> Option<RequestId> {
        self.asked.last().map(|asked| asked.id.clone())
    }

    /// The caller is gone.
    pub(crate) fn cancelled(&mut self, id: &RequestId) {
        self.asked.retain(|asked| asked.id != *id);
    }

    fn find(&mut self, id: &RequestId) -> Option<&mut Asked> {
        self.asked.iter_mut().find(|asked| asked.id == *id)
    }

    pub(super) fn answered(&mut self, from: usize, is_named: bool, response: &Response) {
        let Some(asked) = self.find(&response.request) else { return };
        let place = if is_named { from } else { UNNAMED };
        if let Answer::Ack(_) = response.answer {
            asked.clients[place].1 += 1;
            return;
        }
        if asked.gone.contains(from) || asked.answered.contains(from) {
            return;
        }
        asked.answered = asked.answered.with(from);
        if let Answer::ClientCount(count) = response.answer {
            asked.clients[place].0 += count;
        }
    }

    /// This node's own clients are asked, or answer.
    pub(crate) fn own_answer(&mut self, id: &RequestId, answer: &Answer) {
        let Some(asked) = self.find(id) else { return };
        match answer {
            Answer::ClientCount(count) => asked.own_clients = Some(*count),
            _ => asked.own_acks += 1,
        }
    }

    pub(super) fn counted(&mut self, count: Count) {
        self.asked.iter_mut().for_each(|asked| asked.count = Some(count));
    }

    pub(super) fn node_down(&mut self, node: usize) {
        for asked in &mut self.asked {
            if asked.expected.contains(node) || asked.answered.contains(node) {
                asked.gone = asked.gone.with(node);
            }
        }
    }

    pub(super) fn acknowledged(&mut self, id: &RequestId) -> Checked {
        match self.find(id) {
            Some(asked) => {
                asked.handed_on += 1;
                Ok(())
            }
            None => broken(Check::Bounds, || format!("{id} is over and gets an acknowledgement")),
        }
    }

    pub(super) fn finished(&mut self, local: Micros, id: &RequestId, result: &Result<Answers>) -> Checked {
        let Some(position) = self.asked.iter().position(|asked| asked.id == *id) else {
            return broken(Check::Bounds, || format!("{id} ends, but was not pending"));
        };
        let asked = self.asked.remove(position);
        match result {
            Ok(answers) => {
                self.check_complete(&asked)?;
                check_answers(&asked, answers)
            }
            Err(error) if error.kind() == ErrorKind::Timeout => check_timeout(local, &asked, error),
            Err(error) => {
                let is_refusal = matches!(error.kind(), ErrorKind::QueueFull | ErrorKind::Closed);
                ensure(is_refusal && asked.must_reach.is_none(), Check::Answers, || format!("{id}: {error}"))
            }
        }
    }

    /// It ended well: everybody has answered who was expected and is there.
    fn check_complete(&self, asked: &Asked) -> Checked {
        let missing = asked.missing();
        ensure(missing == Set::EMPTY, Check::Premature, || format!("{} ended without {missing:?}", asked.id))?;
        ensure(asked.clients_done(), Check::Premature, || format!("{} ended without all clients", asked.id))?;
        self.check_foreign(asked)?;
        let unreached = asked.must_reach.unwrap_or_default().without(asked.answered);
        ensure(unreached == Set::EMPTY, Check::Convergence, || format!("{} did not reach {unreached:?}", asked.id))
    }

    /// Foreign peers are known by their number only. A newcomer that the count did not include may answer in the place of one.
    fn check_foreign(&self, asked: &Asked) -> Checked {
        if self.kind.membership == Membership::Heartbeats || !asked.published {
            return Ok(());
        }
        let Some(count) = asked.count else {
            return broken(Check::Premature, || format!("{} ended before the broker had counted", asked.id));
        };
        let waited_for: Set = asked.foreign.iter().filter(|peer| count.counted.contains(*peer)).collect();
        let missing = waited_for.without(asked.answered);
        let uncounted = asked.answered.without(count.counted);
        ensure(missing == Set::EMPTY || uncounted != Set::EMPTY, Check::Premature, || {
            format!("{} ended without the foreign {missing:?}", asked.id)
        })
    }

    /// After a step: everything that must have ended has, and the engine wakes in time for the rest.
    pub(super) fn check(&self, local: Micros, pending: usize, wake: Option<Micros>) -> Checked {
        ensure(pending == self.asked.len(), Check::Bounds, || {
            format!("{pending} requests are pending, {} should be", self.asked.len())
        })?;
        let Some(deadline) = self.asked.iter().map(|asked| asked.deadline).min() else { return Ok(()) };
        ensure(deadline > local, Check::Deadline, || {
            format!("a request is pending at {}, its deadline was {}", shown(local), shown(deadline))
        })?;
        ensure(wake.is_some_and(|wake| wake <= deadline), Check::Sleep, || {
            format!("a request ends at {}, the engine wakes at {:?}", shown(deadline), wake.map(shown))
        })?;
        self.check_stuck()
    }

    /// Where all nodes are known by name it is plain when a request is complete.
    fn check_stuck(&self) -> Checked {
        if self.kind.membership == Membership::BrokerCount {
            return Ok(());
        }
        let stuck = self.asked.iter().find(|asked| asked.missing() == Set::EMPTY && asked.clients_done());
        ensure(stuck.is_none(), Check::Stuck, || format!("{stuck:?} is still pending"))
    }
}

/// A time-out comes in time, and names exactly who is missing.
fn check_timeout(local: Micros, asked: &Asked, error: &Error) -> Checked {
    ensure(asked.must_reach.is_none(), Check::Convergence, || format!("{}: {error}", asked.id))?;
    ensure(local >= asked.deadline, Check::Deadline, || format!("{} was given up too early", asked.id))?;
    let Some(partial) = error.partial() else {
        return broken(Check::Answers, || format!("{} timed out without what there is", asked.id));
    };
    let missing: Set = partial.missing.iter().filter_map(names::index).collect();
    ensure(missing == asked.missing(), Check::Answers, || {
        format!("{} misses {:?}, said is {missing:?}", asked.id, asked.missing())
    })?;
    check_answers(asked, &partial.answers)
}

/// What is returned is what was answered, once each.
fn check_answers(asked: &Asked, answers: &Answers) -> Checked {
    let returned: Vec<_> = match answers {
        Answers::Sockets(sockets) => sockets.iter().map(|socket| socket.id.as_str().to_owned()).collect(),
        Answers::Rooms(rooms) => rooms.iter().map(|room| room.to_text().to_string()).collect(),
        Answers::Values(values) => {
            let name = |value: &Option<trunkline_core::Payload>| Some(value.as_ref()?.event_name()?.into_owned());
            values.iter().filter_map(name).collect()
        }
        Answers::Acks { received, .. } => {
            return ensure(*received == asked.handed_on, Check::Answers, || {
                format!("{}: {received} acknowledgements, handed on were {}", asked.id, asked.handed_on)
            });
        }
    };
    let peers: Set = returned.iter().filter_map(|name| name[1..].parse().ok()).collect();
    ensure(peers == asked.answered && peers.len() == returned.len(), Check::Answers, || {
        format!("{}: {returned:?} returned, answered have {:?}", asked.id, asked.answered)
    })
}
