//! Completion where the broker counts the nodes, because official peers send no heartbeats.

use std::time::Duration;

use trunkline_core::{
    Message,
    engine::{Gather, Input},
};

use crate::{
    presence::without_heartbeats,
    rig::{CENSUS, Rig, TIMEOUT, broadcast, heartbeat, sockets, value},
};

/// A node that knows these others by name.
fn among(names: &[&str]) -> Rig {
    let mut rig = Rig::new(CENSUS);
    names.iter().for_each(|name| drop(rig.meet(name)));
    rig.pass(Duration::from_secs(1));
    rig
}

#[test]
fn nothing_is_complete_before_the_broker_has_told() {
    let mut rig = among(&["a"]);
    assert_eq!(rig.ask("r", Gather::Sockets), ["publish fetch r", "count"]);
    assert!(rig.answer("a", "r", sockets(&["a1"])).is_empty());
    assert_eq!(rig.count(&["a"], 0), ["r: [a1]"]);
}

#[test]
fn the_broker_is_asked_again_while_a_request_waits() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Sockets);
    assert_eq!(rig.pass(Duration::from_millis(500)), ["count"]);
    assert!(rig.handle(Input::NodeCount(None)).is_empty(), "it could not");
    assert_eq!(rig.pass(Duration::from_millis(500)), ["count"]);
    rig.answer("a", "r", sockets(&[]));
    assert_eq!(rig.count(&["a"], 0), ["r: []"]);
    assert!(without_heartbeats(rig.pass(Duration::from_secs(5))).is_empty());
}

#[test]
fn a_broker_that_never_tells_costs_the_time_out() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Sockets);
    rig.answer("a", "r", sockets(&["a1"]));
    let outputs = rig.pass(TIMEOUT);
    assert!(
        outputs.contains(&"r: timed out: the broker did not tell how many nodes there are; [a1]".to_owned()),
        "{outputs:?}"
    );
}

#[test]
fn foreign_peers_are_waited_for_by_their_number() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 2);
    rig.answer("a", "r", value("a"));
    assert!(rig.anonymous_answer("r", value("x")).is_empty());
    assert_eq!(rig.anonymous_answer("r", value("y")), ["r: [a x y]"]);
}

#[test]
fn foreign_peers_may_name_themselves() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 1);
    assert!(rig.answer("node-js", "r", value("x")).is_empty());
    assert!(rig.answer("node-js", "r", value("x")).is_empty(), "a repeat");
    assert_eq!(rig.answer("a", "r", value("a")), ["r: [x a]"]);
}

#[test]
fn a_foreign_peer_that_does_not_answer_is_missing_without_a_name() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 1);
    rig.answer("a", "r", value("a"));
    let outputs = rig.pass(TIMEOUT);
    assert!(outputs.contains(&"r: timed out: 1 of 2 nodes did not answer; [a]".to_owned()), "{outputs:?}");
    assert_eq!(rig.metrics().requests_partial, 1);
}

#[test]
fn a_foreign_peer_that_is_gone_is_not_waited_for() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 1);
    rig.answer("a", "r", value("a"));
    assert_eq!(rig.count(&["a"], 0), ["r: [a]"]);
}

#[test]
fn foreign_peers_never_become_known_by_name_because_nobody_would_see_them_leave() {
    let mut rig = among(&[]);
    assert_eq!(rig.hear("node-js", broadcast("news")), ["serve node-js: news"]);
    rig.answer("node-js", "r", value("x"));
    assert!(rig.members().is_empty());
    rig.count(&[], 1);
    assert_eq!(rig.engine.peer_count(), 1);
}

#[test]
fn a_node_known_by_name_lives_as_long_as_it_says_anything() {
    let mut rig = among(&["a"]);
    rig.pass(Duration::from_secs(8));
    assert_eq!(rig.hear("a", broadcast("news")), ["serve a: news"]);
    rig.pass(Duration::from_secs(8));
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn a_numbered_message_tells_that_its_sender_is_one_of_ours() {
    let mut rig = among(&[]);
    assert_eq!(rig.hear_numbered("a", 1), ["up a", "count", "serve a: a1"]);
}

#[test]
fn a_killed_node_that_the_broker_no_longer_sees_is_gone_at_once() {
    let mut rig = among(&["a", "b"]);
    rig.ask("r", Gather::Values);
    rig.answer("a", "r", value("a"));
    assert_eq!(rig.count(&["a"], 1), ["down b Disconnected"]);
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [a x]"], "it hides no foreign one");
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn a_node_that_was_heard_after_the_count_began_is_not_gone() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    let asked = rig.engine.begin_count(rig.now);
    rig.pass(Duration::from_millis(1));
    rig.hear("a", heartbeat(false, &[]));
    let node_count = trunkline_core::transport::NodeCount { nodes: 1, known: 0, absent: asked };
    assert!(rig.handle(Input::NodeCount(Some(node_count))).is_empty());
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn a_node_that_the_broker_lost_for_a_moment_is_back_with_its_next_word() {
    let mut rig = among(&["a"]);
    assert_eq!(rig.count(&[], 0), ["down a Disconnected"]);
    assert_eq!(rig.hear("a", heartbeat(false, &[])), ["up a", "count"]);
}

#[test]
fn a_hanging_node_that_the_broker_still_sees_is_no_foreign_one() {
    let mut rig = among(&["ghost"]);
    let outputs = rig.pass(Duration::from_secs(11));
    assert!(outputs.contains(&"down ghost Silent".to_owned()));
    rig.ask("r", Gather::Values);
    assert_eq!(rig.count(&["ghost"], 0), ["r: []"], "it would not answer");
    rig.ask("s", Gather::Values);
    assert!(rig.count(&["ghost"], 1).is_empty());
    assert_eq!(rig.anonymous_answer("s", value("x")), ["s: [x]"]);
}

#[test]
fn a_hanging_node_that_comes_to_life_is_waited_for_again() {
    let mut rig = among(&["ghost"]);
    rig.pass(Duration::from_secs(11));
    rig.hear("ghost", heartbeat(false, &[]));
    rig.ask("r", Gather::Values);
    assert!(rig.count(&["ghost"], 0).is_empty());
    assert_eq!(rig.answer("ghost", "r", value("back")), ["r: [back]"]);
}

#[test]
fn a_node_that_left_but_is_still_subscribed_is_no_foreign_one() {
    let mut rig = among(&["a"]);
    assert_eq!(rig.hear("a", Message::Leaving), ["down a Left", "count"]);
    rig.ask("r", Gather::Values);
    assert_eq!(rig.count(&["a"], 0), ["r: []"]);
}

#[test]
fn nodes_that_come_and_go_between_two_counts_hide_no_foreign_one() {
    let mut rig = among(&["a"]);
    rig.count(&["a"], 1);
    rig.hear("a", Message::Leaving);
    rig.meet("b");
    rig.ask("r", Gather::Values);
    rig.count(&["b"], 1);
    assert!(rig.answer("b", "r", value("b")).is_empty());
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [b x]"]);
}

#[test]
fn a_newcomer_that_is_counted_before_it_is_known_costs_no_time_out() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 1);
    rig.answer("a", "r", value("a"));
    assert_eq!(rig.hear("new", heartbeat(true, &[(0, 0)])), ["up new", "count", "publish heartbeat"]);
    assert_eq!(rig.count(&["a", "new"], 0), ["r: [a]"]);
}

#[test]
fn the_answer_of_a_newcomer_does_not_stand_for_a_foreign_one() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 2);
    rig.answer("a", "r", value("a"));
    assert!(rig.answer("new", "r", value("new")).is_empty(), "one of the two that are not known");
    rig.meet("new");
    rig.count(&["a", "new"], 1);
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [a new x]"]);
}

#[test]
fn a_foreign_peer_that_comes_later_was_not_asked() {
    let mut rig = among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.count(&["a"], 0);
    rig.count(&["a"], 1);
    assert_eq!(rig.answer("a", "r", value("a")), ["r: [a]"]);
}

#[test]
fn a_count_that_began_before_the_request_says_nothing_about_it() {
    let mut rig = among(&["a"]);
    let before = rig.engine.begin_count(rig.now).len();
    rig.ask("r", Gather::Values);
    rig.answer("a", "r", value("a"));
    let node_count = trunkline_core::transport::NodeCount { nodes: 2, known: before, absent: vec![] };
    assert!(rig.handle(Input::NodeCount(Some(node_count))).is_empty());
    assert!(rig.count(&["a"], 1).is_empty());
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [a x]"]);
}

#[test]
fn the_answer_of_a_node_that_left_does_not_stand_for_a_foreign_one() {
    let mut rig = among(&[]);
    rig.ask("r", Gather::Values);
    rig.count(&[], 2);
    rig.answer("new", "r", value("new"));
    rig.meet("new");
    rig.hear("new", Message::Leaving);
    assert!(rig.count(&[], 1).is_empty());
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [new x]"]);
}

#[test]
fn a_hello_beside_foreign_peers_is_that_of_a_newcomer() {
    let mut rig = among(&[]);
    rig.count(&[], 1);
    rig.ask("r", Gather::Values);
    rig.meet("new");
    rig.count(&["new"], 1);
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [x]"]);
}

#[test]
fn a_newcomer_that_answers_unexpectedly_does_not_stand_for_a_foreign_one() {
    let mut rig = among(&[]);
    rig.count(&[], 1);
    rig.ask("r", Gather::Values);
    rig.meet("new");
    rig.count(&["new"], 1);
    assert!(rig.answer("new", "r", value("new")).is_empty());
    assert_eq!(rig.anonymous_answer("r", value("x")), ["r: [new x]"]);
}

#[test]
fn a_node_that_was_given_up_and_returns_is_not_waited_for() {
    let mut rig = among(&["a"]);
    assert_eq!(rig.count(&[], 0), ["down a Disconnected"]);
    rig.ask("r", Gather::Values);
    rig.hear("a", heartbeat(true, &[(0, 3)]));
    assert_eq!(rig.count(&["a"], 0), ["r: []"]);
}

#[test]
fn a_node_that_was_counted_before_it_said_hello_is_waited_for() {
    let mut rig = among(&[]);
    rig.count(&[], 1);
    assert_eq!(rig.ask("r", Gather::Sockets), ["publish fetch r", "count"]);
    rig.meet("a");
    assert!(rig.count(&["a"], 0).is_empty(), "it has not answered yet");
    assert_eq!(rig.answer("a", "r", sockets(&["a1"])), ["r: [a1]"]);
}

#[test]
fn a_node_that_is_there_all_the_time_is_waited_for_when_it_becomes_known() {
    let mut rig = among(&[]);
    rig.ask("r", Gather::Sockets);
    rig.hear("a", heartbeat(false, &[(0, 7)]));
    assert!(rig.count(&["a"], 0).is_empty(), "it has not answered yet");
    assert_eq!(rig.answer("a", "r", sockets(&["a1"])), ["r: [a1]"]);
}

#[test]
fn a_node_that_joins_later_is_not_waited_for() {
    let mut rig = among(&[]);
    rig.ask("r", Gather::Sockets);
    rig.meet("a");
    assert_eq!(rig.count(&["a"], 0), ["r: []"]);
    let mut rig = among(&[]);
    rig.count(&[], 1);
    rig.ask("r", Gather::Sockets);
    rig.anonymous_answer("r", sockets(&["x"]));
    rig.pass(Duration::from_secs(2));
    rig.meet("a");
    assert_eq!(rig.count(&["a"], 1), ["r: [x]"]);
}
