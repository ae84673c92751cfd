//! Being there, and knowing who else is.

use std::time::Instant;

use super::{Engine, interface::Output, members::Life, strangers::Introduction};
use crate::{
    model::{DownReason, Event, Heartbeat, Membership, Message, NodeId},
    transport::NodeCount,
};

impl Engine {
    pub(super) fn start(&mut self, now: Instant) {
        self.heartbeat(now, true);
        if self.counts_by_census() {
            self.ask_census(now);
        }
    }

    pub(super) fn leave(&mut self) {
        self.last_marks();
        self.outputs.push_back(Output::Publish(Message::Leaving));
        self.abandon_requests();
        self.next_heartbeat = None;
        self.wake = None;
        self.has_left = true;
    }

    // --- own heartbeats ---

    pub(super) fn heartbeat(&mut self, now: Instant, initial: bool) {
        let heartbeat = Heartbeat { initial, high_water_marks: Vec::new(), buckets: self.config.buckets };
        self.outputs.push_back(Output::Publish(Message::Heartbeat(heartbeat)));
        self.last_heartbeat = Some(now);
        self.owes_heartbeat = None;
        self.heartbeat_by(now + self.config.heartbeat_interval);
    }

    fn heartbeat_by(&mut self, due: Instant) {
        self.next_heartbeat = Some(due);
        self.wake_by(due);
    }

    /// Everybody who hears a request knows that this node is alive. But the counters in heartbeats must come at times.
    pub(super) fn postpone_heartbeat(&mut self, now: Instant) {
        let interval = self.config.heartbeat_interval;
        if let (Some(_), Some(last)) = (self.next_heartbeat, self.last_heartbeat) {
            self.next_heartbeat = Some((now + interval).min(last + interval * 2));
        }
    }

    /// Takes back what was postponed.
    pub(super) fn heartbeat_soon(&mut self, now: Instant) {
        if let (Some(next), Some(last)) = (self.next_heartbeat, self.last_heartbeat) {
            self.heartbeat_by(next.min((last + self.config.heartbeat_interval).max(now)));
        }
    }

    /// A newcomer asks who is there. The first one is answered at once; those who come close after it share an answer.
    fn answer_heartbeat(&mut self, now: Instant) {
        let (Some(_), Some(last)) = (self.next_heartbeat, self.last_heartbeat) else { return };
        let earliest = last + self.config.heartbeat_spacing();
        if last == now {
            // What was published a moment ago reaches the newcomer, which had joined before it asked.
        } else if earliest <= now {
            self.heartbeat(now, false);
        } else {
            self.owes_heartbeat = Some(earliest);
            self.wake_by(earliest);
        }
    }

    pub(super) fn heartbeat_due(&self) -> Option<Instant> {
        [self.next_heartbeat, self.owes_heartbeat].into_iter().flatten().min()
    }

    // --- others ---

    pub(super) fn heard_heartbeat(&mut self, now: Instant, from: &NodeId, heartbeat: &Heartbeat) {
        self.gap_marks(now, from, &heartbeat.high_water_marks);
        self.tracker.announced(now, from, &heartbeat.high_water_marks);
        if let Some(due) = self.tracker.deadline() {
            self.wake_by(due);
        }
        if let (Some(mine), Some(theirs)) = (self.config.buckets, heartbeat.buckets)
            && mine != theirs
            && self.members.warn_once(from)
        {
            self.event(Event::Misconfigured(format!("room buckets: {mine} here, {theirs} on node {from}")));
        }
        if heartbeat.initial {
            self.answer_heartbeat(now);
        }
    }

    /// Notes a message of a node. Where the broker counts, a peer without heartbeats would never be seen to leave: only nodes of our kind
    /// are known by name, told by heartbeats and numbers.
    pub(super) fn sign_of_life(&mut self, now: Instant, from: &NodeId, ours: bool) {
        if ours || !self.counts_by_census() || self.members.is_lost(from) {
            self.heard(now, from, Life::Sign);
        } else {
            self.members.refresh(now, from);
        }
    }

    pub(super) fn heard(&mut self, now: Instant, from: &NodeId, life: Life) {
        let introduction = match life {
            _ if self.members.is_lost(from) => Introduction::Return,
            Life::Hello => Introduction::Hello(now),
            Life::Sign => Introduction::Sign,
        };
        if !self.members.heard(now, from, life) {
            return;
        }
        self.wake_by(now + self.config.heartbeat_timeout);
        self.gap_newcomer(from);
        self.event(Event::NodeUp(from.clone()));
        self.requests.iter_mut().for_each(|pending| pending.node_known(from, introduction));
        self.recount(now);
    }

    pub(super) fn left(&mut self, now: Instant, node: &NodeId) {
        if self.members.left(node) {
            self.node_down(node, DownReason::Left);
            self.finish_complete();
            self.recount(now);
        }
    }

    fn node_down(&mut self, node: &NodeId, reason: DownReason) {
        self.requests.iter_mut().for_each(|pending| pending.node_gone(node));
        self.event(Event::NodeDown(node.clone(), reason));
    }

    /// Nobody is given up while this node's connection is away: it could not hear them.
    pub(super) fn give_up_silent(&mut self, now: Instant) {
        if self.is_deaf {
            return;
        }
        let silent = self.members.take_silent(now, self.config.heartbeat_timeout, self.config.suspicion());
        if silent.is_empty() {
            return;
        }
        for node in &silent {
            self.node_down(node, DownReason::Silent);
        }
        self.finish_complete();
        self.recount(now);
    }

    pub(super) fn next_silence(&self) -> Option<Instant> {
        let next = || self.members.next_silence(self.config.heartbeat_timeout, self.config.suspicion());
        if self.is_deaf { None } else { next() }
    }

    pub(super) fn connected(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_deaf) {
            self.members.refresh_all(now);
            self.wake_by(now + self.config.heartbeat_timeout);
        }
        self.event(Event::Connected);
    }

    pub(super) fn lost(&mut self, reason: String) {
        self.is_deaf = true;
        self.metrics.connections_lost.increment();
        self.event(Event::Lost(reason));
    }

    // --- the broker's count ---

    pub(super) fn counts_by_census(&self) -> bool {
        self.capabilities.membership == Membership::BrokerCount
    }

    /// Names have changed: the broker's count says something else now.
    fn recount(&mut self, now: Instant) {
        if self.counts_by_census() && self.next_heartbeat.is_some() {
            self.ask_census(now);
        }
    }

    pub(super) fn ask_census(&mut self, now: Instant) {
        let due = now + self.config.count_interval;
        self.next_census = Some(due);
        self.wake_by(due);
        self.outputs.push_back(Output::AskCensus);
    }

    /// Asks again while something depends on it.
    pub(super) fn ask_census_again(&mut self, now: Instant) {
        if self.next_census.is_none_or(|due| due > now) {
            return;
        }
        if self.requests.is_empty() && self.gap.is_none() {
            self.next_census = None;
        } else {
            self.ask_census(now);
        }
    }

    pub(super) fn node_counter(&mut self, node_count: Option<&NodeCount>) {
        let (Some(node_count), Some(asked)) = (node_count, self.census_begun.take()) else { return };
        for node in self.members.counted(asked, node_count) {
            self.node_down(&node, DownReason::Disconnected);
        }
        let (count, unnamed) = (self.counts, self.members.foreign().unwrap_or(0));
        self.requests.iter_mut().for_each(|pending| pending.counted(count, unnamed));
        self.finish_complete();
    }
}
