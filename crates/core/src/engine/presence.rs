//! Membership: own heartbeats, liveness of the peers, the broker's node count.

use std::time::{Duration, Instant};

use super::{Engine, interface::Output, members::Liveness, unnamed_peers::Discovery};
use crate::{
    model::{DownReason, Event, GapCause, Heartbeat, Membership, Message, NodeId, SeqNo},
    transport::NodeCount,
};

impl Engine {
    pub(super) fn start(&mut self, now: Instant) {
        self.heartbeat(now, true);
        if self.broker_counts() {
            self.ask_for_count(now);
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
        let heartbeat = Heartbeat::new(initial).with_buckets(self.config.buckets);
        self.outputs.push_back(Output::Publish(Message::Heartbeat(heartbeat)));
        self.last_heartbeat = Some(now);
        self.awaits_echo.get_or_insert(now);
        self.owes_heartbeat = None;
        self.heartbeat_by(now + self.config.heartbeat_interval);
    }

    fn heartbeat_by(&mut self, due: Instant) {
        self.next_heartbeat = Some(due);
        self.wake_by(due);
    }

    /// Postpones the next heartbeat after a request, from which the other nodes know that this one is alive. Not for
    /// ever: the high-water marks in heartbeats must arrive now and then.
    pub(super) fn postpone_heartbeat(&mut self, now: Instant) {
        let interval = self.config.heartbeat_interval;
        if let (Some(_), Some(last)) = (self.next_heartbeat, self.last_heartbeat) {
            self.next_heartbeat = Some((now + interval).min(last + interval * 2));
        }
    }

    /// Brings a postponed heartbeat forward.
    pub(super) fn heartbeat_soon(&mut self, now: Instant) {
        if let (Some(next), Some(last)) = (self.next_heartbeat, self.last_heartbeat) {
            self.heartbeat_by(next.min((last + self.config.heartbeat_interval).max(now)));
        }
    }

    /// Answers a newcomer with a heartbeat: the first one at once; those that come close after it share an answer.
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
        if heartbeat.marks_follow {
            self.tracker.numbers_follow(now, from);
        }
        if self.tracker.announced(now, from, &heartbeat.high_water_marks) {
            self.report_gap(GapCause::Hole, None);
        }
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

    /// With a history own messages are judged by their numbers, too, and own heartbeats tell whether what is known of them
    /// came from another one. They may overtake what they count, which is not missing for that.
    pub(super) fn heard_own_marks(&mut self, now: Instant, marks: &[SeqNo]) {
        if self.capabilities.history && self.tracker.contradicted(now, &self.me.id, marks) {
            self.report_gap(GapCause::Hole, None);
        }
    }

    /// Notes a message of a node. Where the broker counts, a peer without heartbeats would never be seen to leave: only
    /// nodes of our kind are known by name, told by heartbeats and numbers.
    pub(super) fn sign_of_life(&mut self, now: Instant, from: &NodeId, ours: bool) {
        if ours || !self.broker_counts() || self.members.is_lost(from) {
            self.heard(now, from, Liveness::Sign);
        } else {
            self.members.refresh(now, from);
        }
    }

    pub(super) fn heard(&mut self, now: Instant, from: &NodeId, liveness: Liveness) {
        let discovery = match liveness {
            _ if self.members.is_lost(from) => Discovery::Return,
            Liveness::Hello => Discovery::Hello(now),
            Liveness::Sign => Discovery::Sign,
        };
        let is_new = !self.members.is_known(from) && !self.members.is_lost(from);
        if is_new && !self.newcomers.may_join(now) {
            return self.metrics.newcomers_ignored.increment();
        }
        if !self.members.heard(now, from, liveness) {
            return;
        }
        self.wake_by(now + self.config.heartbeat_timeout);
        self.gap_newcomer(from);
        self.event(Event::NodeUp(from.clone()));
        self.requests.iter_mut().for_each(|pending| pending.node_known(from, discovery));
        self.recount(now);
    }

    pub(super) fn left(&mut self, now: Instant, node: &NodeId) {
        if self.members.left(now, node) {
            self.node_down(node, DownReason::Left);
            self.finish_complete();
            self.recount(now);
        }
    }

    /// Handles a node that the broker does not see. It may only be cut off: its leave was not announced, and a message
    /// of it brings it back.
    pub(super) fn absent(&mut self, now: Instant, node: &NodeId) {
        if self.members.disappeared(now, node) {
            self.node_down(node, DownReason::Disconnected);
            self.finish_complete();
            self.recount(now);
        }
    }

    fn node_down(&mut self, node: &NodeId, reason: DownReason) {
        let is_absent = reason == DownReason::Disconnected;
        let requests = self.requests.iter_mut();
        requests.for_each(|pending| if is_absent { pending.node_absent(node) } else { pending.node_gone(node) });
        self.event(Event::NodeDown(node.clone(), reason));
    }

    /// Gives up the nodes that were silent for too long; none while this node's connection is away or may be dead,
    /// because it could not hear them.
    pub(super) fn give_up_silent(&mut self, now: Instant) {
        if self.is_disconnected {
            return;
        }
        let is_news = self.members.suspect(now, self.config.heartbeat_timeout);
        let all_suspected = self.members.all_suspected();
        if is_news && all_suspected.is_some() && self.last_heartbeat != Some(now) {
            // It comes back if this node can be heard and can hear.
            self.heartbeat(now, false);
        }
        if all_suspected
            .is_some_and(|since| !self.has_proof(since) && self.proof_due(since).is_none_or(|due| now < due))
        {
            self.awaits_proof = true;
            return;
        }
        let silent = self.members.take_silent(now, self.config.suspicion());
        if silent.is_empty() {
            return;
        }
        for node in &silent {
            self.node_down(node, DownReason::Silent);
        }
        self.finish_complete();
        self.recount(now);
    }

    /// Whether anything has arrived since then: not this node was cut off.
    fn has_proof(&self, since: Instant) -> bool {
        self.last_heard.is_some_and(|heard| heard >= since)
    }

    /// When the nodes that are all suspected since then are given up without proof; never where own messages come back.
    fn proof_due(&self, since: Instant) -> Option<Instant> {
        (!self.hears_itself).then(|| since + self.config.heartbeat_timeout)
    }

    pub(super) fn next_silence(&self) -> Option<Instant> {
        if self.is_disconnected {
            return None;
        }
        let next = self.members.next_silence(self.config.heartbeat_timeout, self.config.suspicion())?;
        match self.members.all_suspected() {
            Some(since) if !self.has_proof(since) => self.proof_due(since).map(|due| due.max(next)),
            _ => Some(next),
        }
    }

    /// Notes that something has arrived. Silence is judged at the next tick if that was what it waited for.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.last_heard = Some(now);
        if std::mem::take(&mut self.awaits_proof) {
            self.wake_by(now);
        }
    }

    pub(super) fn connected(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_disconnected) {
            let timeout = self.config.heartbeat_timeout;
            self.members.refresh_all(now, timeout);
            self.wake_by(now + timeout);
        }
        self.event(Event::Connected);
    }

    /// Handles a lost connection. It may have been dead for longer than the transport took to notice: nodes that fell
    /// silent since the last message are taken back, so that requests do not pass for complete without them.
    pub(super) fn lost(&mut self, now: Instant, reason: String) {
        self.is_disconnected = true;
        self.awaits_echo = None;
        self.metrics.connections_lost.increment();
        let back = self.last_heard.map_or_else(Vec::new, |heard| self.members.take_back_silent(now, heard));
        self.event(Event::Lost(reason));
        for node in back {
            self.requests.iter_mut().for_each(|pending| pending.node_known(&node, Discovery::Return));
            self.event(Event::NodeUp(node));
        }
    }

    // --- the broker's count ---

    pub(super) fn broker_counts(&self) -> bool {
        self.capabilities.membership == Membership::BrokerCount
    }

    /// Asks for a new count, because the known names have changed.
    fn recount(&mut self, now: Instant) {
        if self.broker_counts() && self.next_heartbeat.is_some() {
            self.ask_for_count(now);
        }
    }

    pub(super) fn ask_for_count(&mut self, now: Instant) {
        let due = now + self.config.count_interval;
        self.next_count = Some(due);
        self.wake_by(due);
        self.outputs.push_back(Output::CountNodes);
    }

    /// Asks for the next count while a request depends on it.
    pub(super) fn ask_for_count_again(&mut self, now: Instant) {
        if self.next_count.is_none_or(|due| due > now) {
            return;
        }
        if self.requests.is_empty() && self.gap.is_none() {
            self.next_count = None;
        } else {
            self.ask_for_count(now);
        }
    }

    pub(super) fn counted(&mut self, node_count: Option<&NodeCount>) {
        let (Some(node_count), Some(asked)) = (node_count, self.count_begun.take()) else { return };
        // Who cannot be heard is not judged.
        let absence = if self.is_disconnected { Duration::MAX } else { self.config.absence() };
        for node in self.members.counted(asked, node_count, absence) {
            self.node_down(&node, DownReason::Disconnected);
        }
        let (count, unnamed) = (self.counts, self.members.foreign().unwrap_or(0));
        self.requests.iter_mut().for_each(|pending| pending.counted(count, unnamed));
        self.finish_complete();
    }
}
