//! Checks of requests: when they end, and with which answers.

use trunkline_core::{
    Answer, DownReason, ErrorKind, Membership, RequestError, RequestId, Response,
    engine::{Gather, Gathered},
};

use super::{Check, Checked, broken, ensure, shown};
use crate::{
    names::{self, MAX_PEERS, Set},
    scenario::{BackendKind, Micros},
};

/// Index at which the clients of all peers without an id are counted: only their sum can be known.
const UNNAMED: usize = MAX_PEERS;

/// The pending requests of one node.
#[derive(Debug)]
pub(crate) struct Requests {
    kind: BackendKind,
    pending: Vec<PendingRequest>,
}

/// A pending request.
#[derive(Clone, Debug)]
pub(crate) struct PendingRequest {
    pub(crate) id: RequestId,
    pub(crate) gather: Gather,
    pub(crate) began: Micros,
    pub(crate) deadline: Micros,
    /// Whether it was published to other nodes.
    pub(crate) published: bool,
    /// Peers that must all answer.
    pub(crate) must_reach: Option<Set>,
    /// Nodes known by id when it began.
    pub(crate) expected: Set,
    /// Nodes that the broker did not see when it began, or does not see since.
    pub(crate) absent: Set,
    /// Nodes from which answers are to come, unless they are dead.
    pub(crate) heard_of: Set,
    /// Foreign peers that were present when it began.
    pub(crate) foreign: Set,
    pub(crate) answered: Set,
    /// Reported as down since, because they left or were silent.
    pub(crate) gone: Set,
    pub(crate) own_clients: Option<u32>,
    pub(crate) own_acks: u32,
    /// Those of them that were silent: an answer brings them back.
    pub(crate) silent: Set,
    /// Announced clients and received acknowledgements by peer; the last entry is for peers without an id.
    pub(crate) clients: Vec<(u32, u32)>,
    /// Acknowledgements that were returned to the caller.
    pub(crate) returned_acks: u64,
    pub(crate) count: Option<BrokerCount>,
}

/// A count of nodes by the broker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BrokerCount {
    /// Peers that were counted.
    pub(crate) counted: Set,
    /// Peers in question that were not seen.
    pub(crate) absent: Set,
}

impl PendingRequest {
    pub(crate) fn new(id: RequestId, gather: Gather, [began, deadline]: [Micros; 2], foreign: Set) -> Self {
        Self {
            id,
            gather,
            began,
            deadline,
            published: true,
            must_reach: None,
            expected: Set::EMPTY,
            absent: Set::EMPTY,
            heard_of: Set::EMPTY,
            foreign,
            answered: Set::EMPTY,
            gone: Set::EMPTY,
            silent: Set::EMPTY,
            own_clients: None,
            own_acks: 0,
            clients: if gather == Gather::Acks { vec![(0, 0); MAX_PEERS + 1] } else { Vec::new() },
            returned_acks: 0,
            count: None,
        }
    }

    /// Nodes that have neither answered whole nor gone down.
    fn missing(&self) -> Set {
        self.awaited().or(self.absent.without(self.gone))
    }

    /// Those of them that are waited for.
    fn awaited(&self) -> Set {
        self.expected.without(self.answered).without(self.gone).without(self.absent)
    }

    /// A node that went down for good lives: it is missing unless it answers.
    fn came_back(&mut self, node: usize) {
        let only = Set::EMPTY.with(node);
        if self.gone.contains(node) {
            (self.gone, self.silent) = (self.gone.without(only), self.silent.without(only));
            self.absent = self.absent.with(node);
        }
    }

    fn has_all_of(&self, node: usize) -> bool {
        let (clients, acks) = self.clients.get(node).copied().unwrap_or_default();
        self.answered.contains(node) && acks >= clients
    }

    fn clients_done(&self) -> bool {
        let done = |peer: usize| self.clients[peer].1 >= self.clients[peer].0;
        self.gather != Gather::Acks
            || (self.own_clients.is_some_and(|count| self.own_acks >= count)
                && self.answered.without(self.gone).without(self.absent).iter().all(done)
                && done(UNNAMED))
    }
}

impl Requests {
    pub(super) fn new(kind: BackendKind) -> Self {
        Self { kind, pending: Vec::new() }
    }

    pub(super) fn began(&mut self, request: PendingRequest) {
        self.pending.push(request);
    }

    /// The latest pending request.
    pub(crate) fn latest(&self) -> Option<RequestId> {
        self.pending.last().map(|request| request.id.clone())
    }

    /// A request was cancelled.
    pub(crate) fn cancelled(&mut self, id: &RequestId) {
        self.pending.retain(|request| request.id != *id);
    }

    fn find(&mut self, id: &RequestId) -> Option<&mut PendingRequest> {
        self.pending.iter_mut().find(|request| request.id == *id)
    }

    pub(super) fn answered(&mut self, from: usize, is_named: bool, response: &Response) {
        let Some(request) = self.find(&response.request) else { return };
        let index = if is_named { from } else { UNNAMED };
        if let Answer::Ack(_) = response.answer {
            request.clients[index].1 += 1;
            return;
        }
        if is_named && request.silent.contains(from) {
            request.came_back(from);
        }
        if request.gone.contains(from) || request.answered.contains(from) {
            return;
        }
        request.answered = request.answered.with(from);
        request.absent = request.absent.without(Set::EMPTY.with(from));
        if let Answer::ClientCount(count) = response.answer {
            request.clients[index].0 += count;
        }
    }

    /// This node's own clients were counted, or acknowledge.
    pub(crate) fn own_answer(&mut self, id: &RequestId, answer: &Answer) {
        let Some(request) = self.find(id) else { return };
        match answer {
            Answer::ClientCount(count) => request.own_clients = Some(*count),
            _ => request.own_acks += 1,
        }
    }

    pub(super) fn counted(&mut self, count: BrokerCount) {
        self.pending.iter_mut().for_each(|request| request.count = Some(count));
    }

    pub(super) fn node_up(&mut self, node: usize) {
        self.pending.iter_mut().for_each(|request| request.came_back(node));
    }

    pub(super) fn node_down(&mut self, node: usize, reason: DownReason) {
        for request in &mut self.pending {
            if !request.expected.contains(node) && !request.answered.contains(node) {
                continue;
            }
            match reason {
                DownReason::Disconnected if request.has_all_of(node) => {}
                DownReason::Disconnected => request.absent = request.absent.with(node),
                reason => {
                    request.gone = request.gone.with(node);
                    request.silent =
                        if reason == DownReason::Silent { request.silent.with(node) } else { request.silent };
                }
            }
        }
    }

    pub(super) fn acknowledged(&mut self, id: &RequestId) -> Checked {
        match self.find(id) {
            Some(request) => {
                request.returned_acks += 1;
                Ok(())
            }
            None => broken(Check::Bounds, || format!("{id} is over and gets an acknowledgement")),
        }
    }

    pub(super) fn finished(
        &mut self,
        local: Micros,
        id: &RequestId,
        result: &Result<Gathered, RequestError<Gathered>>,
        alive: Set,
    ) -> Checked {
        let Some(position) = self.pending.iter().position(|request| request.id == *id) else {
            return broken(Check::Bounds, || format!("{id} ends, but was not pending"));
        };
        let request = self.pending.remove(position);
        match result {
            Ok(gathered) => {
                let left_out = request.heard_of.and(alive).without(request.answered);
                ensure(left_out == Set::EMPTY, Check::Whole, || {
                    format!("{} succeeded without {left_out:?}, which live", request.id)
                })?;
                self.check_complete(&request)?;
                check_answers(&request, gathered)
            }
            Err(error) if error.kind() == ErrorKind::Timeout => check_timeout(local, &request, error),
            Err(error) => {
                let is_refusal = matches!(error.kind(), ErrorKind::QueueFull | ErrorKind::Closed);
                ensure(is_refusal && request.must_reach.is_none(), Check::Answers, || format!("{id}: {error}"))
            }
        }
    }

    /// Checks a successful request: every expected node that is present has answered.
    fn check_complete(&self, request: &PendingRequest) -> Checked {
        let missing = request.missing();
        ensure(missing == Set::EMPTY, Check::Premature, || format!("{} ended without {missing:?}", request.id))?;
        ensure(request.clients_done(), Check::Premature, || format!("{} ended without all clients", request.id))?;
        self.check_foreign(request)?;
        let unreached = request.must_reach.unwrap_or_default().without(request.answered);
        ensure(unreached == Set::EMPTY, Check::Convergence, || format!("{} did not reach {unreached:?}", request.id))
    }

    /// Foreign peers are known only by their number. A new node that the count did not include may answer in the place
    /// of one.
    fn check_foreign(&self, request: &PendingRequest) -> Checked {
        if self.kind.membership == Membership::Heartbeats || !request.published {
            return Ok(());
        }
        let Some(count) = request.count else {
            return broken(Check::Premature, || format!("{} ended before the broker had counted", request.id));
        };
        let waited_for: Set = request.foreign.iter().filter(|peer| count.counted.contains(*peer)).collect();
        let missing = waited_for.without(request.answered);
        let uncounted = request.answered.without(count.counted);
        ensure(missing == Set::EMPTY || uncounted != Set::EMPTY, Check::Premature, || {
            format!("{} ended without the foreign {missing:?}", request.id)
        })
    }

    /// Checks after a step that nothing is overdue, and that the engine wakes in time for the rest.
    pub(super) fn check(&self, local: Micros, pending: usize, wake: Option<Micros>) -> Checked {
        ensure(pending == self.pending.len(), Check::Bounds, || {
            format!("{pending} requests are pending, {} should be", self.pending.len())
        })?;
        let Some(deadline) = self.pending.iter().map(|request| request.deadline).min() else { return Ok(()) };
        ensure(deadline > local, Check::Deadline, || {
            format!("a request is pending at {}, its deadline was {}", shown(local), shown(deadline))
        })?;
        ensure(wake.is_some_and(|wake| wake <= deadline), Check::WakeUp, || {
            format!("a request ends at {}, the engine wakes at {:?}", shown(deadline), wake.map(shown))
        })?;
        self.check_stuck()
    }

    /// Checks for a complete request that has not ended. Where all nodes are known by id, it is plain when a request is
    /// complete.
    fn check_stuck(&self) -> Checked {
        if self.kind.membership == Membership::BrokerCount {
            return Ok(());
        }
        let stuck = self.pending.iter().find(|request| request.awaited() == Set::EMPTY && request.clients_done());
        ensure(stuck.is_none(), Check::Stuck, || format!("{stuck:?} is still pending"))
    }
}

/// Checks that a timeout comes in time and names exactly the missing nodes.
fn check_timeout(local: Micros, request: &PendingRequest, error: &RequestError<Gathered>) -> Checked {
    ensure(request.must_reach.is_none(), Check::Convergence, || format!("{}: {error}", request.id))?;
    let is_all = request.awaited() == Set::EMPTY && request.absent != Set::EMPTY && request.clients_done();
    ensure(is_all || local >= request.deadline, Check::Deadline, || format!("{} was given up too early", request.id))?;
    let Some(incomplete) = error.incomplete() else {
        return broken(Check::Answers, || format!("{} timed out without the answers so far", request.id));
    };
    let missing: Set = incomplete.missing.iter().filter_map(names::index).collect();
    ensure(missing == request.missing(), Check::Answers, || {
        format!("{} misses {:?}, said is {missing:?}", request.id, request.missing())
    })?;
    check_answers(request, &incomplete.received)
}

/// Checks that the returned answers are those that were sent, once each.
fn check_answers(request: &PendingRequest, gathered: &Gathered) -> Checked {
    let returned: Vec<_> = match request.gather {
        Gather::Sockets => gathered.sockets.iter().map(|socket| socket.id.as_str().to_owned()).collect(),
        Gather::RoundTrips => gathered.answered_at.iter().map(|(node, _)| node.as_str().to_owned()).collect(),
        Gather::Rooms => gathered.rooms.iter().map(|room| room.to_text().to_string()).collect(),
        Gather::Values | Gather::Session => {
            let name = |value: &Option<trunkline_core::Payload>| Some(value.as_ref()?.event_name()?.into_owned());
            gathered.values.iter().filter_map(name).collect()
        }
        Gather::Acks => {
            let received = gathered.acks.received;
            return ensure(received == request.returned_acks, Check::Answers, || {
                format!("{}: {received} acknowledgements, handed on were {}", request.id, request.returned_acks)
            });
        }
    };
    let peers: Set = returned.iter().filter_map(|name| name[1..].parse().ok()).collect();
    ensure(peers == request.answered && peers.len() == returned.len(), Check::Answers, || {
        format!("{}: {returned:?} returned, answered have {:?}", request.id, request.answered)
    })
}
