//! How many messages are missing, and since when.
//!
//! A transport that lost its connection often cannot tell how much it missed. Peers of our kind can: they are asked for their counters,
//! and what is missing by then is the size of the gap, provided that everybody has told.

use std::{collections::BTreeSet, time::Instant};

use super::{Engine, interface::Output};
use crate::model::{Event, Gap, GapCause, Heartbeat, Message, NodeId, Overflow, SeqChannel, SeqNo};

/// A gap whose size is being found out.
#[derive(Debug)]
pub(super) struct OpenGap {
    cause: GapCause,
    /// When it is reported.
    pub(super) due: Instant,
    missed: u64,
    /// Who has not told its counters yet.
    waiting: BTreeSet<NodeId>,
    /// Somebody's numbers were not known before the gap, and it may have said something during it.
    unknown: bool,
}

impl Engine {
    /// The transport reports a gap.
    pub(super) fn transport_gap(&mut self, now: Instant, gap: &Gap) {
        if gap.missed.is_some() || !self.capabilities.numbered || self.next_heartbeat.is_none() {
            self.report_gap(gap.cause, gap.missed);
            return;
        }
        let due = now + self.config.gap_grace * 2;
        // A second gap while the first is open makes one with it: everybody is asked again.
        let (missed, unknown) = self.gap.take().map_or((0, false), |open| (open.missed, open.unknown));
        let waiting = self.members.names().cloned().collect();
        self.gap = Some(OpenGap { cause: gap.cause, due, missed, waiting, unknown });
        self.wake_by(due);
        self.heartbeat(now, true);
        if self.broker_counts() {
            self.ask_for_count(now);
        }
    }

    /// A node came up while a gap is open: it was there before, or it has just joined. Its counters tell.
    pub(super) fn gap_newcomer(&mut self, node: &NodeId) {
        if let Some(gap) = &mut self.gap {
            gap.waiting.insert(node.clone());
        }
    }

    /// A number is about to become the first one known of its channel. What came before may have been missed.
    pub(super) fn gap_number(&mut self, from: &NodeId, seq_no: SeqNo) {
        if let Some(gap) = &mut self.gap {
            gap.unknown |= seq_no.number > 1 && !self.tracker.follows(from, seq_no.channel);
        }
    }

    /// A node tells its counters. They count for an open gap if they are judged before it is reported.
    pub(super) fn gap_marks(&mut self, now: Instant, from: &NodeId, marks: &[SeqNo]) {
        let Some(gap) = &mut self.gap else { return };
        let has_spoken = marks.iter().any(|seq_no| seq_no.number > 0);
        gap.unknown |= has_spoken && !self.tracker.follows(from, SeqChannel::ALL);
        if !marks.is_empty() && now + self.config.gap_grace <= gap.due {
            gap.waiting.remove(from);
        }
    }

    /// Numbered messages are missing: part of an open gap, or one of its own.
    pub(super) fn missing(&mut self, missing: u64) {
        if missing == 0 {
            return;
        }
        match &mut self.gap {
            Some(gap) => gap.missed = gap.missed.saturating_add(missing),
            None => self.report_gap(GapCause::Hole, Some(missing)),
        }
    }

    /// The inbox was full. Echoes of this node's own messages are no loss.
    pub(super) fn overflow(&mut self, now: Instant, overflow: &Overflow) {
        let (echoes, others): (Vec<_>, Vec<_>) =
            overflow.dropped.iter().partition(|dropped| dropped.from == self.me.id);
        let missed = overflow.missed.saturating_sub(echoes.iter().map(|dropped| dropped.missed).sum());
        if missed > 0 {
            self.report_gap(GapCause::Overflow, Some(missed));
        }
        for dropped in others {
            self.sign_of_life(now, &dropped.from, true);
            let missing = self.tracker.skip(now, &dropped.from, dropped.last, dropped.count);
            self.missing(missing);
        }
    }

    pub(super) fn close_gap(&mut self, now: Instant) {
        let Some(gap) = self.gap.take_if(|gap| gap.due <= now) else { return };
        let all_told = gap.waiting.is_empty() && !gap.unknown && self.all_are_ours();
        if !all_told {
            self.metrics.missed.add(gap.missed);
        }
        self.report_gap(gap.cause, all_told.then_some(gap.missed));
    }

    fn all_are_ours(&self) -> bool {
        !self.broker_counts() || self.members.foreign() == Some(0)
    }

    fn report_gap(&mut self, cause: GapCause, missed: Option<u64>) {
        self.metrics.gaps.increment();
        self.metrics.missed.add(missed.unwrap_or(0));
        self.event(Event::Gap(Gap { cause, missed }));
    }

    /// Says how far this node has numbered, for the last time: what peers miss by then they never got.
    pub(super) fn last_marks(&mut self) {
        if self.capabilities.numbered {
            let heartbeat = Heartbeat { initial: false, high_water_marks: Vec::new(), buckets: self.config.buckets };
            self.outputs.push_back(Output::Publish(Message::Heartbeat(heartbeat)));
        }
    }
}
