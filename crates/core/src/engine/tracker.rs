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
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    use Verdict::{Fresh, Hole, Malformed, Repeat};

    fn a() -> NodeId {
        NodeId::new("a").unwrap()
    }

    fn seq_no(channel: u16, number: u64) -> SeqNo {
        SeqNo { channel: SeqChannel(channel), number }
    }

    fn arrive<const N: usize>(tracker: &mut SequenceTracker, numbers: [(u16, u64); N]) -> [Verdict; N] {
        numbers.map(|(channel, number)| tracker.arrived(Instant::now(), &a(), seq_no(channel, number)))
    }

    #[test]
    fn repeats_and_holes_are_told_apart_per_channel() {
        let mut tracker = SequenceTracker::new(GRACE);
        tracker.subscribe(SeqChannel(1));
        let verdicts = arrive(&mut tracker, [(0, 5), (0, 6), (0, 6), (0, 9), (1, 1), (0, 8)]);
        assert_eq!(verdicts, [Fresh, Fresh, Repeat, Hole(2), Fresh, Repeat]);
    }

    #[test]
    fn a_heartbeat_that_overtakes_its_messages_is_no_hole() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        tracker.arrived(now, &a(), seq_no(0, 1));
        tracker.announced(now, &a(), &[seq_no(0, 2)]);
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 2)), Fresh);
        assert_eq!(tracker.take_missing(now + GRACE), 0);
    }

    #[test]
    fn a_first_heartbeat_that_overtakes_its_messages_makes_no_repeats_of_them() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        tracker.subscribe(SeqChannel(7));
        tracker.announced(now, &a(), &[seq_no(7, 5)]);
        assert_eq!(arrive(&mut tracker, [(7, 4)]), [Fresh]);
        assert_eq!(tracker.take_missing(now + GRACE), 1, "number 5 is not on its way any more");
        assert_eq!(arrive(&mut tracker, [(7, 5), (7, 6)]), [Repeat, Fresh], "it was counted as missing");
    }

    #[test]
    fn the_last_message_of_a_sender_is_missed_after_the_grace_period() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        tracker.announced(now, &a(), &[seq_no(0, 3)]);
        tracker.announced(now, &a(), &[seq_no(0, 5)]);
        assert_eq!(tracker.take_missing(now), 0);
        assert_eq!(tracker.deadline(), Some(now + GRACE));
        assert_eq!(tracker.take_missing(now + GRACE), 2);
        assert_eq!(tracker.take_missing(now + GRACE), 0);
        assert_eq!(tracker.deadline(), None);
    }

    #[test]
    fn a_channel_that_a_heartbeat_does_not_mention_has_carried_nothing() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        tracker.subscribe(SeqChannel(7));
        tracker.announced(now, &a(), &[seq_no(0, 0)]);
        assert_eq!(arrive(&mut tracker, [(7, 3)]), [Hole(2)]);
    }

    #[test]
    fn channels_without_subscription_have_no_holes_but_repeats() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        tracker.announced(now, &a(), &[seq_no(7, 1)]);
        tracker.announced(now, &a(), &[seq_no(7, 9)]);
        assert_eq!(tracker.take_missing(now + GRACE), 0);
        tracker.subscribe(SeqChannel(7));
        assert_eq!(arrive(&mut tracker, [(7, 10), (7, 11)]), [Fresh, Fresh]);
        tracker.announced(now, &a(), &[seq_no(7, 12)]);
        tracker.unsubscribe(SeqChannel(7));
        assert_eq!(arrive(&mut tracker, [(7, 12), (7, 15)]), [Fresh, Fresh], "they were on their way");
        tracker.subscribe(SeqChannel(7));
        assert_eq!(arrive(&mut tracker, [(7, 20), (7, 11), (7, 22)]), [Fresh, Repeat, Hole(1)]);
        tracker.subscribe(SeqChannel(7));
        assert_eq!(arrive(&mut tracker, [(7, 24)]), [Hole(1)], "it was subscribed all the time");
    }

    #[test]
    fn what_an_overflow_dropped_is_no_hole_but_what_was_lost_before_it_is() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        assert_eq!(arrive(&mut tracker, [(0, 5)]), [Fresh]);
        assert_eq!(tracker.skip(now, &a(), seq_no(0, 8), 3), 0);
        assert_eq!(tracker.skip(now, &a(), seq_no(0, 12), 3), 1, "numbers 9 to 12 less three");
        assert_eq!(arrive(&mut tracker, [(0, 13)]), [Fresh]);
    }

    #[test]
    fn absurd_first_numbers_are_taken_as_they_are() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        assert_eq!(arrive(&mut tracker, [(0, 0), (0, u64::MAX), (0, u64::MAX)]), [Repeat, Fresh, Repeat]);
        tracker.announced(now, &a(), &[seq_no(0, u64::MAX)]);
        assert_eq!(tracker.take_missing(now + GRACE), 0);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let mut tracker = SequenceTracker::new(GRACE);
        for number in 0..=MAX_SENDERS {
            tracker.arrived(now, &NodeId::new(number.to_string()).unwrap(), seq_no(0, 1));
        }
        assert_eq!(tracker.senders.len(), MAX_SENDERS);
        for channel in 0..=MAX_CHANNELS {
            tracker.arrived(now, &a(), seq_no(u16::try_from(channel).unwrap(), 1));
        }
        assert_eq!(tracker.senders[&a()].channels.len(), MAX_CHANNELS);
        for number in 0..=MAX_ANNOUNCED + 1 {
            tracker.announced(now, &a(), &[seq_no(0, number as u64)]);
        }
        assert_eq!(tracker.announced.len(), MAX_ANNOUNCED);
    }

    #[test]
    fn a_number_too_far_ahead_is_malformed_and_changes_nothing() {
        let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 1)), Fresh);
        for forged in [u64::MAX, 3 + MAX_STEP] {
            assert_eq!(tracker.arrived(now, &a(), seq_no(0, forged)), Malformed);
            assert!(!tracker.announced(now, &a(), &[seq_no(0, forged)]));
        }
        assert_eq!(tracker.take_missing(now + GRACE), 0);
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 2)), Fresh);
    }

    #[test]
    fn a_sender_whose_heartbeats_contradict_what_is_known_is_taken_up_anew() {
        let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, u64::MAX - 1)), Fresh, "forged, before the sender was heard");
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 5)), Repeat);
        assert!(!tracker.announced(now, &a(), &[seq_no(0, 5)]), "it may be late");
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 6)), Repeat);
        assert!(!tracker.announced(now, &a(), &[seq_no(0, 6)]), "so may this one");
        assert!(tracker.announced(now + GRACE, &a(), &[seq_no(0, 6)]));
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 6)), Repeat);
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 7)), Fresh);
    }

    #[test]
    fn a_sender_is_taken_up_anew_on_a_channel_without_holes_too() {
        let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
        assert_eq!(tracker.arrived(now, &a(), seq_no(1, 1 << 32)), Fresh, "forged");
        assert_eq!(tracker.arrived(now, &a(), seq_no(1, 5)), Repeat);
        assert!(tracker.announced(now + GRACE, &a(), &[seq_no(0, 3), seq_no(1, 5)]));
        assert_eq!(
            [6, 9, 9].map(|number| tracker.arrived(now + GRACE, &a(), seq_no(1, number))),
            [Fresh, Fresh, Repeat]
        );
    }

    #[test]
    fn a_message_and_a_heartbeat_contradict_what_is_known_together() {
        let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 1 << 32)), Fresh, "forged");
        assert_eq!(tracker.arrived(now, &a(), seq_no(0, 5)), Repeat);
        assert_eq!(tracker.arrived(now + GRACE / 2, &a(), seq_no(0, 6)), Repeat);
        assert!(tracker.announced(now + GRACE, &a(), &[seq_no(0, 6)]), "heartbeats may be two intervals apart");
        assert_eq!(tracker.arrived(now + GRACE, &a(), seq_no(0, 7)), Fresh);
    }

    #[test]
    fn repeats_of_a_sender_whose_heartbeats_tell_no_less_contradict_nothing() {
        let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
        for number in [1, 2, 3, 2, 3] {
            tracker.arrived(now, &a(), seq_no(0, number));
        }
        assert!(!tracker.announced(now, &a(), &[seq_no(0, 3)]));
        assert!(!tracker.announced(now + GRACE, &a(), &[seq_no(0, 2)]), "it may be late");
        assert_eq!(tracker.arrived(now + GRACE, &a(), seq_no(0, 3)), Repeat);
    }

    #[test]
    fn late_heartbeats_of_a_sender_that_goes_on_publishing_contradict_nothing() {
        let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
        for number in (1..20).step_by(2) {
            tracker.arrived(now, &a(), seq_no(0, number));
            tracker.arrived(now, &a(), seq_no(0, number + 1));
            assert!(!tracker.announced(now, &a(), &[seq_no(0, number)]));
        }
    }
}
