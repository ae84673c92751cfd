//! Checks of deliveries: at most once, in order, with gaps of the right size.

use trunkline_core::model::{Overflow, SeqNo};

use super::{Check, Checked, ensure};
use crate::{
    names::{self, MAX_PEERS, Tag},
    scenario::{BackendKind, CHANNELS, Faults},
};

/// Account of the messages of each sender.
///
/// Missing are the numbers that the node knows of, from served messages or from the numbers in heartbeats, without
/// those from before it knew of the channel, and without those served. The engine must have reported just as many.
#[derive(Debug)]
pub(super) struct Deliveries {
    numbered: bool,
    /// Whether messages of a sender keep their order across channels.
    total_order: bool,
    senders: Vec<Sender>,
    subscribed: [bool; CHANNELS],
    /// Missing on currently subscribed channels.
    missing: u64,
    /// Missing on channels until they were unsubscribed.
    missing_before: u64,
    /// Part of `missing_before` that need not have been reported by then.
    unsettled: u64,
    /// Dropped by a full inbox, and reported as an overflow.
    overflowed: u64,
}

#[derive(Clone, Debug, Default)]
struct Sender {
    channels: [ChannelAccount; CHANNELS],
    last_serial: u64,
}

/// Account of one channel of one sender.
#[derive(Clone, Debug, Default)]
struct ChannelAccount {
    /// The last number served.
    last: u64,
    served: Vec<bool>,
    /// Numbers above this one are counted.
    base: Option<u64>,
    /// The highest number that arrived, or was dropped by the inbox.
    seen: u64,
    /// Whether the base comes from a heartbeat and no message was served since: messages under way may lie below it.
    is_open: bool,
    known: u64,
    /// Numbers above the base that were served, or reported as an overflow.
    counted: u64,
}

impl Deliveries {
    pub(super) fn new(kind: BackendKind, faults: Faults) -> Self {
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

    /// Checks a served message. Foreign peers do not number theirs.
    pub(super) fn served(&mut self, from: usize, tag: Tag, is_numbered: bool) -> Checked {
        let sender = &mut self.senders[from];
        let account = &mut sender.channels[tag.channel];
        let number = usize::try_from(tag.number).unwrap();
        ensure(!account.served.get(number).copied().unwrap_or(false), Check::AtMostOnce, || {
            format!("number {number} of peer {from:02} on channel {} twice", tag.channel)
        })?;
        ensure(tag.number > account.last, Check::Order, || {
            format!("number {number} of peer {from:02} on channel {} after number {}", tag.channel, account.last)
        })?;
        ensure(!self.total_order || tag.serial > sender.last_serial, Check::Order, || {
            format!("message {} of peer {from:02} after message {}", tag.serial, sender.last_serial)
        })?;
        account.last = tag.number;
        account.served.resize(number + 1, false);
        account.served[number] = true;
        sender.last_serial = tag.serial;
        if is_numbered {
            self.accepted(from, tag.channel, tag.number);
        }
        Ok(())
    }

    /// Counts the number of a message that the engine accepted.
    pub(super) fn accepted(&mut self, from: usize, channel: usize, number: u64) {
        if !self.subscribed[channel] {
            return;
        }
        self.account(from, channel, |account| {
            let is_below = account.base.is_some_and(|base| account.is_open && number <= base);
            if account.base.is_none() || is_below {
                account.base = Some(number - 1);
            }
            account.is_open = false;
            account.known = account.known.max(number);
            account.seen = account.seen.max(number);
            account.counted += 1;
        });
    }

    /// Counts the high-water marks of a heartbeat.
    pub(super) fn high_water_marks(&mut self, from: usize, marks: &[SeqNo]) {
        if marks.is_empty() {
            return;
        }
        for channel in (0..CHANNELS).filter(|channel| self.subscribed[*channel]).collect::<Vec<_>>() {
            let mark = marks.iter().find(|seq_no| usize::from(seq_no.channel.0) == channel);
            let number = mark.map_or(0, |seq_no| seq_no.number);
            self.account(from, channel, |account| {
                if account.base.is_none() {
                    account.base = Some(number.max(account.last));
                    account.is_open = true;
                }
                account.known = account.known.max(number);
            });
        }
    }

    /// Counts messages that a full inbox dropped. The node's own messages are no loss.
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
            self.account(from, channel, |account| {
                match account.base {
                    None => {
                        account.base = Some(last);
                        account.known = last;
                    }
                    Some(base) if account.is_open && last <= base => {
                        account.base = Some(last);
                        account.is_open = false;
                    }
                    Some(base) => {
                        account.counted += dropped.count.min(last.saturating_sub(account.seen.max(base)));
                        account.known = account.known.max(last);
                        account.is_open = false;
                    }
                }
                account.seen = account.seen.max(last);
            });
        }
    }

    pub(super) fn subscribed(&mut self, channel: usize) {
        self.subscribed[channel] = true;
    }

    pub(super) fn unsubscribed(&mut self, channel: usize) {
        self.subscribed[channel] = false;
        for sender in &mut self.senders {
            let account = &mut sender.channels[channel];
            let missing = account.missing();
            self.missing -= missing;
            self.missing_before += missing;
            self.unsettled += missing.min(account.known.saturating_sub(account.last));
            *account = ChannelAccount {
                last: account.last,
                served: std::mem::take(&mut account.served),
                ..ChannelAccount::default()
            };
        }
    }

    /// Changes the account of a channel, and the sum over all of them.
    fn account(&mut self, from: usize, channel: usize, change: impl FnOnce(&mut ChannelAccount)) {
        let account = &mut self.senders[from].channels[channel];
        let before = account.missing();
        change(account);
        self.missing = self.missing + account.missing() - before;
    }

    /// Checks that no more is reported than is missing.
    pub(super) fn check(&self, reported: u64) -> Checked {
        let most = self.missing + self.missing_before + self.overflowed;
        ensure(!self.numbered || reported <= most, Check::Gaps, || {
            format!("{reported} messages were reported missing, {most} are")
        })
    }

    /// Checks in the end that everything missing was reported.
    pub(super) fn settled(&self, reported: u64) -> Checked {
        let least = self.missing + self.missing_before - self.unsettled + self.overflowed;
        ensure(!self.numbered || reported >= least, Check::Gaps, || {
            format!("{reported} messages were reported missing, {least} are")
        })
    }
}

impl ChannelAccount {
    fn missing(&self) -> u64 {
        self.base.map_or(0, |base| (self.known.max(base) - base).saturating_sub(self.counted))
    }
}
