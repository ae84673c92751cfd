//! What a node serves of each sender, and what it misses.

use trunkline_core::model::{Overflow, SeqNo};

use super::{Check, Checked, ensure};
use crate::{
    names::{self, MAX_PEERS, Tag},
    scenario::{CHANNELS, Faults, Kind},
};

/// Keeps account of each sender's messages.
///
/// The account is: numbers that were told of (by messages that were served, or by counters in heartbeats), less those from before
/// anything was known of the channel, less those served, are missing; the engine must have reported just as many.
#[derive(Debug)]
pub(super) struct Streams {
    numbered: bool,
    /// Whether a sender's messages keep their order over all channels.
    total_order: bool,
    senders: Vec<Sender>,
    subscribed: [bool; CHANNELS],
    /// Missing on channels as they are subscribed now.
    missing: u64,
    /// Missing on channels up to the moment when they were given up.
    missing_before: u64,
    /// Part of the latter that need not have been reported by then.
    unsettled: u64,
    /// Dropped by a full inbox, and reported as that.
    overflowed: u64,
}

#[derive(Clone, Debug, Default)]
struct Sender {
    lines: [Line; CHANNELS],
    last_serial: u64,
}

/// One channel of one sender.
#[derive(Clone, Debug, Default)]
struct Line {
    /// The last number served.
    last: u64,
    served: Vec<bool>,
    /// Numbers above this one are accounted for.
    base: Option<u64>,
    /// The highest number that arrived, or was dropped at the door.
    seen: u64,
    /// Whether nothing was served since the base was told by a heartbeat: what is on its way may still lie below.
    is_open: bool,
    told: u64,
    /// Numbers above the base that were served, or reported in another way.
    settled: u64,
}

impl Streams {
    pub(super) fn new(kind: Kind, faults: Faults) -> Self {
        Self {
            numbered: kind.numbered,
            total_order: !kind.split && faults.reorder == 0,
            senders: vec![Sender::default(); MAX_PEERS],
            subscribed: [true, false, false],
            missing: 0,
            missing_before: 0,
            unsettled: 0,
            overflowed: 0,
        }
    }

    /// A message was served. Foreign peers do not number theirs.
    pub(super) fn served(&mut self, from: usize, tag: Tag, is_numbered: bool) -> Checked {
        let sender = &mut self.senders[from];
        let line = &mut sender.lines[tag.channel];
        let number = usize::try_from(tag.number).unwrap();
        ensure(!line.served.get(number).copied().unwrap_or(false), Check::AtMostOnce, || {
            format!("number {number} of peer {from:02} on channel {} twice", tag.channel)
        })?;
        ensure(tag.number > line.last, Check::Order, || {
            format!("number {number} of peer {from:02} on channel {} after number {}", tag.channel, line.last)
        })?;
        ensure(!self.total_order || tag.serial > sender.last_serial, Check::Order, || {
            format!("message {} of peer {from:02} after message {}", tag.serial, sender.last_serial)
        })?;
        line.last = tag.number;
        line.served.resize(number + 1, false);
        line.served[number] = true;
        sender.last_serial = tag.serial;
        if is_numbered {
            self.accepted(from, tag.channel, tag.number);
        }
        Ok(())
    }

    /// A number was taken note of as that of a message that is here.
    pub(super) fn accepted(&mut self, from: usize, channel: usize, number: u64) {
        if !self.subscribed[channel] {
            return;
        }
        self.account(from, channel, |line| {
            let is_below = line.base.is_some_and(|base| line.is_open && number <= base);
            if line.base.is_none() || is_below {
                line.base = Some(number - 1);
            }
            line.is_open = false;
            line.told = line.told.max(number);
            line.seen = line.seen.max(number);
            line.settled += 1;
        });
    }

    /// A heartbeat tells how far its sender has numbered.
    pub(super) fn high_water_marks(&mut self, from: usize, metrics: &[SeqNo]) {
        if metrics.is_empty() {
            return;
        }
        for channel in (0..CHANNELS).filter(|channel| self.subscribed[*channel]).collect::<Vec<_>>() {
            let counter = metrics.iter().find(|seq_no| usize::from(seq_no.channel.0) == channel);
            let number = counter.map_or(0, |seq_no| seq_no.number);
            self.account(from, channel, |line| {
                if line.base.is_none() {
                    line.base = Some(number.max(line.last));
                    line.is_open = true;
                }
                line.told = line.told.max(number);
            });
        }
    }

    /// A full inbox dropped messages. Those of the node itself are no loss.
    pub(super) fn overflowed(&mut self, me: usize, overflow: &Overflow) {
        self.overflowed += overflow.missed;
        for dropped in &overflow.dropped {
            let Some(from) = names::index(&dropped.from) else { continue };
            if from == me {
                self.overflowed -= dropped.missed;
                continue;
            }
            let (channel, last) = (usize::from(dropped.last.channel.0), dropped.last.number);
            if !self.subscribed[channel] {
                continue;
            }
            self.account(from, channel, |line| {
                match line.base {
                    None => {
                        line.base = Some(last);
                        line.told = last;
                    }
                    Some(base) if line.is_open && last <= base => {
                        line.base = Some(last);
                        line.is_open = false;
                    }
                    Some(base) => {
                        line.settled += dropped.count.min(last.saturating_sub(line.seen.max(base)));
                        line.told = line.told.max(last);
                        line.is_open = false;
                    }
                }
                line.seen = line.seen.max(last);
            });
        }
    }

    pub(super) fn subscribed(&mut self, channel: usize) {
        self.subscribed[channel] = true;
    }

    pub(super) fn unsubscribed(&mut self, channel: usize) {
        self.subscribed[channel] = false;
        for sender in &mut self.senders {
            let line = &mut sender.lines[channel];
            let missing = line.missing();
            self.missing -= missing;
            self.missing_before += missing;
            self.unsettled += missing.min(line.told.saturating_sub(line.last));
            *line = Line { last: line.last, served: std::mem::take(&mut line.served), ..Line::default() };
        }
    }

    /// Changes a line, and the sum over all of them.
    fn account(&mut self, from: usize, channel: usize, change: impl FnOnce(&mut Line)) {
        let line = &mut self.senders[from].lines[channel];
        let before = line.missing();
        change(line);
        self.missing = self.missing + line.missing() - before;
    }

    /// Not more was reported than is missing.
    pub(super) fn check(&self, reported: u64) -> Checked {
        let most = self.missing + self.missing_before + self.overflowed;
        ensure(!self.numbered || reported <= most, Check::Gaps, || {
            format!("{reported} messages were reported missing, {most} are")
        })
    }

    /// By now, all that is missing was reported.
    pub(super) fn settled(&self, reported: u64) -> Checked {
        let least = self.missing + self.missing_before - self.unsettled + self.overflowed;
        ensure(!self.numbered || reported >= least, Check::Gaps, || {
            format!("{reported} messages were reported missing, {least} are")
        })
    }
}

impl Line {
    fn missing(&self) -> u64 {
        self.base.map_or(0, |base| (self.told.max(base) - base).saturating_sub(self.settled))
    }
}
