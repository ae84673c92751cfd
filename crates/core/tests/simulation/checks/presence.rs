//! Checks of membership: which peers a node can know of, and which it reports.

use trunkline_core::{DownReason, engine::EngineConfig};

use super::{BrokerCount, Check, Checked, broken, ensure, shown};
use crate::{
    names::{MAX_PEERS, Set},
    scenario::{MILLI, Micros},
};

/// What a node can know of its peers, and what its engine has reported.
#[derive(Debug)]
pub(super) struct Presence {
    timeout: Micros,
    suspicion: Micros,
    interval: Micros,
    /// Reported as up.
    members: Set,
    /// Local time of the last delivery from each peer, be it a repeat, which may come long after its sender has gone.
    heard: Vec<Option<Micros>>,
    /// Local time of the last delivery that proves that the peer is alive.
    alive: Vec<Option<Micros>>,
    announced_leave: Set,
    /// Announced its leave in this step.
    just_left: Option<usize>,
    /// Absent from the last count.
    absent: Set,
    /// Local time at which peers were heard last that went because the broker did not see them, until they are back or
    /// leave.
    absent_since: Vec<Option<Micros>>,
    /// Local time of the last delivery of any kind.
    last_delivery: Option<Micros>,
    /// Whether own messages have come back.
    hears_itself: bool,
    /// Local time at which each peer was given up as silent, until it is up again.
    given_up: Vec<Option<Micros>>,
    /// Given up after the last delivery before the connection was lost: it was the connection that was silent.
    taken_back: Set,
    /// Whether the connection is lost.
    is_disconnected: bool,
    froze: Micros,
    thawed: Micros,
    /// `None` once it has left.
    last_heartbeat: Option<Micros>,
}

impl Presence {
    pub(super) fn new(config: EngineConfig) -> Self {
        let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap();
        Self {
            timeout: micros(config.heartbeat_timeout),
            suspicion: micros(config.heartbeat_timeout) / 10,
            interval: micros(config.heartbeat_interval),
            members: Set::EMPTY,
            heard: vec![None; MAX_PEERS],
            alive: vec![None; MAX_PEERS],
            announced_leave: Set::EMPTY,
            just_left: None,
            absent: Set::EMPTY,
            absent_since: vec![None; MAX_PEERS],
            last_delivery: None,
            hears_itself: false,
            given_up: vec![None; MAX_PEERS],
            taken_back: Set::EMPTY,
            is_disconnected: false,
            froze: 0,
            thawed: 0,
            last_heartbeat: None,
        }
    }

    pub(super) fn members(&self) -> Set {
        self.members
    }

    /// Peers that the broker does not see, and that are not silent for the time-out yet.
    pub(super) fn absent(&self, local: Micros) -> Set {
        let is_absent = |heard: Micros| local < heard + self.timeout;
        (0..MAX_PEERS).filter(|peer| self.absent_since[*peer].is_some_and(is_absent)).collect()
    }

    /// Peers that are not silent for the time-out, and did not leave.
    pub(super) fn heard_lately(&self, local: Micros) -> Set {
        let is_heard = |heard: Micros| local < heard + self.timeout;
        let heard: Set = (0..MAX_PEERS).filter(|peer| self.alive[*peer].is_some_and(is_heard)).collect();
        heard.without(self.announced_leave)
    }

    pub(super) fn heard(&mut self, local: Micros, from: usize, is_alive: bool) {
        self.heard[from] = Some(local);
        if is_alive {
            self.alive[from] = Some(local);
        }
    }

    pub(super) fn delivered(&mut self, local: Micros) {
        self.last_delivery = Some(local);
    }

    pub(super) fn heard_itself(&mut self) {
        self.hears_itself = true;
    }

    pub(super) fn announced_leave(&mut self, from: usize) {
        self.announced_leave = self.announced_leave.with(from);
        self.absent_since[from] = None;
        self.just_left = Some(from);
    }

    /// Checks after a step that a peer that left is down, and that the wake-up does not come after the next heartbeat.
    pub(super) fn stepped(&mut self, local: Micros, wake: Option<Micros>) -> Checked {
        if let Some(node) = self.just_left.take() {
            let is_gone = !self.members.contains(node);
            ensure(is_gone, Check::Presence, || format!("peer {node:02} has left and is still there"))?;
        }
        if let Some(node) = std::mem::replace(&mut self.taken_back, Set::EMPTY).iter().next() {
            return broken(Check::Presence, || {
                format!("peer {node:02} was given up over a dead connection and is not back")
            });
        }
        let Some(due) = self.heartbeat_due() else { return Ok(()) };
        let check = if due > local { Check::WakeUp } else { Check::Heartbeats };
        ensure(wake.is_some_and(|wake| wake <= due), check, || {
            format!("a heartbeat is due at {}, the engine wakes at {:?}", shown(due), wake.map(shown))
        })
    }

    pub(super) fn counted(&mut self, count: &BrokerCount) {
        self.absent = count.absent;
        count.absent.iter().for_each(|node| self.given_up[node] = None);
    }

    pub(super) fn disconnected(&mut self) {
        self.is_disconnected = true;
        let Some(last) = self.last_delivery else { return };
        let since = |node: &usize| self.given_up[*node].is_some_and(|given_up| given_up > last);
        self.taken_back = (0..MAX_PEERS).filter(since).fold(Set::EMPTY, Set::with);
    }

    pub(super) fn connected(&mut self, local: Micros) {
        if std::mem::take(&mut self.is_disconnected) {
            self.heard.fill(Some(local));
            self.alive.fill(Some(local));
        }
    }

    pub(super) fn froze(&mut self, local: Micros) {
        self.froze = local;
    }

    pub(super) fn thawed(&mut self, local: Micros) {
        self.thawed = local;
    }

    pub(super) fn up(&mut self, local: Micros, me: usize, node: Option<usize>) -> Checked {
        let Some(node) = node.filter(|node| *node != me) else {
            return broken(Check::Presence, || "a node is up that does not exist".to_owned());
        };
        ensure(!self.members.contains(node), Check::Presence, || format!("peer {node:02} is up twice"))?;
        let is_taken_back = self.taken_back.contains(node);
        self.taken_back = self.taken_back.without(Set::EMPTY.with(node));
        ensure(is_taken_back || self.heard[node] == Some(local), Check::Presence, || {
            format!("peer {node:02} is up, but was not heard")
        })?;
        self.given_up[node] = None;
        self.absent_since[node] = None;
        self.members = self.members.with(node);
        Ok(())
    }

    pub(super) fn down(&mut self, local: Micros, node: Option<usize>, reason: DownReason) -> Checked {
        let Some(node) = node.filter(|node| self.members.contains(*node)) else {
            return broken(Check::Presence, || "a node is down that was not up".to_owned());
        };
        self.members = self.members.without(Set::EMPTY.with(node));
        match reason {
            DownReason::Left => {
                ensure(self.announced_leave.contains(node), Check::Presence, || format!("peer {node:02} did not leave"))
            }
            DownReason::Disconnected => {
                self.absent_since[node] = self.alive[node];
                ensure(self.absent.contains(node), Check::Presence, || format!("peer {node:02} was seen by the broker"))
            }
            _ => {
                self.given_up[node] = Some(local);
                self.check_silent(local, node)
            }
        }
    }

    fn check_silent(&self, local: Micros, node: usize) -> Checked {
        let last = self.alive[node].unwrap_or(0);
        let since = local - last.min(local);
        let is_silent = since >= self.timeout + self.suspicion && !self.is_disconnected;
        // The peer had time to send while this process ran, unless it was suspected before the process was frozen.
        let had_time = local >= self.thawed + self.suspicion || last + self.timeout <= self.froze;
        // Whoever gives up the last one has proof that it is not cut off itself, if it can have any.
        let needs_proof = self.members.iter().next().is_none() && self.hears_itself;
        let proven = self.last_delivery.is_some_and(|heard| heard >= last + self.timeout);
        ensure(!needs_proof || proven, Check::Presence, || {
            format!("peer {node:02}, the last one, is given up at {} without proof", shown(local))
        })?;
        ensure(is_silent && had_time, Check::Presence, || {
            format!("peer {node:02} is given up at {}, it was heard at {}", shown(local), shown(last))
        })
    }

    pub(super) fn started(&mut self, local: Micros) {
        self.last_heartbeat = Some(local);
    }

    pub(super) fn leaves(&mut self) {
        self.last_heartbeat = None;
    }

    /// Other messages may postpone a heartbeat once.
    fn heartbeat_due(&self) -> Option<Micros> {
        self.last_heartbeat.map(|last| (last + self.interval * 2).max(self.thawed))
    }

    pub(super) fn heartbeat_sent(&mut self, local: Micros) -> Checked {
        self.check_heartbeat(local)?;
        self.last_heartbeat = Some(local);
        Ok(())
    }

    fn check_heartbeat(&self, local: Micros) -> Checked {
        let Some(due) = self.heartbeat_due() else { return Ok(()) };
        ensure(local <= due + MILLI, Check::Heartbeats, || {
            format!("no heartbeat before {}, due at {}", shown(local), shown(due))
        })
    }

    /// Checks that no peer is up whose time has expired.
    pub(super) fn ticked(&self, local: Micros, members: Set) -> Checked {
        ensure(members == self.members, Check::Presence, || {
            format!("members are {members:?}, reported were {:?}", self.members)
        })?;
        let suspected = |node: usize| (self.heard[node].unwrap_or(0) + self.timeout).max(self.thawed);
        let all_suspected = members.iter().map(suspected).max().filter(|since| *since <= local);
        // Once all are silent, what arrives proves that not this node is cut off; without echoes time does.
        let proof = match (all_suspected, self.last_delivery) {
            (None, _) => 0,
            (Some(since), Some(heard)) if heard >= since => heard,
            (Some(_), _) if self.hears_itself => Micros::MAX / 2,
            (Some(since), _) => since + self.timeout,
        };
        for node in members.iter().filter(|_| !self.is_disconnected) {
            let suspected = suspected(node);
            ensure(local <= (suspected + self.suspicion).max(proof) + MILLI, Check::Silence, || {
                format!("peer {node:02} is still there at {}, it was suspected at {}", shown(local), shown(suspected))
            })?;
        }
        self.check_heartbeat(local)
    }

    pub(super) fn settled(&self, others: Set) -> Checked {
        ensure(self.members == others, Check::Convergence, || {
            format!("members are {:?}, there are {others:?}", self.members)
        })
    }
}
