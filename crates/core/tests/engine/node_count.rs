//! Completion where the broker counts the nodes, because official peers send no heartbeats.

use std::time::Duration;

use trunkline_core::{
    Message,
    engine::{Gather, Input},
    model::{Answer, Delivery},
};

use crate::{
    presence::without_heartbeats,
    test_engine::{BROKER_COUNT, TIMEOUT, TestEngine, broadcast, heartbeat, sockets, value},
};

/// A node that knows these peers by id.
fn with_peers(names: &[&str]) -> TestEngine {
    let mut engine = TestEngine::new(BROKER_COUNT);
    names.iter().for_each(|name| drop(engine.first_heartbeat(name)));
    engine.advance(Duration::from_secs(1));
    engine
}

#[test]
fn no_request_completes_before_the_broker_has_counted() {
    let mut engine = with_peers(&["a"]);
    assert_eq!(engine.send_request("r", Gather::Sockets), ["publish fetch r", "count"]);
    assert!(engine.answer("a", "r", sockets(&["a1"])).is_empty());
    assert_eq!(engine.count(&["a"], 0), ["r: [a1]"]);
}

#[test]
fn the_broker_counts_again_while_a_request_waits() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Sockets);
    assert_eq!(engine.advance(Duration::from_millis(500)), ["count"]);
    assert!(engine.handle(Input::NodeCount(None)).is_empty(), "it could not");
    assert_eq!(engine.advance(Duration::from_millis(500)), ["count"]);
    engine.answer("a", "r", sockets(&[]));
    assert_eq!(engine.count(&["a"], 0), ["r: []"]);
    assert!(without_heartbeats(engine.advance(Duration::from_secs(5))).is_empty());
}

#[test]
fn a_broker_that_never_counts_costs_the_timeout() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Sockets);
    engine.answer("a", "r", sockets(&["a1"]));
    let outputs = engine.advance(TIMEOUT);
    assert!(
        outputs.contains(&"r: timed out: the broker did not tell how many nodes there are; [a1]".to_owned()),
        "{outputs:?}"
    );
}

#[test]
fn foreign_peers_are_waited_for_by_their_number() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 2);
    engine.answer("a", "r", value("a"));
    assert!(engine.anonymous_answer("r", value("x")).is_empty());
    assert_eq!(engine.anonymous_answer("r", value("y")), ["r: [a x y]"]);
}

#[test]
fn answers_of_foreign_peers_may_carry_their_id() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 1);
    assert!(engine.answer("node-js", "r", value("x")).is_empty());
    assert!(engine.answer("node-js", "r", value("x")).is_empty(), "a repeat");
    assert_eq!(engine.answer("a", "r", value("a")), ["r: [x a]"]);
}

#[test]
fn a_foreign_peer_that_does_not_answer_is_missing_without_an_id() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 1);
    engine.answer("a", "r", value("a"));
    let outputs = engine.advance(TIMEOUT);
    assert!(outputs.contains(&"r: timed out: 1 of 2 nodes did not answer; [a]".to_owned()), "{outputs:?}");
    assert_eq!(engine.metrics().requests_partial, 1);
}

#[test]
fn a_foreign_peer_that_is_gone_is_not_waited_for() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 1);
    engine.answer("a", "r", value("a"));
    assert_eq!(engine.count(&["a"], 0), ["r: [a]"]);
}

#[test]
fn foreign_peers_never_become_known_by_id_because_their_leave_would_go_unnoticed() {
    let mut engine = with_peers(&[]);
    assert_eq!(engine.receive("node-js", broadcast("news")), ["serve node-js: news"]);
    engine.answer("node-js", "r", value("x"));
    assert!(engine.members().is_empty());
    engine.count(&[], 1);
    assert_eq!(engine.inner.peer_count(), 1);
}

#[test]
fn a_node_known_by_id_is_alive_while_it_sends_anything() {
    let mut engine = with_peers(&["a"]);
    engine.advance(Duration::from_secs(8));
    assert_eq!(engine.receive("a", broadcast("news")), ["serve a: news"]);
    engine.advance(Duration::from_secs(8));
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn a_numbered_message_shows_that_its_sender_is_no_foreign_peer() {
    let mut engine = with_peers(&[]);
    assert_eq!(engine.receive_numbered("a", 1), ["up a", "count", "serve a: a1"]);
}

#[test]
fn a_killed_node_that_the_broker_no_longer_sees_is_gone_after_two_more_counts() {
    let mut engine = with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Values);
    engine.answer("a", "r", value("a"));
    for _ in 0..2 {
        assert!(engine.count(&["a"], 1).is_empty(), "it may only have lost its connection");
        assert_eq!(engine.advance(Duration::from_millis(500)), ["count"]);
    }
    assert_eq!(engine.count(&["a"], 1), ["down b Disconnected"]);
    let says_so = "timed out: 1 of 3 nodes did not answer, among them b: the broker does not see them";
    let finished = engine.anonymous_answer("r", value("x"));
    assert_eq!(finished, [format!("r: {says_so}; [a x]")], "it hides no foreign one");
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn a_node_that_the_broker_does_not_see_is_missing_until_it_counts_as_silent() {
    let mut engine = with_peers(&["a", "b"]);
    assert!(engine.count(&["a"], 0).is_empty());
    engine.advance(Duration::from_secs(1));
    assert_eq!(engine.count(&["a"], 0), ["down b Disconnected"]);
    let ask = |engine: &mut TestEngine, id| {
        engine.receive("a", heartbeat(false, &[]));
        engine.send_request(id, Gather::Values);
        assert!(engine.count(&["a"], 0).is_empty(), "a is waited for");
        engine.answer("a", id, value("a"))
    };
    let missing = "timed out: 1 of 2 nodes did not answer, among them b: the broker does not see them; [a]";
    assert_eq!(ask(&mut engine, "r"), [format!("r: {missing}")], "it may be cut off");
    engine.advance(Duration::from_secs(7));
    assert_eq!(ask(&mut engine, "s"), [format!("s: {missing}")]);
    engine.advance(Duration::from_secs(1));
    assert_eq!(ask(&mut engine, "t"), ["t: [a]"], "silent for so long, it is dead");
}

#[test]
fn a_node_that_leaves_late_is_not_missing() {
    let mut engine = with_peers(&["a"]);
    assert!(engine.count(&[], 0).is_empty());
    engine.advance(Duration::from_secs(1));
    assert_eq!(engine.count(&[], 0), ["down a Disconnected"]);
    engine.receive("a", Message::Leaving);
    engine.send_request("r", Gather::Values);
    assert_eq!(engine.count(&[], 0), ["r: []"]);
}

#[test]
fn clients_of_a_node_that_the_broker_does_not_see_are_missing() {
    let mut engine = with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", Answer::ClientCount(0));
    for (node, count) in [("a", 0), ("b", 1)] {
        engine.answer(node, "r", Answer::ClientCount(count));
    }
    assert!(engine.count(&["a"], 0).is_empty());
    engine.advance(Duration::from_secs(1));
    let says_so = "timed out: 1 of 2 nodes did not answer, among them b: the broker does not see them";
    assert_eq!(engine.count(&["a"], 0), ["down b Disconnected".to_owned(), format!("r: {says_so}; 0 of 0")]);
}

#[test]
fn a_node_that_sent_after_the_count_began_is_not_gone() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    let asked = engine.inner.begin_count(engine.now);
    engine.advance(Duration::from_millis(1));
    engine.receive("a", heartbeat(false, &[]));
    let node_count = trunkline_core::transport::NodeCount::new(1, 0, asked);
    assert!(engine.handle(Input::NodeCount(Some(node_count))).is_empty());
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn a_node_that_the_broker_did_not_see_for_a_moment_is_back_with_its_next_message() {
    let mut engine = with_peers(&["a"]);
    assert!(engine.count(&[], 0).is_empty());
    engine.advance(Duration::from_secs(1));
    assert_eq!(engine.count(&[], 0), ["down a Disconnected"]);
    assert_eq!(engine.receive("a", heartbeat(false, &[])), ["up a", "count"]);
}

#[test]
fn a_node_that_loses_its_connection_for_a_moment_is_waited_for() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    assert!(engine.count(&[], 0).is_empty());
    engine.advance(Duration::from_millis(500));
    assert!(engine.count(&["a"], 0).is_empty());
    assert_eq!(engine.answer("a", "r", value("a")), ["r: [a]"]);
}

#[test]
fn a_node_that_was_away_itself_waits_for_those_that_come_back_later() {
    let mut engine = with_peers(&["a"]);
    engine.deliver(Delivery::Lost("the broker was killed".into()));
    engine.send_request("r", Gather::Values);
    for _ in 0..4 {
        assert!(engine.count(&[], 0).is_empty(), "this node cannot be heard, either");
        engine.advance(Duration::from_secs(1));
    }
    engine.deliver(Delivery::Connected);
    for _ in 0..4 {
        assert!(engine.count(&[], 0).is_empty(), "it is still on its way");
        engine.advance(Duration::from_millis(200));
    }
    engine.receive("a", heartbeat(false, &[]));
    assert!(engine.count(&["a"], 0).is_empty());
    assert_eq!(engine.answer("a", "r", value("a")), ["r: [a]"]);
}

#[test]
fn a_hanging_node_that_the_broker_still_sees_is_no_foreign_one() {
    let mut engine = with_peers(&["hanging"]);
    let outputs = engine.advance(Duration::from_secs(11));
    assert!(outputs.contains(&"down hanging Silent".to_owned()));
    engine.send_request("r", Gather::Values);
    assert_eq!(engine.count(&["hanging"], 0), ["r: []"], "it would not answer");
    engine.send_request("s", Gather::Values);
    assert!(engine.count(&["hanging"], 1).is_empty());
    assert_eq!(engine.anonymous_answer("s", value("x")), ["s: [x]"]);
}

#[test]
fn a_hanging_node_that_recovers_is_waited_for_again() {
    let mut engine = with_peers(&["hanging"]);
    engine.advance(Duration::from_secs(11));
    engine.receive("hanging", heartbeat(false, &[]));
    engine.send_request("r", Gather::Values);
    assert!(engine.count(&["hanging"], 0).is_empty());
    assert_eq!(engine.answer("hanging", "r", value("back")), ["r: [back]"]);
}

#[test]
fn a_node_that_left_but_is_still_subscribed_is_no_foreign_one() {
    let mut engine = with_peers(&["a"]);
    assert_eq!(engine.receive("a", Message::Leaving), ["down a Left", "count"]);
    engine.send_request("r", Gather::Values);
    assert_eq!(engine.count(&["a"], 0), ["r: []"]);
}

#[test]
fn nodes_that_join_and_leave_between_two_counts_hide_no_foreign_one() {
    let mut engine = with_peers(&["a"]);
    engine.count(&["a"], 1);
    engine.receive("a", Message::Leaving);
    engine.first_heartbeat("b");
    engine.send_request("r", Gather::Values);
    engine.count(&["b"], 1);
    assert!(engine.answer("b", "r", value("b")).is_empty());
    assert_eq!(engine.anonymous_answer("r", value("x")), ["r: [b x]"]);
}

#[test]
fn a_new_node_that_is_counted_before_it_is_known_costs_no_timeout() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 1);
    engine.answer("a", "r", value("a"));
    assert_eq!(engine.receive("new", heartbeat(true, &[(0, 0)])), ["up new", "count", "publish heartbeat"]);
    assert_eq!(engine.count(&["a", "new"], 0), ["r: [a]"]);
}

#[test]
fn the_answer_of_a_new_node_does_not_count_for_a_foreign_one() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 2);
    engine.answer("a", "r", value("a"));
    assert!(engine.answer("new", "r", value("new")).is_empty(), "one of the two that are not known");
    engine.first_heartbeat("new");
    engine.count(&["a", "new"], 1);
    assert_eq!(engine.anonymous_answer("r", value("x")), ["r: [a new x]"]);
}

#[test]
fn a_foreign_peer_that_joins_later_was_not_asked() {
    let mut engine = with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.count(&["a"], 0);
    engine.count(&["a"], 1);
    assert_eq!(engine.answer("a", "r", value("a")), ["r: [a]"]);
}

#[test]
fn a_count_that_began_before_the_request_does_not_apply_to_it() {
    let mut engine = with_peers(&["a"]);
    let before = engine.inner.begin_count(engine.now).len();
    engine.send_request("r", Gather::Values);
    engine.answer("a", "r", value("a"));
    let node_count = trunkline_core::transport::NodeCount::new(2, before, vec![]);
    assert!(engine.handle(Input::NodeCount(Some(node_count))).is_empty());
    assert!(engine.count(&["a"], 1).is_empty());
    assert_eq!(engine.anonymous_answer("r", value("x")), ["r: [a x]"]);
}

#[test]
fn the_answer_of_a_node_that_left_does_not_count_for_a_foreign_one() {
    let mut engine = with_peers(&[]);
    engine.send_request("r", Gather::Values);
    engine.count(&[], 2);
    engine.answer("new", "r", value("new"));
    engine.first_heartbeat("new");
    engine.receive("new", Message::Leaving);
    assert!(engine.count(&[], 1).is_empty());
    assert_eq!(engine.anonymous_answer("r", value("x")), ["r: [new x]"]);
}

#[test]
fn a_first_heartbeat_beside_foreign_peers_is_that_of_a_new_node() {
    let mut engine = with_peers(&[]);
    engine.count(&[], 1);
    engine.send_request("r", Gather::Values);
    engine.first_heartbeat("new");
    engine.count(&["new"], 1);
    assert_eq!(engine.anonymous_answer("r", value("x")), ["r: [x]"]);
}

#[test]
fn a_new_node_that_answers_unexpectedly_does_not_count_for_a_foreign_one() {
    let mut engine = with_peers(&[]);
    engine.count(&[], 1);
    engine.send_request("r", Gather::Values);
    engine.first_heartbeat("new");
    engine.count(&["new"], 1);
    assert!(engine.answer("new", "r", value("new")).is_empty());
    assert_eq!(engine.anonymous_answer("r", value("x")), ["r: [new x]"]);
}

#[test]
fn a_node_that_was_down_and_returns_is_not_waited_for_but_missing() {
    let mut engine = with_peers(&["a"]);
    assert!(engine.count(&[], 0).is_empty());
    engine.advance(Duration::from_secs(1));
    assert_eq!(engine.count(&[], 0), ["down a Disconnected"]);
    engine.send_request("r", Gather::Values);
    engine.receive("a", heartbeat(true, &[(0, 3)]));
    let says_so = "timed out: 1 of 1 nodes did not answer, among them a: the broker does not see them";
    assert_eq!(engine.count(&["a"], 0), [format!("r: {says_so}; []")]);
}

#[test]
fn a_node_that_was_counted_before_its_first_heartbeat_is_waited_for() {
    let mut engine = with_peers(&[]);
    engine.count(&[], 1);
    assert_eq!(engine.send_request("r", Gather::Sockets), ["publish fetch r", "count"]);
    engine.first_heartbeat("a");
    assert!(engine.count(&["a"], 0).is_empty(), "it has not answered yet");
    assert_eq!(engine.answer("a", "r", sockets(&["a1"])), ["r: [a1]"]);
}

#[test]
fn a_node_that_is_present_all_the_time_is_waited_for_when_it_becomes_known() {
    let mut engine = with_peers(&[]);
    engine.send_request("r", Gather::Sockets);
    engine.receive("a", heartbeat(false, &[(0, 7)]));
    assert!(engine.count(&["a"], 0).is_empty(), "it has not answered yet");
    assert_eq!(engine.answer("a", "r", sockets(&["a1"])), ["r: [a1]"]);
}

#[test]
fn a_node_that_joins_later_is_not_waited_for() {
    let mut engine = with_peers(&[]);
    engine.send_request("r", Gather::Sockets);
    engine.first_heartbeat("a");
    assert_eq!(engine.count(&["a"], 0), ["r: []"]);
    let mut engine = with_peers(&[]);
    engine.count(&[], 1);
    engine.send_request("r", Gather::Sockets);
    engine.anonymous_answer("r", sockets(&["x"]));
    engine.advance(Duration::from_secs(2));
    engine.first_heartbeat("a");
    assert_eq!(engine.count(&["a"], 1), ["r: [x]"]);
}
