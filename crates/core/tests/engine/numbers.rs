//! Numbered messages: repeats, holes, room buckets.

use std::time::Duration;

use trunkline_core::{
    Message,
    model::{Delivery, Dropped, Overflow, SeqChannel, SeqNo},
};

use crate::rig::{HEARTBEATS, Rig, heartbeat, id};

#[test]
fn a_repeated_message_is_served_once() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(rig.hear_numbered("a", 1), ["serve a: a1"]);
    assert_eq!(rig.hear_numbered("a", 2), ["serve a: a2"]);
    assert!(rig.hear_numbered("a", 1).is_empty());
    assert!(rig.hear_numbered("a", 2).is_empty());
    assert_eq!(rig.metrics().repeats, 2);
}

#[test]
fn a_hole_is_reported_with_its_size_before_what_follows_it() {
    let mut rig = Rig::among(&["a"]);
    rig.hear_numbered("a", 1);
    assert_eq!(rig.hear_numbered("a", 5), ["gap Hole Some(3)", "serve a: a5"]);
    let metrics = rig.metrics();
    assert_eq!((metrics.gaps, metrics.missed), (1, 3));
}

#[test]
fn a_message_that_comes_after_it_was_reported_missing_is_dropped() {
    let mut rig = Rig::among(&["a"]);
    rig.hear_numbered("a", 1);
    rig.hear_numbered("a", 3);
    assert!(rig.hear_numbered("a", 2).is_empty());
    assert_eq!(rig.metrics().missed, 1);
}

#[test]
fn even_the_first_messages_of_a_newcomer_are_missed_if_they_get_lost() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(rig.hear_numbered("a", 3), ["gap Hole Some(2)", "serve a: a3"]);
}

#[test]
fn what_was_said_before_this_node_came_is_not_missed() {
    let mut rig = Rig::new(HEARTBEATS);
    assert_eq!(rig.hear_numbered("a", 40), ["up a", "serve a: a40"]);
    rig.hear("b", heartbeat(false, &[(0, 70)]));
    assert_eq!(rig.hear_numbered("b", 71), ["serve b: b71"]);
    assert!(rig.pass(Duration::from_secs(3)).is_empty());
}

#[test]
fn the_last_message_of_a_sender_is_missed_when_its_heartbeat_tells() {
    let mut rig = Rig::among(&["a"]);
    rig.hear_numbered("a", 1);
    rig.hear("a", heartbeat(false, &[(0, 3)]));
    assert!(rig.pass(Duration::from_millis(999)).is_empty(), "they may still come");
    assert_eq!(rig.pass(Duration::from_millis(1)), ["gap Hole Some(2)"]);
    assert!(rig.hear_numbered("a", 3).is_empty(), "too late");
}

#[test]
fn what_a_leaving_node_said_last_is_missed_too() {
    let mut rig = Rig::among(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 2)]));
    assert_eq!(rig.hear("a", Message::Leaving), ["down a Left"]);
    assert_eq!(rig.pass(Duration::from_secs(1)), ["gap Hole Some(2)"]);
}

#[test]
fn each_channel_counts_for_itself() {
    let mut rig = Rig::among(&["a"]);
    let bucket = SeqChannel(7);
    rig.deliver(Delivery::Subscribed(bucket));
    rig.hear_numbered("a", 1);
    assert_eq!(rig.hear_on(bucket, "a", 4), ["serve a: a4"], "who knows how many there were before");
    assert_eq!(rig.hear_on(bucket, "a", 6), ["gap Hole Some(1)", "serve a: a6"]);
    assert_eq!(rig.hear_numbered("a", 2), ["serve a: a2"]);
}

#[test]
fn a_channel_that_was_given_up_for_a_while_has_no_hole_but_still_repeats() {
    let mut rig = Rig::among(&["a"]);
    let bucket = SeqChannel(7);
    rig.deliver(Delivery::Subscribed(bucket));
    rig.hear_on(bucket, "a", 1);
    rig.deliver(Delivery::Unsubscribed(bucket));
    rig.hear("a", heartbeat(false, &[(7, 8)]));
    rig.deliver(Delivery::Subscribed(bucket));
    assert_eq!(rig.hear_on(bucket, "a", 9), ["serve a: a9"]);
    assert!(rig.hear_on(bucket, "a", 1).is_empty());
    assert!(rig.pass(Duration::from_secs(2)).is_empty());
}

#[test]
fn a_heartbeat_that_overtakes_messages_of_another_channel_does_not_make_them_repeats() {
    let mut rig = Rig::new(HEARTBEATS);
    let bucket = SeqChannel(7);
    rig.deliver(Delivery::Subscribed(bucket));
    rig.hear("a", heartbeat(true, &[(0, 0), (7, 2)]));
    assert_eq!(rig.hear_on(bucket, "a", 1), ["serve a: a1"]);
    assert_eq!(rig.hear_on(bucket, "a", 2), ["serve a: a2"]);
    assert!(rig.pass(Duration::from_secs(2)).is_empty());
}

#[test]
fn what_the_inbox_dropped_is_reported_once_and_no_hole() {
    let mut rig = Rig::among(&["a"]);
    rig.hear_numbered("a", 1);
    let overflow = |missed, number, count| {
        let last = SeqNo { channel: SeqChannel::ALL, number };
        Delivery::Overflow(Overflow { missed, dropped: vec![Dropped { from: id("a"), last, count, missed }] })
    };
    assert_eq!(rig.deliver(overflow(3, 4, 3)), ["gap Overflow Some(3)"]);
    assert_eq!(rig.hear_numbered("a", 5), ["serve a: a5"]);
    assert_eq!(rig.deliver(overflow(2, 9, 2)), ["gap Overflow Some(2)", "gap Hole Some(2)"]);
    assert!(rig.deliver(overflow(0, 10, 1)).is_empty(), "nobody wanted it");
    assert_eq!(rig.hear_numbered("a", 11), ["serve a: a11"]);
    assert_eq!(rig.metrics().missed, 7);
}

#[test]
fn an_own_message_that_comes_back_and_is_dropped_by_the_inbox_is_not_missed() {
    let mut rig = Rig::among(&[]);
    let last = SeqNo { channel: SeqChannel::ALL, number: 3 };
    let dropped = vec![Dropped { from: id("me"), last, count: 1, missed: 1 }];
    assert!(rig.deliver(Delivery::Overflow(Overflow { missed: 1, dropped })).is_empty());
    assert!(rig.members().is_empty());
}

#[test]
fn absurd_numbers_do_no_harm() {
    let mut rig = Rig::among(&["a", "b"]);
    assert!(rig.hear_numbered("a", 0).is_empty(), "numbers start at 1");
    rig.hear_numbered("a", u64::MAX);
    rig.hear("a", heartbeat(false, &[(0, u64::MAX), (0, 1), (u16::MAX, u64::MAX)]));
    rig.hear("b", heartbeat(false, &[(0, u64::MAX)]));
    rig.pass(Duration::from_secs(3));
    assert_eq!(rig.hear_numbered("b", u64::MAX), [""; 0]);
    rig.deliver(Delivery::Gap(trunkline_core::Gap { cause: trunkline_core::GapCause::Trimmed, missed: None }));
    rig.meet("c");
    rig.hear_numbered("c", u64::MAX);
    rig.pass(Duration::from_secs(3));
}
