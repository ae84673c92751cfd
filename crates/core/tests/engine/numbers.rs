//! Numbered messages: repeats, gaps, room buckets.

use std::time::Duration;

use trunkline_core::{
    Message,
    model::{Delivery, Dropped, Overflow, SeqChannel, SeqNo},
};

use crate::test_engine::{HEARTBEATS, TestEngine, heartbeat, id};

#[test]
fn a_repeated_message_is_served_once() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(engine.receive_numbered("a", 1), ["serve a: a1"]);
    assert_eq!(engine.receive_numbered("a", 2), ["serve a: a2"]);
    assert!(engine.receive_numbered("a", 1).is_empty());
    assert!(engine.receive_numbered("a", 2).is_empty());
    assert_eq!(engine.metrics().repeats, 2);
}

#[test]
fn a_gap_is_reported_with_its_size_before_the_message_behind_it() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    assert_eq!(engine.receive_numbered("a", 5), ["gap Hole Some(3)", "serve a: a5"]);
    let metrics = engine.metrics();
    assert_eq!((metrics.gaps, metrics.missed), (1, 3));
}

#[test]
fn a_message_that_comes_after_it_was_reported_missing_is_dropped() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    engine.receive_numbered("a", 3);
    assert!(engine.receive_numbered("a", 2).is_empty());
    assert_eq!(engine.metrics().missed, 1);
}

#[test]
fn the_first_messages_of_a_new_node_are_missed_if_they_are_lost() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(engine.receive_numbered("a", 3), ["gap Hole Some(2)", "serve a: a3"]);
}

#[test]
fn messages_sent_before_this_node_joined_are_not_missed() {
    let mut engine = TestEngine::new(HEARTBEATS);
    assert_eq!(engine.receive_numbered("a", 40), ["up a", "serve a: a40"]);
    engine.receive("b", heartbeat(false, &[(0, 70)]));
    assert_eq!(engine.receive_numbered("b", 71), ["serve b: b71"]);
    assert!(engine.advance(Duration::from_secs(3)).is_empty());
}

#[test]
fn a_lost_last_message_is_noticed_at_the_heartbeat_of_its_sender() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    engine.receive("a", heartbeat(false, &[(0, 3)]));
    assert!(engine.advance(Duration::from_millis(999)).is_empty(), "they may still come");
    assert_eq!(engine.advance(Duration::from_millis(1)), ["gap Hole Some(2)"]);
    assert!(engine.receive_numbered("a", 3).is_empty(), "too late");
}

#[test]
fn lost_last_messages_of_a_leaving_node_are_missed() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 2)]));
    assert_eq!(engine.receive("a", Message::Leaving), ["down a Left"]);
    assert_eq!(engine.advance(Duration::from_secs(1)), ["gap Hole Some(2)"]);
}

#[test]
fn each_channel_is_numbered_separately() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let bucket = SeqChannel(7);
    engine.deliver(Delivery::Subscribed(bucket));
    engine.receive_numbered("a", 1);
    assert_eq!(engine.receive_on(bucket, "a", 4), ["serve a: a4"], "who knows how many there were before");
    assert_eq!(engine.receive_on(bucket, "a", 6), ["gap Hole Some(1)", "serve a: a6"]);
    assert_eq!(engine.receive_numbered("a", 2), ["serve a: a2"]);
}

#[test]
fn a_channel_that_was_unsubscribed_for_a_while_has_no_gap_but_still_drops_repeats() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let bucket = SeqChannel(7);
    engine.deliver(Delivery::Subscribed(bucket));
    engine.receive_on(bucket, "a", 1);
    engine.deliver(Delivery::Unsubscribed(bucket));
    engine.receive("a", heartbeat(false, &[(7, 8)]));
    engine.deliver(Delivery::Subscribed(bucket));
    assert_eq!(engine.receive_on(bucket, "a", 9), ["serve a: a9"]);
    assert!(engine.receive_on(bucket, "a", 1).is_empty());
    assert!(engine.advance(Duration::from_secs(2)).is_empty());
}

#[test]
fn a_heartbeat_that_overtakes_messages_of_another_channel_does_not_make_them_repeats() {
    let mut engine = TestEngine::new(HEARTBEATS);
    let bucket = SeqChannel(7);
    engine.deliver(Delivery::Subscribed(bucket));
    engine.receive("a", heartbeat(true, &[(0, 0), (7, 2)]));
    assert_eq!(engine.receive_on(bucket, "a", 1), ["serve a: a1"]);
    assert_eq!(engine.receive_on(bucket, "a", 2), ["serve a: a2"]);
    assert!(engine.advance(Duration::from_secs(2)).is_empty());
}

#[test]
fn messages_dropped_by_the_inbox_are_reported_once_as_overflow() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    let overflow = |missed, number, count| {
        let last = SeqNo { channel: SeqChannel::ALL, number };
        Delivery::Overflow(Overflow { missed, dropped: vec![Dropped { from: id("a"), last, count, missed }] })
    };
    assert_eq!(engine.deliver(overflow(3, 4, 3)), ["gap Overflow Some(3)"]);
    assert_eq!(engine.receive_numbered("a", 5), ["serve a: a5"]);
    assert_eq!(engine.deliver(overflow(2, 9, 2)), ["gap Overflow Some(2)", "gap Hole Some(2)"]);
    assert!(engine.deliver(overflow(0, 10, 1)).is_empty(), "it had no matching sockets");
    assert_eq!(engine.receive_numbered("a", 11), ["serve a: a11"]);
    assert_eq!(engine.metrics().missed, 7);
}

#[test]
fn an_own_message_that_comes_back_and_is_dropped_by_the_inbox_is_not_missed() {
    let mut engine = TestEngine::with_peers(&[]);
    let last = SeqNo { channel: SeqChannel::ALL, number: 3 };
    let dropped = vec![Dropped { from: id("me"), last, count: 1, missed: 1 }];
    assert!(engine.deliver(Delivery::Overflow(Overflow { missed: 1, dropped })).is_empty());
    assert!(engine.members().is_empty());
}

#[test]
fn absurd_sequence_numbers_are_tolerated() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    assert!(engine.receive_numbered("a", 0).is_empty(), "numbers start at 1");
    engine.receive_numbered("a", u64::MAX);
    engine.receive("a", heartbeat(false, &[(0, u64::MAX), (0, 1), (u16::MAX, u64::MAX)]));
    engine.receive("b", heartbeat(false, &[(0, u64::MAX)]));
    engine.advance(Duration::from_secs(3));
    assert_eq!(engine.receive_numbered("b", u64::MAX), [""; 0]);
    engine.deliver(Delivery::Gap(trunkline_core::Gap { cause: trunkline_core::GapCause::Trimmed, missed: None }));
    engine.first_heartbeat("c");
    engine.receive_numbered("c", u64::MAX);
    engine.advance(Duration::from_secs(3));
}
