//! Tests of the numbers of a sender.

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
    assert_eq!([6, 9, 9].map(|number| tracker.arrived(now + GRACE, &a(), seq_no(1, number))), [Fresh, Fresh, Repeat]);
}

#[test]
fn a_channel_of_which_heartbeats_tell_nothing_is_believed_in_the_end() {
    let (now, mut tracker) = (Instant::now(), SequenceTracker::new(GRACE));
    let mut arrived = |after, number| tracker.arrived(now + after, &a(), seq_no(1, number));
    assert_eq!(arrived(Duration::ZERO, 1 << 32), Fresh, "forged");
    assert_eq!((arrived(Duration::ZERO, 5), arrived(UNTOLD / 2, 6)), (Repeat, Repeat));
    assert_eq!((arrived(UNTOLD, 7), arrived(UNTOLD, 7), arrived(UNTOLD, 8)), (Verdict::Anew, Repeat, Fresh));
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
