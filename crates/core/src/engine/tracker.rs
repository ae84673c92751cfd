//! Repeats and holes in what each sender has numbered.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{
    id::NodeId,
    message::{Channel, Stamp},
};

/// How many senders are remembered at most. Beyond it the longest-silent one is forgotten.
const MAX_SENDERS: usize = 4096;

/// Remembers the last number of every sender and channel.
///
/// A number is judged when its message arrives. The counters in a heartbeat are judged only after a grace period, because they may travel on
/// another channel than the messages they count, and overtake them.
#[derive(Debug)]
pub(super) struct Tracker {
    senders: HashMap<NodeId, Sender>,
    subscribed: BTreeSet<Channel>,
    announced: VecDeque<Announced>,
    grace: Duration,
}

#[derive(Debug)]
struct Sender {
    heard: Instant,
    /// Few, so a list: one, or one per room bucket.
    last: Vec<Stamp>,
}

/// A counter from a heartbeat that is ahead of what arrived.
#[derive(Debug)]
struct Announced {
    due: Instant,
    from: NodeId,
    stamp: Stamp,
}

/// What a number says about its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The next one, or the first one seen.
    Fresh,
    /// It was here before.
    Repeat,
    /// This many are missing before it.
    Hole(u64),
}

impl Tracker {
    pub(super) fn new(grace: Duration) -> Self {
        Self { senders: HashMap::new(), subscribed: BTreeSet::from([Channel::ALL]), announced: VecDeque::new(), grace }
    }

    /// Judges the number of a message that arrived, and remembers it.
    pub(super) fn arrived(&mut self, now: Instant, from: &NodeId, stamp: Stamp) -> Verdict {
        let sender = self.sender(now, from);
        let Some(last) = sender.last.iter_mut().find(|last| last.channel == stamp.channel) else {
            sender.last.push(stamp);
            return Verdict::Fresh;
        };
        if stamp.number <= last.number {
            return Verdict::Repeat;
        }
        let missing = stamp.number - last.number - 1;
        last.number = stamp.number;
        if missing == 0 { Verdict::Fresh } else { Verdict::Hole(missing) }
    }

    /// Skips numbers whose loss was reported by other means.
    pub(super) fn advance(&mut self, now: Instant, from: &NodeId, stamp: Stamp) {
        self.arrived(now, from, stamp);
    }

    /// Takes over the counters of a heartbeat. The first ones of a channel are its baseline; later ones that are ahead are judged by
    /// [`Tracker::take_missing`] after the grace period.
    pub(super) fn announced(&mut self, now: Instant, from: &NodeId, counters: &[Stamp]) {
        for stamp in counters {
            if !self.subscribed.contains(&stamp.channel) {
                continue;
            }
            let sender = self.sender(now, from);
            match sender.last.iter().find(|last| last.channel == stamp.channel) {
                None => sender.last.push(*stamp),
                Some(last) if stamp.number > last.number => {
                    let due = now + self.grace;
                    self.announced.push_back(Announced { due, from: from.clone(), stamp: *stamp });
                }
                Some(_) => {}
            }
        }
    }

    /// Counts the announced messages that have not arrived in their grace period.
    pub(super) fn take_missing(&mut self, now: Instant) -> u64 {
        let mut missing = 0;
        while self.announced.front().is_some_and(|announced| announced.due <= now) {
            let Some(Announced { from, stamp, .. }) = self.announced.pop_front() else { break };
            let sender = self.senders.get_mut(&from);
            let last = sender.and_then(|sender| sender.last.iter_mut().find(|last| last.channel == stamp.channel));
            if let Some(last) = last
                && stamp.number > last.number
            {
                missing += stamp.number - last.number;
                last.number = stamp.number;
            }
        }
        missing
    }

    /// When announced counters are next to be judged.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.announced.front().map(|announced| announced.due)
    }

    /// From here on, all messages of the channel arrive.
    pub(super) fn subscribe(&mut self, channel: Channel) {
        self.subscribed.insert(channel);
    }

    /// From here on, messages of the channel may stay away: nothing is known of it any more.
    pub(super) fn unsubscribe(&mut self, channel: Channel) {
        self.subscribed.remove(&channel);
        self.announced.retain(|announced| announced.stamp.channel != channel);
        for sender in self.senders.values_mut() {
            sender.last.retain(|last| last.channel != channel);
        }
    }

    fn sender(&mut self, now: Instant, from: &NodeId) -> &mut Sender {
        if !self.senders.contains_key(from) {
            self.make_room();
            self.senders.insert(from.clone(), Sender { heard: now, last: Vec::new() });
        }
        let sender = self.senders.get_mut(from).expect("inserted above");
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

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(1);

    fn a() -> NodeId {
        NodeId::new("a").unwrap()
    }

    fn stamp(channel: u16, number: u64) -> Stamp {
        Stamp { channel: Channel(channel), number }
    }

    #[test]
    fn repeats_and_holes_are_told_apart_per_channel() {
        let now = Instant::now();
        let mut tracker = Tracker::new(GRACE);
        let numbers = [(0, 5), (0, 6), (0, 6), (0, 9), (1, 1), (0, 8)];
        let verdicts = numbers.map(|(channel, number)| tracker.arrived(now, &a(), stamp(channel, number)));
        use Verdict::{Fresh, Hole, Repeat};
        assert_eq!(verdicts, [Fresh, Fresh, Repeat, Hole(2), Fresh, Repeat]);
    }

    #[test]
    fn a_heartbeat_that_overtakes_its_messages_is_no_hole() {
        let now = Instant::now();
        let mut tracker = Tracker::new(GRACE);
        tracker.arrived(now, &a(), stamp(0, 1));
        tracker.announced(now, &a(), &[stamp(0, 2)]);
        assert_eq!(tracker.arrived(now, &a(), stamp(0, 2)), Verdict::Fresh);
        assert_eq!(tracker.take_missing(now + GRACE), 0);
    }

    #[test]
    fn the_last_message_of_a_sender_is_missed_after_the_grace_period() {
        let now = Instant::now();
        let mut tracker = Tracker::new(GRACE);
        tracker.announced(now, &a(), &[stamp(0, 3)]);
        tracker.announced(now, &a(), &[stamp(0, 5)]);
        assert_eq!(tracker.take_missing(now), 0);
        assert_eq!(tracker.deadline(), Some(now + GRACE));
        assert_eq!(tracker.take_missing(now + GRACE), 2);
        assert_eq!(tracker.take_missing(now + GRACE), 0);
    }

    #[test]
    fn channels_without_subscription_have_no_holes() {
        let now = Instant::now();
        let mut tracker = Tracker::new(GRACE);
        tracker.announced(now, &a(), &[stamp(7, 1)]);
        tracker.announced(now, &a(), &[stamp(7, 9)]);
        assert_eq!(tracker.deadline(), None);
        tracker.subscribe(Channel(7));
        tracker.announced(now, &a(), &[stamp(7, 9)]);
        tracker.unsubscribe(Channel(7));
        tracker.subscribe(Channel(7));
        assert_eq!(tracker.arrived(now, &a(), stamp(7, 20)), Verdict::Fresh);
    }

    #[test]
    fn remembered_senders_are_bounded() {
        let now = Instant::now();
        let mut tracker = Tracker::new(GRACE);
        for number in 0..=MAX_SENDERS {
            tracker.arrived(now, &NodeId::new(number.to_string()).unwrap(), stamp(0, 1));
        }
        assert_eq!(tracker.senders.len(), MAX_SENDERS);
    }
}
