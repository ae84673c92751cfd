//! Gaps that the transport reports, and how their size becomes known.

use std::time::Duration;

use trunkline_core::{Capabilities, Gap, GapCause, Message, model::Delivery};

use crate::{
    presence::without_heartbeats,
    rig::{CENSUS, HEARTBEATS, Rig, broadcast, heartbeat},
};

const SECOND: Duration = Duration::from_secs(1);

fn cut() -> Delivery {
    Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None })
}

/// A node whose connection has just come back, among these nodes, of which each has numbered up to 5.
fn returned(names: &[&str]) -> Rig {
    let mut rig = Rig::among(names);
    for name in names {
        (1..=5).for_each(|number| drop(rig.hear_numbered(name, number)));
    }
    rig.deliver(Delivery::Lost("cut".into()));
    rig.pass(SECOND);
    rig.deliver(Delivery::Connected);
    assert_eq!(rig.deliver(cut()), ["publish hello"]);
    rig
}

#[test]
fn a_gap_of_known_size_is_handed_on() {
    let mut rig = Rig::among(&["a"]);
    let trimmed = Gap { cause: GapCause::Trimmed, missed: Some(7) };
    assert_eq!(rig.deliver(Delivery::Gap(trimmed)), ["gap Trimmed Some(7)"]);
    assert_eq!(rig.metrics().missed, 7);
}

#[test]
fn where_nobody_numbers_the_size_of_a_gap_is_unknown() {
    let mut rig = Rig::new(Capabilities { numbered: false, ..HEARTBEATS });
    assert_eq!(rig.deliver(cut()), ["gap ConnectionLost None"]);
}

#[test]
fn the_counters_of_all_peers_make_the_size_known() {
    let mut rig = returned(&["a", "b"]);
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    rig.hear("b", heartbeat(false, &[(0, 8)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(3)"]);
    let metrics = rig.metrics();
    assert_eq!((metrics.gaps, metrics.missed), (1, 3));
}

#[test]
fn a_gap_in_which_nothing_was_said_is_reported_with_size_zero() {
    let mut rig = returned(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(0)"]);
}

#[test]
fn messages_after_the_gap_tell_part_of_its_size() {
    let mut rig = returned(&["a"]);
    assert_eq!(rig.hear_numbered("a", 8), ["serve a: a8"], "the hole belongs to the gap");
    rig.hear("a", heartbeat(false, &[(0, 8)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(2)"]);
}

#[test]
fn a_peer_that_does_not_tell_its_counters_leaves_the_size_unknown() {
    let mut rig = returned(&["a", "b"]);
    rig.hear("a", heartbeat(false, &[(0, 8)]));
    rig.hear("b", broadcast("no counters"));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost None"]);
    assert_eq!(rig.metrics().missed, 3, "that many at least");
}

#[test]
fn a_peer_that_tells_too_late_leaves_the_size_unknown() {
    let mut rig = returned(&["a"]);
    rig.pass(Duration::from_millis(1500));
    rig.hear("a", heartbeat(false, &[(0, 8)]));
    assert_eq!(rig.pass(Duration::from_millis(500)), ["gap ConnectionLost None"]);
    assert_eq!(rig.pass(SECOND), ["gap Hole Some(3)"]);
}

#[test]
fn a_foreign_peer_among_those_with_heartbeats_leaves_the_size_unknown() {
    let mut rig = returned(&["a"]);
    rig.hear("node-js", heartbeat(false, &[]));
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost None"]);
}

#[test]
fn a_foreign_peer_among_those_that_the_broker_counts_leaves_the_size_unknown() {
    for (foreign, size) in [(0, "Some(0)"), (1, "None")] {
        let mut rig = Rig::new(CENSUS);
        rig.meet("a");
        assert_eq!(rig.deliver(cut()), ["publish hello", "count"]);
        rig.hear("a", heartbeat(false, &[(0, 0)]));
        rig.count(&["a"], foreign);
        let mut outputs = rig.pass(SECOND * 2);
        outputs.retain(|output| output != "count");
        assert_eq!(outputs, [format!("gap ConnectionLost {size}")]);
    }
}

#[test]
fn a_peer_that_died_meanwhile_leaves_the_size_unknown() {
    let mut rig = returned(&["a", "b"]);
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    rig.hear("b", Message::Leaving);
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost None"]);
}

#[test]
fn a_peer_that_leaves_with_its_last_counters_does_not() {
    let mut rig = returned(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 6)]));
    rig.hear("a", Message::Leaving);
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(1)"]);
}

#[test]
fn a_node_that_came_and_spoke_during_the_gap_leaves_the_size_unknown() {
    let mut rig = returned(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    rig.hear("new", heartbeat(false, &[(0, 2)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost None"]);

    let mut rig = returned(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    rig.hear_numbered("new", 3);
    rig.hear("new", heartbeat(false, &[(0, 3)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost None"]);
}

#[test]
fn a_node_that_has_just_come_does_not() {
    let mut rig = returned(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 5)]));
    rig.meet("new");
    rig.hear_numbered("new", 1);
    assert_eq!(without_heartbeats(rig.pass(SECOND * 2)), ["gap ConnectionLost Some(0)"]);
}

#[test]
fn a_second_gap_makes_one_with_the_first() {
    let mut rig = returned(&["a"]);
    rig.hear("a", heartbeat(false, &[(0, 7)]));
    rig.pass(Duration::from_millis(1500));
    assert_eq!(rig.deliver(cut()), ["publish hello"], "what was told before does not count");
    assert!(rig.pass(Duration::from_millis(900)).is_empty());
    rig.hear("a", heartbeat(false, &[(0, 9)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(4)"]);
}

#[test]
fn after_a_long_absence_the_size_is_still_found_out() {
    let mut rig = Rig::among(&["a"]);
    rig.hear_numbered("a", 1);
    rig.deliver(Delivery::Lost("cut".into()));
    rig.pass(SECOND * 300);
    rig.deliver(Delivery::Connected);
    rig.deliver(cut());
    rig.hear("a", heartbeat(false, &[(0, 100)]));
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(99)"]);
}

#[test]
fn alone_nothing_was_missed() {
    let mut rig = Rig::new(HEARTBEATS);
    rig.deliver(cut());
    assert_eq!(rig.pass(SECOND * 2), ["gap ConnectionLost Some(0)"]);
}
