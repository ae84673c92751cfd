//! Sequence numbers of each sender: repeats and holes.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use crate::model::{NodeId, SeqChannel, SeqNo};

/// Most senders that are remembered. Beyond it the longest-silent one is forgotten.
const MAX_SENDERS: usize = 4096;

/// Most channels of one sender that are remembered; messages on others are neither checked nor counted.
const MAX_CHANNELS: usize = 1024;

/// Most high-water marks that are remembered for the grace period. More are ignored: the next heartbeat repeats them.
const MAX_ANNOUNCED: usize = 1 << 16;

/// Largest step between two numbers of a channel that is believed. No outage is that long: what goes further is
/// malformed.
const MAX_STEP: u64 = 1 << 32;

/// How long messages on a channel on which holes are no loss must have come below what is known, until one of them is
/// believed: heartbeats may not tell its numbers. What is sent again is through by then, or its connection is broken.
const UNTOLD: Duration = Duration::from_secs(10);

/// Remembers the last number of every sender and channel.
///
/// A number is judged when its message arrives. A high-water mark in a heartbeat is judged only after a grace period,
/// because it may travel on another channel than the messages it counts, and overtake them.
///
/// # Invariant
/// A message is delivered, or counted as missing, or neither (if it is older than anything known of its channel); never
/// both, and never twice.
#[derive(Debug)]
pub(super) struct SequenceTracker {
    senders: BTreeMap<NodeId, Sender>,
    subscribed: BTreeSet<SeqChannel>,
    announced: VecDeque<Announced>,
    grace: Duration,
}

#[derive(Debug)]
struct Sender {
    heard: Instant,
    /// Sorted by channel: one, or one per room bucket.
    channels: Vec<ChannelState>,
}

/// Numbers seen on one channel of one sender.
#[derive(Clone, Copy, Debug)]
struct ChannelState {
    channel: SeqChannel,
    /// Number up to which all messages were delivered, counted as missing, or are older than what is known.
    settled: u64,
    /// Number expected next; `None` if it cannot be known, after a subscription. May lie beyond `settled + 1`, if a
    /// high-water mark came before the first message did: the messages in between may still be on their way, but are
    /// not missed.
    next: Option<u64>,
    /// Since when messages or heartbeats tell numbers below `settled`, and what it was then.
    contradicted: Option<(Instant, u64)>,
}

/// A high-water mark from a heartbeat, to be judged later.
#[derive(Debug)]
struct Announced {
    due: Instant,
    from: NodeId,
    seq_no: SeqNo,
}

/// Judgement on a message by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The message is the next one, or the first one seen.
    Fresh,
    /// The message was here before, or was counted as missing.
    Repeat,
    /// So many messages are missing before it.
    Hole(u64),
    /// The number cannot be of that sender: it is further ahead than any outage is long.
    Malformed,
    /// What was known of the sender came from another one: messages may have been taken for repeats.
    Anew,
}

impl SequenceTracker {
    pub(super) fn new(grace: Duration) -> Self {
        Self {
            senders: BTreeMap::new(),
            subscribed: BTreeSet::from([SeqChannel::ALL]),
            announced: VecDeque::new(),
            grace,
        }
    }

    /// Whether losses on this channel would be noticed.
    pub(super) fn follows(&self, from: &NodeId, channel: SeqChannel) -> bool {
        let state = self.senders.get(from).and_then(|sender| sender.state(channel));
        state.is_some_and(|state| state.next.is_some())
    }

    /// Whether the node numbers what it sends.
    pub(super) fn is_numbering(&self, from: &NodeId) -> bool {
        self.senders.contains_key(from)
    }

    /// Notes that the node numbers what it sends, before any number of it is known.
    pub(super) fn numbers_follow(&mut self, now: Instant, from: &NodeId) {
        self.sender(now, from);
    }

    /// Judges the number of a message that arrived, and remembers it.
    pub(super) fn arrived(&mut self, now: Instant, from: &NodeId, seq_no: SeqNo) -> Verdict {
        let is_subscribed = self.subscribed.contains(&seq_no.channel);
        let state = self.sender(now, from).line_mut(seq_no.channel);
        if state.is_some_and(|state| !is_subscribed && state.is_contradicted_by(now, seq_no.number)) {
            return Verdict::Anew;
        }
        match self.advance(now, from, seq_no) {
            None => Verdict::Repeat,
            Some(0) => Verdict::Fresh,
            Some(missing) if missing > MAX_STEP => Verdict::Malformed,
            Some(missing) => Verdict::Hole(missing),
        }
    }

    /// Skips `count` numbers up to `last`, whose loss was reported by other means. Returns how many more are missing
    /// before it.
    pub(super) fn skip(&mut self, now: Instant, from: &NodeId, last: SeqNo, count: u64) -> u64 {
        let missing = self.advance(now, from, last).filter(|missing| *missing <= MAX_STEP).unwrap_or(0);
        missing.saturating_sub(count.saturating_sub(1))
    }

    /// Number of messages missing before this one; `None` if it is a repeat.
    fn advance(&mut self, now: Instant, from: &NodeId, seq_no: SeqNo) -> Option<u64> {
        let is_subscribed = self.subscribed.contains(&seq_no.channel);
        let Some(state) = self.sender(now, from).line_mut(seq_no.channel) else { return Some(0) };
        state.advance(now, seq_no.number, is_subscribed)
    }

    /// Takes over the high-water marks of a heartbeat. The first one of a channel is its baseline; those that are ahead
    /// of what arrived are judged by [`SequenceTracker::take_missing`] after the grace period. A channel that is not
    /// mentioned has carried nothing.
    ///
    /// Returns whether the sender had to be taken up anew: for the grace period its numbers were below what is known of
    /// it, so what is known came from another one.
    pub(super) fn announced(&mut self, now: Instant, from: &NodeId, marks: &[SeqNo]) -> bool {
        if marks.is_empty() {
            return false;
        }
        let mut is_anew = self.contradicted(now, from, marks);
        let mut marks = marks.to_vec();
        marks.sort_unstable_by_key(|seq_no| seq_no.channel);
        let due = now + self.grace;
        self.sender(now, from);
        let Some(sender) = self.senders.get_mut(from) else { return is_anew };
        for &channel in &self.subscribed {
            let counter = marks.binary_search_by_key(&channel, |seq_no| seq_no.channel);
            let number = counter.map_or(0, |index| marks[index].number);
            let Some(state) = sender.line_mut(channel) else { break };
            is_anew |= state.is_taken_up_anew(now, number, self.grace);
            if state.announced(number) && self.announced.len() < MAX_ANNOUNCED {
                self.announced.push_back(Announced { due, from: from.clone(), seq_no: SeqNo { channel, number } });
            }
        }
        is_anew
    }

    /// Compares the high-water marks of a heartbeat with what is known of all channels, and nothing else: they may be ahead
    /// of what arrives. Returns whether the sender had to be taken up anew, as [`SequenceTracker::announced`] does.
    pub(super) fn contradicted(&mut self, now: Instant, from: &NodeId, marks: &[SeqNo]) -> bool {
        let Some(sender) = self.senders.get_mut(from) else { return false };
        let mut is_anew = false;
        for mark in marks {
            let Ok(index) = sender.position(mark.channel) else { continue };
            let state = &mut sender.channels[index];
            if state.is_taken_up_anew(now, mark.number, self.grace) {
                state.next = state.next.filter(|_| self.subscribed.contains(&mark.channel));
                is_anew = true;
            }
        }
        is_anew
    }

    /// Counts the announced messages that have not arrived in their grace period.
    pub(super) fn take_missing(&mut self, now: Instant) -> u64 {
        let mut missing = 0_u64;
        while let Some(Announced { from, seq_no, .. }) = self.announced.pop_front_if(|announced| announced.due <= now) {
            let state = self.senders.get_mut(&from).and_then(|sender| sender.line_mut(seq_no.channel));
            missing = missing.saturating_add(state.map_or(0, |state| state.settle(seq_no.number)));
        }
        missing
    }

    /// Next time at which high-water marks are judged.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.announced.front().map(|announced| announced.due)
    }

    /// Notes that all messages of the channel arrive from here on.
    pub(super) fn subscribe(&mut self, channel: SeqChannel) {
        if self.subscribed.insert(channel) {
            self.lose_track(channel);
        }
    }

    /// Notes that messages of the channel may stay away from here on: a hole is no loss any more. Repeats are still
    /// noticed.
    pub(super) fn unsubscribe(&mut self, channel: SeqChannel) {
        self.subscribed.remove(&channel);
        self.announced.retain(|announced| announced.seq_no.channel != channel);
        self.lose_track(channel);
    }

    fn lose_track(&mut self, channel: SeqChannel) {
        let channels = self.senders.values_mut().flat_map(|sender| &mut sender.channels);
        channels.filter(|state| state.channel == channel).for_each(|state| state.next = None);
    }

    fn sender(&mut self, now: Instant, from: &NodeId) -> &mut Sender {
        if !self.senders.contains_key(from) {
            self.make_room();
        }
        let sender = self.senders.entry(from.clone()).or_insert_with(|| Sender { heard: now, channels: Vec::new() });
        sender.heard = now;
        sender
    }

    fn make_room(&mut self) {
        if self.senders.len() < MAX_SENDERS {
            return;
        }
        let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard).map(|(node, _)| node.clone());
        if let Some(oldest) = oldest {
            self.senders.remove(&oldest);
        }
    }
}

impl Sender {
    fn position(&self, channel: SeqChannel) -> Result<usize, usize> {
        self.channels.binary_search_by_key(&channel, |state| state.channel)
    }

    fn state(&self, channel: SeqChannel) -> Option<&ChannelState> {
        self.position(channel).ok().map(|index| &self.channels[index])
    }

    /// State of a channel, made if need be; `None` if there are too many.
    fn line_mut(&mut self, channel: SeqChannel) -> Option<&mut ChannelState> {
        let index = match self.position(channel) {
            Ok(index) => index,
            Err(_) if self.channels.len() >= MAX_CHANNELS => return None,
            Err(index) => {
                self.channels.insert(index, ChannelState { channel, settled: 0, next: None, contradicted: None });
                index
            }
        };
        Some(&mut self.channels[index])
    }
}

impl ChannelState {
    /// Notes the arrival of message `number`. Returns how many are missing before it; `None` if it is a repeat.
    fn advance(&mut self, now: Instant, number: u64, is_subscribed: bool) -> Option<u64> {
        if number <= self.settled {
            self.contradict(now);
            return None;
        }
        let missing = self.next.map_or(0, |next| number.saturating_sub(next));
        if missing > MAX_STEP {
            return Some(missing);
        }
        self.settled = number;
        self.next = is_subscribed.then_some(number.saturating_add(1));
        Some(missing)
    }

    /// Notes a number below what is known, unless one has come before.
    fn contradict(&mut self, now: Instant) {
        if self.contradicted.is_none_or(|(_, settled)| settled != self.settled) {
            self.contradicted = Some((now, self.settled));
        }
    }

    /// Begins anew with a message below what is known, if others were so for long, and none in between was not.
    fn is_contradicted_by(&mut self, now: Instant, number: u64) -> bool {
        let is_long = |(since, settled)| settled == self.settled && now >= since + UNTOLD;
        let is_contradicted = number <= self.settled && self.contradicted.is_some_and(is_long);
        if is_contradicted {
            *self = Self { channel: self.channel, settled: number, next: None, contradicted: None };
        }
        is_contradicted
    }

    /// Begins anew with `number`, the sender's last one, if that is below what is known, another number was so `grace`
    /// ago, and no message has come in between. A heartbeat that comes sooner may only be late.
    fn is_taken_up_anew(&mut self, now: Instant, number: u64, grace: Duration) -> bool {
        if number >= self.settled {
            self.contradicted = None;
            return false;
        }
        match self.contradicted {
            Some((since, settled)) if settled == self.settled && now >= since + grace => {
                let next = Some(number.saturating_add(1));
                *self = Self { channel: self.channel, settled: number, next, contradicted: None };
                true
            }
            _ => {
                self.contradict(now);
                false
            }
        }
    }

    /// Notes that the sender's last number is `number`. Returns whether that remains to be judged.
    fn announced(&mut self, number: u64) -> bool {
        if self.next.is_some_and(|next| number.saturating_sub(next) > MAX_STEP) {
            return false;
        }
        match self.next {
            None => self.next = Some(number.saturating_add(1).max(self.settled.saturating_add(1))),
            Some(next) if number < next => return false,
            Some(_) => return true,
        }
        number > self.settled
    }

    /// Counts as missing what has not arrived up to `number`. Returns how many messages that are.
    fn settle(&mut self, number: u64) -> u64 {
        let Some(next) = self.next else { return 0 };
        let missing = number.saturating_add(1).saturating_sub(next);
        if number > self.settled {
            self.settled = number;
        }
        self.next = Some(next.max(number.saturating_add(1)));
        missing
    }
}

#[cfg(test)]
mod tests;
