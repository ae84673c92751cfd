//! Acknowledged broadcasts: every node announces its clients, each client answers.

use std::time::Duration;

use trunkline_core::{Answer, Message, engine::Gather, model::Delivery};

use crate::{
    presence::without_heartbeats,
    rig::{CENSUS, Rig, TIMEOUT, payload},
};

fn count(clients: u32) -> Answer {
    Answer::ClientCount(clients)
}

fn ack(text: &str) -> Answer {
    Answer::Ack(Some(payload(text)))
}

#[test]
fn acknowledgements_are_handed_on_as_they_come() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(rig.ask("r", Gather::Acks), ["publish broadcast r"]);
    assert!(rig.own_answer("r", count(1)).is_empty());
    assert!(rig.answer("a", "r", count(2)).is_empty());
    assert_eq!(rig.answer("a", "r", ack("a1")), ["r: ack a1"]);
    assert_eq!(rig.own_answer("r", ack("me1")), ["r: ack me1"]);
    assert_eq!(rig.answer("a", "r", Answer::Ack(None)), ["r: ack nothing", "r: 3 of 3"]);
}

#[test]
fn counts_may_come_after_the_acknowledgements() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Acks);
    assert_eq!(rig.own_answer("r", ack("me1")), ["r: ack me1"]);
    rig.own_answer("r", count(1));
    assert_eq!(rig.answer("a", "r", ack("a1")), ["r: ack a1"]);
    assert_eq!(rig.answer("a", "r", count(1)), ["r: 2 of 2"]);
}

#[test]
fn without_any_client_it_ends_with_the_last_count() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Acks);
    rig.answer("a", "r", count(0));
    rig.own_answer("r", count(0));
    assert_eq!(rig.answer("b", "r", count(0)), ["r: 0 of 0"]);
}

#[test]
fn a_local_one_waits_for_own_clients_only() {
    let mut rig = Rig::among(&["a"]);
    assert!(rig.request("r", Gather::Acks, None).is_empty());
    rig.own_answer("r", count(1));
    assert_eq!(rig.own_answer("r", ack("me1")), ["r: ack me1", "r: 1 of 1"]);
}

#[test]
fn a_silent_client_costs_the_time_out_and_is_counted() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.answer("a", "r", count(2));
    rig.answer("a", "r", ack("a1"));
    let outputs = without_heartbeats(rig.pass(TIMEOUT));
    assert_eq!(outputs, ["r: timed out: 1 of 2 clients acknowledged; 1 of 2"]);
    let metrics = rig.metrics();
    assert_eq!((metrics.requests_timed_out, metrics.requests_partial), (1, 0));
}

#[test]
fn a_node_that_never_tells_its_count_is_missing() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(1));
    rig.own_answer("r", ack("me1"));
    rig.answer("a", "r", count(0));
    let outputs = without_heartbeats(rig.pass(TIMEOUT));
    assert_eq!(outputs, ["r: timed out: 1 of 2 nodes did not answer, among them b; 1 of 1"]);
}

#[test]
fn the_clients_of_a_node_that_dies_in_between_are_not_waited_for() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.answer("a", "r", count(3));
    rig.answer("a", "r", ack("a1"));
    rig.answer("b", "r", count(1));
    assert_eq!(rig.hear("a", Message::Leaving), ["down a Left"]);
    assert_eq!(rig.answer("b", "r", ack("b1")), ["r: ack b1", "r: 2 of 2"]);
}

#[test]
fn the_count_of_a_node_that_is_already_gone_changes_nothing() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.answer("a", "r", ack("a1"));
    rig.hear("a", Message::Leaving);
    assert!(rig.answer("a", "r", count(5)).is_empty());
    assert_eq!(rig.answer("b", "r", count(0)), ["r: 1 of 1"]);
}

#[test]
fn a_late_acknowledgement_is_not_handed_on() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.answer("a", "r", count(1));
    rig.pass(TIMEOUT);
    assert!(rig.answer("a", "r", ack("late")).is_empty());
    assert!(rig.own_answer("r", ack("late")).is_empty());
    assert_eq!(rig.metrics().late_answers, 1);
}

#[test]
fn a_repeated_count_stands_for_nobody_else() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.answer("a", "r", count(1));
    assert!(rig.answer("a", "r", count(1)).is_empty());
    assert_eq!(rig.answer("a", "r", ack("a1")), ["r: ack a1"]);
    assert_eq!(rig.answer("b", "r", count(0)), ["r: 1 of 1"]);
}

#[test]
fn more_acknowledgements_than_clients_are_repeats() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.answer("a", "r", count(1));
    rig.answer("a", "r", ack("a1"));
    assert!(rig.answer("a", "r", ack("a1")).is_empty());
    assert_eq!(rig.answer("b", "r", count(0)), ["r: 1 of 1"]);
}

#[test]
fn where_answers_name_nobody_the_broker_tells_how_many_there_must_be() {
    let mut rig = Rig::new(CENSUS);
    assert_eq!(rig.ask("r", Gather::Acks), ["publish broadcast r", "count"]);
    rig.own_answer("r", count(0));
    rig.count(&[], 2);
    rig.anonymous_answer("r", count(1));
    assert_eq!(rig.anonymous_answer("r", ack("x1")), ["r: ack x1"]);
    assert!(rig.anonymous_answer("r", count(1)).is_empty(), "the other node's client is still to come");
    assert_eq!(rig.anonymous_answer("r", ack("y1")), ["r: ack y1", "r: 2 of 2"]);
}

#[test]
fn acknowledgements_without_a_name_stand_for_no_client_of_a_named_node() {
    let mut rig = Rig::new(CENSUS);
    rig.meet("a");
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.count(&["a"], 1);
    rig.answer("a", "r", count(1));
    rig.anonymous_answer("r", count(0));
    assert_eq!(rig.anonymous_answer("r", ack("late")), ["r: ack late"]);
    assert_eq!(rig.answer("a", "r", ack("a1")), ["r: ack a1", "r: 2 of 1"]);
}

#[test]
fn the_connection_may_break_meanwhile() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Acks);
    rig.own_answer("r", count(0));
    rig.deliver(Delivery::Lost("cut".into()));
    rig.pass(Duration::from_secs(2));
    rig.deliver(Delivery::Connected);
    assert_eq!(rig.answer("a", "r", count(0)), ["r: 0 of 0"]);
}
