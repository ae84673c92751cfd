//! Repeats: numbers that arrive a second time, because their sender has sent again what was in flight when its connection
//! broke.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use crate::batch::ConnectionId;

/// What the number of a batch, or of a message, says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberVerdict {
    /// It has not arrived before, or there is none.
    New,
    /// It has arrived before: its sender has sent again what was in flight when its connection broke.
    Repeat,
    /// The number cannot be of that sender: it is further ahead than any outage is long.
    Malformed,
}

/// Largest step between two numbers of a sender that is believed: no outage is that long.
pub const MAX_STEP: u64 = 1 << 32;

/// Most senders that are remembered. Beyond it the longest-silent one is forgotten.
const MAX_SENDERS: usize = 4096;

/// Recognises what arrives a second time, by the numbers of its sender.
///
/// All numbers of a sender that have arrived are remembered, and not only the highest one: a forged number makes a repeat
/// only of what has the very same number. Bounded in senders and in numbers.
#[derive(Debug)]
pub struct Deduplicator<S = ConnectionId> {
    senders: HashMap<S, Sender>,
    clock: u64,
}

/// What has arrived of a sender.
#[derive(Debug, Default)]
struct Sender {
    numbers: NumberSet,
    /// The last number that was too far ahead. One that follows it is believed: what was known came from another sender.
    ahead: Option<u64>,
    heard: u64,
}

impl<S> Default for Deduplicator<S> {
    fn default() -> Self {
        Self { senders: HashMap::new(), clock: 0 }
    }
}

impl<S: Clone + Eq + Hash> Deduplicator<S> {
    /// Judges what arrived by its number, and remembers it.
    pub fn arrived(&mut self, sender: S, number: Option<u64>) -> NumberVerdict {
        let Some(number) = number else { return NumberVerdict::New };
        self.clock += 1;
        if !self.senders.contains_key(&sender) {
            self.make_room();
        }
        let sender = self.senders.entry(sender).or_default();
        sender.heard = self.clock;
        sender.judged(number)
    }

    fn make_room(&mut self) {
        if self.senders.len() < MAX_SENDERS {
            return;
        }
        let oldest = self.senders.iter().min_by_key(|(_, sender)| sender.heard).map(|(sender, _)| sender.clone());
        if let Some(oldest) = oldest {
            self.senders.remove(&oldest);
        }
    }
}

impl Sender {
    fn judged(&mut self, number: u64) -> NumberVerdict {
        let before = self.numbers.last_up_to(number);
        if before.is_some_and(|before| number - before > MAX_STEP) && !self.follows_one_ahead(number) {
            return NumberVerdict::Malformed;
        }
        if self.numbers.insert(number) { NumberVerdict::New } else { NumberVerdict::Repeat }
    }

    fn follows_one_ahead(&mut self, number: u64) -> bool {
        let follows = self.ahead.is_some_and(|ahead| ahead < number && number - ahead <= MAX_STEP);
        self.ahead = (!follows).then_some(number);
        follows
    }
}

/// Numbers that have arrived, bounded.
#[derive(Debug, Default)]
pub struct NumberSet {
    /// First numbers of rows without a hole, with the last ones.
    rows: BTreeMap<u64, u64>,
}

/// Most rows of numbers that are remembered. Beyond it the lowest one is forgotten. A node that gets only some of the
/// batches has a row for nearly each; no sender has more than that unconfirmed.
const MAX_ROWS: usize = 2048;

impl NumberSet {
    /// Adds a number. Returns whether it was not there.
    pub fn insert(&mut self, number: u64) -> bool {
        let row = self.rows.range(..=number).next_back().map(|(&first, &last)| (first, last));
        let first = match row {
            Some((_, last)) if number <= last => return false,
            Some((first, last)) if last + 1 == number => first,
            _ => number,
        };
        let joined = number.checked_add(1).and_then(|next| self.rows.remove(&next));
        self.rows.insert(first, joined.unwrap_or(number));
        if self.rows.len() > MAX_ROWS {
            self.rows.pop_first();
        }
        true
    }

    /// Largest number that is there and not beyond this one.
    #[must_use]
    pub fn last_up_to(&self, number: u64) -> Option<u64> {
        self.rows.range(..=number).next_back().map(|(_, &last)| last.min(number))
    }

    /// Forgets the rows that end with this number or before.
    pub fn forget_up_to(&mut self, number: u64) {
        while self.rows.first_key_value().is_some_and(|(_, last)| *last <= number) {
            self.rows.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{NumberVerdict::*, *};

    #[test]
    fn a_batch_is_new_once() {
        let (a, b) = ("a", "b");
        let mut repeats = Deduplicator::default();
        let batches = [(a, Some(5)), (a, Some(6)), (b, Some(5)), (a, Some(6)), (a, Some(5)), (a, None), (a, Some(8))];
        let judged = batches.map(|(sender, number)| repeats.arrived(sender, number));
        assert_eq!(judged, [New, New, New, Repeat, Repeat, New, New]);
    }

    #[test]
    fn a_forged_number_makes_no_repeat_of_what_its_sender_sends() {
        let mut repeats = Deduplicator::default();
        let mut arrived = |number| repeats.arrived("a", Some(number));
        assert_eq!(arrived(100), New);
        for forged in [1, 2, 150, 1 << 32, 2 << 32] {
            assert_eq!(arrived(forged), New, "{forged}");
        }
        for forged in [u64::MAX, u64::MAX - 1, (3 << 32) + 1] {
            assert_eq!(arrived(forged), Malformed, "no outage is that long: {forged}");
        }
        for number in 101..150 {
            assert_eq!((arrived(number), arrived(number)), (New, Repeat), "{number}");
        }
        assert_eq!((arrived(150), arrived(151)), (Repeat, New), "which of two with one number is the right one?");
        assert_eq!([1, 2, 100, 1 << 32].map(arrived), [Repeat; 4]);
    }

    #[test]
    fn a_number_that_was_forged_before_its_sender_was_heard_changes_nothing() {
        let mut repeats = Deduplicator::default();
        let judged = [u64::MAX, 1, 2, 1, u64::MAX].map(|number| repeats.arrived(1, Some(number)));
        assert_eq!(judged, [New, New, New, Repeat, Repeat]);
    }

    #[test]
    fn a_sender_with_large_numbers_is_heard_although_a_small_one_was_forged_before() {
        let mut repeats = Deduplicator::default();
        let numbers = [1, 7 << 32, (7 << 32) + 1, (7 << 32) + 4, (7 << 32) + 1];
        let judged = numbers.map(|number| repeats.arrived(1, Some(number)));
        assert_eq!(judged, [New, Malformed, New, New, Repeat]);
    }

    #[test]
    fn what_is_sent_again_is_a_repeat_also_where_only_some_batches_arrive() {
        let mut repeats = Deduplicator::default();
        let numbers = || (0..10_000).map(|index| 1 + 3 * index);
        assert!(numbers().all(|number| repeats.arrived(1, Some(number)) == New));
        let last = numbers().skip(10_000 - MAX_ROWS);
        assert!(last.into_iter().all(|number| repeats.arrived(1, Some(number)) == Repeat));
        assert_eq!(repeats.senders[&1].numbers.rows.len(), MAX_ROWS);
    }

    #[test]
    fn remembered_senders_are_bounded() {
        let mut repeats = Deduplicator::default();
        for sender in 0..=MAX_SENDERS as u64 {
            repeats.arrived(sender, Some(1));
        }
        assert_eq!(repeats.senders.len(), MAX_SENDERS);
        assert_eq!(repeats.arrived(1, Some(1)), Repeat, "the longest-silent one, 0, was forgotten");
    }

    #[test]
    fn rows_are_joined_and_forgotten_whole() {
        let mut numbers = NumberSet::default();
        assert_eq!(
            [1, 3, 2, 2, 7, u64::MAX].map(|number| numbers.insert(number)),
            [true, true, true, false, true, true]
        );
        assert_eq!((numbers.rows.len(), numbers.last_up_to(2), numbers.last_up_to(9)), (3, Some(2), Some(7)));
        numbers.forget_up_to(2);
        assert!(!numbers.insert(1), "its row goes on");
        numbers.forget_up_to(3);
        assert!(numbers.insert(1) && !numbers.insert(7));
    }
}
