//! Who is there, in the eyes of one node.

use trunkline_core::{DownReason, engine::EngineConfig};

use super::{Check, Checked, Count, broken, ensure, shown};
use crate::{
    names::{MAX_PEERS, Set},
    scenario::{MILLI, Micros},
};

/// What a node can know of others, and what it says about them.
#[derive(Debug)]
pub(super) struct Presence {
    timeout: Micros,
    suspicion: Micros,
    interval: Micros,
    /// Up, as the engine told.
    members: Set,
    /// When anything of a peer last arrived.
    heard: Vec<Option<Micros>>,
    /// When something arrived that surely shows that it lives.
    alive: Vec<Option<Micros>>,
    said_goodbye: Set,
    /// Said goodbye in this step.
    must_go: Option<usize>,
    /// Whom the last count did not see.
    absent: Set,
    /// The connection is away.
    is_deaf: bool,
    froze: Micros,
    thawed: Micros,
    /// As long as it sends heartbeats.
    last_beat: Option<Micros>,
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
            said_goodbye: Set::EMPTY,
            must_go: None,
            absent: Set::EMPTY,
            is_deaf: false,
            froze: 0,
            thawed: 0,
            last_beat: None,
        }
    }

    pub(super) fn members(&self) -> Set {
        self.members
    }

    pub(super) fn heard(&mut self, local: Micros, from: usize, is_alive: bool) {
        self.heard[from] = Some(local);
        if is_alive {
            self.alive[from] = Some(local);
        }
    }

    pub(super) fn said_goodbye(&mut self, from: usize) {
        self.said_goodbye = self.said_goodbye.with(from);
        self.must_go = Some(from);
    }

    /// A step is done: whoever said goodbye in it is gone, and the next heartbeat is not slept through.
    pub(super) fn stepped(&mut self, local: Micros, wake: Option<Micros>) -> Checked {
        if let Some(node) = self.must_go.take() {
            let is_gone = !self.members.contains(node);
            ensure(is_gone, Check::Presence, || format!("peer {node:02} has left and is still there"))?;
        }
        let Some(due) = self.beat_due() else { return Ok(()) };
        let check = if due > local { Check::Sleep } else { Check::Heartbeats };
        ensure(wake.is_some_and(|wake| wake <= due), check, || {
            format!("a heartbeat is due at {}, the engine wakes at {:?}", shown(due), wake.map(shown))
        })
    }

    pub(super) fn counted(&mut self, count: &Count) {
        self.absent = count.absent;
    }

    pub(super) fn deafened(&mut self) {
        self.is_deaf = true;
    }

    pub(super) fn connected(&mut self, local: Micros) {
        if std::mem::take(&mut self.is_deaf) {
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
        ensure(self.heard[node] == Some(local), Check::Presence, || {
            format!("peer {node:02} is up, but was not heard")
        })?;
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
                ensure(self.said_goodbye.contains(node), Check::Presence, || format!("peer {node:02} did not leave"))
            }
            DownReason::Disconnected => {
                ensure(self.absent.contains(node), Check::Presence, || format!("peer {node:02} was seen by the broker"))
            }
            _ => self.check_silent(local, node),
        }
    }

    fn check_silent(&self, local: Micros, node: usize) -> Checked {
        let last = self.alive[node].unwrap_or(0);
        let since = local - last.min(local);
        let is_silent = since >= self.timeout + self.suspicion && !self.is_deaf;
        // Time to give a sign of life while this process runs, unless the node was suspected before it stood still.
        let had_time = local >= self.thawed + self.suspicion || last + self.timeout <= self.froze;
        ensure(is_silent && had_time, Check::Presence, || {
            format!("peer {node:02} is given up at {}, it was heard at {}", shown(local), shown(last))
        })
    }

    pub(super) fn started(&mut self, local: Micros) {
        self.last_beat = Some(local);
    }

    pub(super) fn leaves(&mut self) {
        self.last_beat = None;
    }

    /// What is said in the meantime may put a heartbeat off once.
    fn beat_due(&self) -> Option<Micros> {
        self.last_beat.map(|last| (last + self.interval * 2).max(self.thawed))
    }

    pub(super) fn beats(&mut self, local: Micros) -> Checked {
        self.check_beat(local)?;
        self.last_beat = Some(local);
        Ok(())
    }

    fn check_beat(&self, local: Micros) -> Checked {
        let Some(due) = self.beat_due() else { return Ok(()) };
        ensure(local <= due + MILLI, Check::Heartbeats, || {
            format!("no heartbeat before {}, due at {}", shown(local), shown(due))
        })
    }

    /// Nobody is still there whose time is up.
    pub(super) fn ticked(&self, local: Micros, members: Set) -> Checked {
        ensure(members == self.members, Check::Presence, || {
            format!("members are {members:?}, told was {:?}", self.members)
        })?;
        for node in members.iter().filter(|_| !self.is_deaf) {
            let suspected = (self.heard[node].unwrap_or(0) + self.timeout).max(self.thawed);
            ensure(local <= suspected + self.suspicion + MILLI, Check::Silence, || {
                format!("peer {node:02} is still there at {}, it was suspected at {}", shown(local), shown(suspected))
            })?;
        }
        self.check_beat(local)
    }

    pub(super) fn settled(&self, others: Set) -> Checked {
        ensure(self.members == others, Check::Convergence, || {
            format!("members are {:?}, there are {others:?}", self.members)
        })
    }
}
