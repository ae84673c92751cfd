//! Broadcasts with acknowledgements: every node announces its clients, each client acknowledges.

use std::time::Duration;

use trunkline_core::{Ack, Answer, Message, engine::Gather, model::Delivery};

use crate::{
    presence::without_heartbeats,
    test_engine::{BROKER_COUNT, TIMEOUT, TestEngine, payload},
};

fn count(clients: u32) -> Answer {
    Answer::ClientCount(clients)
}

fn ack(text: &str) -> Answer {
    Answer::Ack(Ack::new(Some(payload(text))))
}

#[test]
fn an_acknowledgement_that_is_too_large_is_an_error_at_the_end() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", count(2));
    assert!(engine.answer("a", "r", Answer::TooLarge("9 bytes, allowed are 8".to_owned())).is_empty());
    let expected = "r: message too large: node a cannot send its answer: 9 bytes, allowed are 8; 1 of 2";
    assert_eq!(engine.answer("a", "r", ack("a1")), ["r: ack a1", expected]);
}

#[test]
fn acknowledgements_are_returned_as_they_arrive() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(engine.send_request("r", Gather::Acks), ["publish broadcast r"]);
    assert!(engine.own_answer("r", count(1)).is_empty());
    assert!(engine.answer("a", "r", count(2)).is_empty());
    assert_eq!(engine.answer("a", "r", ack("a1")), ["r: ack a1"]);
    assert_eq!(engine.own_answer("r", ack("me1")), ["r: ack me1"]);
    assert_eq!(engine.answer("a", "r", Answer::Ack(Ack::default())), ["r: ack nothing", "r: 3 of 3"]);
}

#[test]
fn client_counts_may_arrive_after_the_acknowledgements() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Acks);
    assert_eq!(engine.own_answer("r", ack("me1")), ["r: ack me1"]);
    engine.own_answer("r", count(1));
    assert_eq!(engine.answer("a", "r", ack("a1")), ["r: ack a1"]);
    assert_eq!(engine.answer("a", "r", count(1)), ["r: 2 of 2"]);
}

#[test]
fn without_clients_a_request_ends_with_the_last_client_count() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.answer("a", "r", count(0));
    engine.own_answer("r", count(0));
    assert_eq!(engine.answer("b", "r", count(0)), ["r: 0 of 0"]);
}

#[test]
fn a_local_broadcast_waits_for_own_clients_only() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert!(engine.request("r", Gather::Acks, None).is_empty());
    engine.own_answer("r", count(1));
    assert_eq!(engine.own_answer("r", ack("me1")), ["r: ack me1", "r: 1 of 1"]);
}

#[test]
fn a_client_that_does_not_acknowledge_costs_the_timeout_and_is_counted() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", count(2));
    engine.answer("a", "r", ack("a1"));
    let outputs = without_heartbeats(engine.advance(TIMEOUT));
    assert_eq!(outputs, ["r: timed out: 1 of 2 clients acknowledged; 1 of 2"]);
    let metrics = engine.metrics();
    assert_eq!((metrics.requests_timed_out, metrics.requests_partial), (1, 0));
}

#[test]
fn a_node_that_never_sends_its_client_count_is_missing() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(1));
    engine.own_answer("r", ack("me1"));
    engine.answer("a", "r", count(0));
    let outputs = without_heartbeats(engine.advance(TIMEOUT));
    assert_eq!(outputs, ["r: timed out: 1 of 2 nodes did not answer, among them b; 1 of 1"]);
}

#[test]
fn the_clients_of_a_node_that_leaves_meanwhile_are_not_waited_for() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", count(3));
    engine.answer("a", "r", ack("a1"));
    engine.answer("b", "r", count(1));
    assert_eq!(engine.receive("a", Message::Leaving), ["down a Left"]);
    assert_eq!(engine.answer("b", "r", ack("b1")), ["r: ack b1", "r: 2 of 2"]);
}

#[test]
fn the_client_count_of_a_node_that_has_left_changes_nothing() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", ack("a1"));
    engine.receive("a", Message::Leaving);
    assert!(engine.answer("a", "r", count(5)).is_empty());
    assert_eq!(engine.answer("b", "r", count(0)), ["r: 1 of 1"]);
}

#[test]
fn a_late_acknowledgement_is_not_returned() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", count(1));
    engine.advance(TIMEOUT);
    assert!(engine.answer("a", "r", ack("late")).is_empty());
    assert!(engine.own_answer("r", ack("late")).is_empty());
    assert_eq!(engine.metrics().late_answers, 1);
}

#[test]
fn a_repeated_client_count_does_not_count_for_another_node() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", count(1));
    assert!(engine.answer("a", "r", count(1)).is_empty());
    assert_eq!(engine.answer("a", "r", ack("a1")), ["r: ack a1"]);
    assert_eq!(engine.answer("b", "r", count(0)), ["r: 1 of 1"]);
}

#[test]
fn more_acknowledgements_than_clients_are_repeats() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.answer("a", "r", count(1));
    engine.answer("a", "r", ack("a1"));
    assert!(engine.answer("a", "r", ack("a1")).is_empty());
    assert_eq!(engine.answer("b", "r", count(0)), ["r: 1 of 1"]);
}

#[test]
fn where_answers_carry_no_node_id_the_broker_count_decides_how_many_must_come() {
    let mut engine = TestEngine::new(BROKER_COUNT);
    assert_eq!(engine.send_request("r", Gather::Acks), ["publish broadcast r", "count"]);
    engine.own_answer("r", count(0));
    engine.count(&[], 2);
    engine.anonymous_answer("r", count(1));
    assert_eq!(engine.anonymous_answer("r", ack("x1")), ["r: ack x1"]);
    assert!(engine.anonymous_answer("r", count(1)).is_empty(), "the other node's client is still to come");
    assert_eq!(engine.anonymous_answer("r", ack("y1")), ["r: ack y1", "r: 2 of 2"]);
}

#[test]
fn acknowledgements_without_a_node_id_do_not_count_for_a_node_known_by_id() {
    let mut engine = TestEngine::new(BROKER_COUNT);
    engine.first_heartbeat("a");
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.count(&["a"], 1);
    engine.answer("a", "r", count(1));
    engine.anonymous_answer("r", count(0));
    assert_eq!(engine.anonymous_answer("r", ack("late")), ["r: ack late"]);
    assert_eq!(engine.answer("a", "r", ack("a1")), ["r: ack a1", "r: 2 of 1"]);
}

#[test]
fn a_request_survives_a_lost_connection() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Acks);
    engine.own_answer("r", count(0));
    engine.deliver(Delivery::Lost("cut".into()));
    engine.advance(Duration::from_secs(2));
    engine.deliver(Delivery::Connected);
    assert_eq!(engine.answer("a", "r", count(0)), ["r: 0 of 0"]);
}
