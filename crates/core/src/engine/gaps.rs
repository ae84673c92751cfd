//! Gaps: how many messages are missing.
//!
//! A transport that lost its connection often cannot tell how much it missed. Our own peers can: they are asked for
//! their high-water marks, and what is missing by then is the size of the gap, provided that every peer has answered.

use std::{collections::BTreeSet, time::Instant};

use super::{Engine, interface::Output};
use crate::model::{Event, Gap, GapCause, Heartbeat, Message, NodeId, Overflow, SeqChannel, SeqNo};

/// A gap whose size is being determined.
#[derive(Debug)]
pub(super) struct OpenGap {
    cause: GapCause,
    /// When the gap is reported, with the size known by then.
    pub(super) due: Instant,
    missed: u64,
    /// Nodes whose high-water marks have not arrived yet.
    waiting: BTreeSet<NodeId>,
    /// Whether the size stays unknown: a sender whose numbers were not known before the gap may have published during
    /// it.
    unknown: bool,
}

impl Engine {
    /// Handles a gap that the transport reports.
    pub(super) fn transport_gap(&mut self, now: Instant, gap: &Gap) {
        if gap.missed.is_some() || !self.capabilities.numbered || self.next_heartbeat.is_none() {
            self.report_gap(gap.cause, gap.missed);
            return;
        }
        let due = now + self.config.gap_grace * 2;
        // A second gap while the first is open makes one with it: every peer is asked again.
        let (missed, unknown) = self.gap.take().map_or((0, false), |open| (open.missed, open.unknown));
        let waiting = self.members.names().cloned().collect();
        self.gap = Some(OpenGap { cause: gap.cause, due, missed, waiting, unknown });
        self.wake_by(due);
        self.heartbeat(now, true);
        if self.broker_counts() {
            self.ask_for_count(now);
        }
    }

    /// Waits for the high-water marks of a node that came up while a gap is open: it was there before, or it has just
    /// joined.
    pub(super) fn gap_newcomer(&mut self, node: &NodeId) {
        if let Some(gap) = &mut self.gap {
            gap.waiting.insert(node.clone());
        }
    }

    /// Makes the size of an open gap unknown if a number is about to become the first one known of its channel: what
    /// came before may have been missed.
    pub(super) fn gap_number(&mut self, from: &NodeId, seq_no: SeqNo) {
        if let Some(gap) = &mut self.gap {
            gap.unknown |= seq_no.number > 1 && !self.tracker.follows(from, seq_no.channel);
        }
    }

    /// Notes that the high-water marks of a node have arrived. They count for an open gap if they are judged before it
    /// is reported.
    pub(super) fn gap_marks(&mut self, now: Instant, from: &NodeId, marks: &[SeqNo]) {
        let Some(gap) = &mut self.gap else { return };
        let has_spoken = marks.iter().any(|seq_no| seq_no.number > 0);
        gap.unknown |= has_spoken && !self.tracker.follows(from, SeqChannel::ALL);
        if !marks.is_empty() && now + self.config.gap_grace <= gap.due {
            gap.waiting.remove(from);
        }
    }

    /// Reports missing numbered messages, as part of an open gap or as a gap of their own.
    pub(super) fn missing(&mut self, missing: u64) {
        if missing == 0 {
            return;
        }
        match &mut self.gap {
            Some(gap) => gap.missed = gap.missed.saturating_add(missing),
            None => self.report_gap(GapCause::Hole, Some(missing)),
        }
    }

    /// Handles an inbox that was full. Echoes of this node's own messages are no loss.
    pub(super) fn overflow(&mut self, now: Instant, overflow: &Overflow) {
        let (echoes, others): (Vec<_>, Vec<_>) =
            overflow.dropped.iter().partition(|dropped| dropped.from == self.me.id);
        let missed = overflow.missed.saturating_sub(echoes.iter().map(|dropped| dropped.missed).sum());
        if missed > 0 {
            self.report_gap(GapCause::Overflow, Some(missed));
        }
        let echoes = echoes.into_iter().filter(|_| self.capabilities.history).collect::<Vec<_>>();
        for dropped in others.into_iter().chain(echoes) {
            if dropped.from != self.me.id {
                self.sign_of_life(now, &dropped.from, true);
            }
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
        // What was trimmed may have been nothing: brokers skip positions where one file ends and the next one begins.
        if all_told && gap.missed == 0 && gap.cause == GapCause::Trimmed {
            return;
        }
        self.report_gap(gap.cause, all_told.then_some(gap.missed));
    }

    fn all_are_ours(&self) -> bool {
        !self.broker_counts() || self.members.foreign() == Some(0)
    }

    pub(super) fn report_gap(&mut self, cause: GapCause, missed: Option<u64>) {
        self.metrics.gaps.increment();
        self.metrics.exported.gap(cause);
        self.metrics.missed.add(missed.unwrap_or(0));
        self.event(Event::Gap(Gap { cause, missed }));
    }

    /// Sends the last high-water marks of this node, so that its peers notice what they have missed.
    pub(super) fn last_marks(&mut self) {
        if self.capabilities.numbered {
            let heartbeat = Heartbeat::new(false).with_buckets(self.config.buckets);
            self.outputs.push_back(Output::Publish(Message::Heartbeat(heartbeat)));
        }
    }
}
