//! Gaps that the transport reports, and how their size becomes known.

use std::time::Duration;

use trunkline_core::{Gap, GapCause, Message, model::Delivery};

use crate::{
    presence::without_heartbeats,
    test_engine::{BROKER_COUNT, HEARTBEATS, TestEngine, broadcast, heartbeat},
};

const SECOND: Duration = Duration::from_secs(1);

fn connection_lost() -> Delivery {
    Delivery::Gap(Gap { cause: GapCause::ConnectionLost, missed: None })
}

/// A node whose connection has just been restored, with these peers, of which each has numbered up to 5.
fn reconnected(names: &[&str]) -> TestEngine {
    let mut engine = TestEngine::with_peers(names);
    for name in names {
        (1..=5).for_each(|number| drop(engine.receive_numbered(name, number)));
    }
    engine.deliver(Delivery::Lost("cut".into()));
    engine.advance(SECOND);
    engine.deliver(Delivery::Connected);
    assert_eq!(engine.deliver(connection_lost()), ["publish hello"]);
    engine
}

#[test]
fn a_gap_of_known_size_is_reported() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let trimmed = Gap { cause: GapCause::Trimmed, missed: Some(7) };
    assert_eq!(engine.deliver(Delivery::Gap(trimmed)), ["gap Trimmed Some(7)"]);
    assert_eq!(engine.metrics().missed, 7);
}

#[test]
fn a_trimmed_history_of_which_nothing_is_missing_is_no_gap() {
    let trimmed = || Delivery::Gap(Gap { cause: GapCause::Trimmed, missed: None });
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    for (last, gaps) in [(1, vec![]), (3, vec!["gap Trimmed Some(2)"])] {
        engine.deliver(trimmed());
        engine.receive("a", heartbeat(false, &[(0, last)]));
        assert_eq!(without_heartbeats(engine.advance(SECOND * 2)), gaps);
    }
}

#[test]
fn without_numbers_the_size_of_a_gap_is_unknown() {
    let mut engine = TestEngine::new(HEARTBEATS.with_numbered(false));
    assert_eq!(engine.deliver(connection_lost()), ["gap ConnectionLost None"]);
}

#[test]
fn the_high_water_marks_of_all_peers_make_the_size_known() {
    let mut engine = reconnected(&["a", "b"]);
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    engine.receive("b", heartbeat(false, &[(0, 8)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(3)"]);
    let metrics = engine.metrics();
    assert_eq!((metrics.gaps, metrics.missed), (1, 3));
}

#[test]
fn a_gap_without_missed_messages_is_reported_with_size_zero() {
    let mut engine = reconnected(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(0)"]);
}

#[test]
fn messages_after_the_gap_show_part_of_its_size() {
    let mut engine = reconnected(&["a"]);
    assert_eq!(engine.receive_numbered("a", 8), ["serve a: a8"], "the hole belongs to the gap");
    engine.receive("a", heartbeat(false, &[(0, 8)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(2)"]);
}

#[test]
fn a_peer_that_does_not_send_its_high_water_marks_leaves_the_size_unknown() {
    let mut engine = reconnected(&["a", "b"]);
    engine.receive("a", heartbeat(false, &[(0, 8)]));
    engine.receive("b", broadcast("no marks"));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost None"]);
    assert_eq!(engine.metrics().missed, 3, "that many at least");
}

#[test]
fn a_peer_that_sends_its_high_water_marks_too_late_leaves_the_size_unknown() {
    let mut engine = reconnected(&["a"]);
    engine.advance(Duration::from_millis(1500));
    engine.receive("a", heartbeat(false, &[(0, 8)]));
    assert_eq!(engine.advance(Duration::from_millis(500)), ["gap ConnectionLost None"]);
    assert_eq!(engine.advance(SECOND), ["gap Hole Some(3)"]);
}

#[test]
fn a_foreign_peer_among_those_with_heartbeats_leaves_the_size_unknown() {
    let mut engine = reconnected(&["a"]);
    engine.receive("node-js", heartbeat(false, &[]));
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost None"]);
}

#[test]
fn a_foreign_peer_among_those_that_the_broker_counts_leaves_the_size_unknown() {
    for (foreign, size) in [(0, "Some(0)"), (1, "None")] {
        let mut engine = TestEngine::new(BROKER_COUNT);
        engine.first_heartbeat("a");
        assert_eq!(engine.deliver(connection_lost()), ["publish hello", "count"]);
        engine.receive("a", heartbeat(false, &[(0, 0)]));
        engine.count(&["a"], foreign);
        let mut outputs = engine.advance(SECOND * 2);
        outputs.retain(|output| output != "count");
        assert_eq!(outputs, [format!("gap ConnectionLost {size}")]);
    }
}

#[test]
fn a_peer_that_left_meanwhile_leaves_the_size_unknown() {
    let mut engine = reconnected(&["a", "b"]);
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    engine.receive("b", Message::Leaving);
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost None"]);
}

#[test]
fn a_peer_that_leaves_after_sending_its_last_high_water_marks_does_not() {
    let mut engine = reconnected(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 6)]));
    engine.receive("a", Message::Leaving);
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(1)"]);
}

#[test]
fn a_node_that_joined_and_published_during_the_gap_leaves_the_size_unknown() {
    let mut engine = reconnected(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    engine.receive("new", heartbeat(false, &[(0, 2)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost None"]);

    let mut engine = reconnected(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    engine.receive_numbered("new", 3);
    engine.receive("new", heartbeat(false, &[(0, 3)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost None"]);
}

#[test]
fn a_node_that_has_just_joined_does_not() {
    let mut engine = reconnected(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 5)]));
    engine.first_heartbeat("new");
    engine.receive_numbered("new", 1);
    assert_eq!(without_heartbeats(engine.advance(SECOND * 2)), ["gap ConnectionLost Some(0)"]);
}

#[test]
fn a_second_gap_is_merged_with_the_first() {
    let mut engine = reconnected(&["a"]);
    engine.receive("a", heartbeat(false, &[(0, 7)]));
    engine.advance(Duration::from_millis(1500));
    assert_eq!(engine.deliver(connection_lost()), ["publish hello"], "marks received before do not count");
    assert!(engine.advance(Duration::from_millis(900)).is_empty());
    engine.receive("a", heartbeat(false, &[(0, 9)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(4)"]);
}

#[test]
fn after_a_long_disconnection_the_size_is_still_known() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    engine.deliver(Delivery::Lost("cut".into()));
    engine.advance(SECOND * 300);
    engine.deliver(Delivery::Connected);
    engine.deliver(connection_lost());
    engine.receive("a", heartbeat(false, &[(0, 100)]));
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(99)"]);
}

#[test]
fn a_node_alone_has_missed_nothing() {
    let mut engine = TestEngine::new(HEARTBEATS);
    engine.deliver(connection_lost());
    assert_eq!(engine.advance(SECOND * 2), ["gap ConnectionLost Some(0)"]);
}
