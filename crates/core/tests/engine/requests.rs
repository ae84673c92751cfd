//! Own requests: who is waited for, and how they end.

use std::time::Duration;

use trunkline_core::{
    Answer, Error, ErrorKind, Message, RequestId,
    engine::{EngineConfig, Gather, Input},
};

use crate::{
    presence::without_heartbeats,
    rig::{HEARTBEATS, Rig, TIMEOUT, broadcast, payload, sockets, value},
};

#[test]
fn fetched_sockets_of_all_nodes_come_together() {
    let mut rig = Rig::among(&["a", "b"]);
    assert_eq!(rig.ask("r", Gather::Sockets), ["publish fetch r"]);
    assert!(rig.answer("a", "r", sockets(&["a1", "a2"])).is_empty());
    assert_eq!(rig.answer("b", "r", sockets(&["b1"])), ["r: [a1 a2 b1]"]);
    assert_eq!(rig.engine.pending_requests(), 0);
    assert_eq!(rig.metrics().requests, 1);
}

#[test]
fn rooms_come_once_each_and_may_come_with_sockets() {
    let mut rig = Rig::among(&["a", "b"]);
    assert_eq!(rig.ask("r", Gather::Rooms), ["publish rooms r"]);
    rig.answer("a", "r", Answer::Rooms(vec!["x".into(), 42.into()]));
    assert_eq!(rig.answer("b", "r", sockets(&["x", "y"])), ["r: [x y 42]"]);
}

#[test]
fn a_server_side_emit_gathers_one_value_per_node() {
    let mut rig = Rig::among(&["a", "b"]);
    assert_eq!(rig.ask("r", Gather::Values), ["publish ask r"]);
    rig.answer("a", "r", Answer::ServerSideEmit(None));
    assert_eq!(rig.answer("b", "r", value("yes")), ["r: [nothing yes]"]);
}

#[test]
fn alone_a_request_ends_at_once() {
    let mut rig = Rig::new(HEARTBEATS);
    assert_eq!(rig.ask("r", Gather::Sockets), ["publish fetch r", "r: []"]);
}

#[test]
fn what_is_not_published_waits_for_nobody() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(rig.request("r", Gather::Sockets, None), ["r: []"]);
}

#[test]
fn a_time_out_says_who_is_missing_and_what_there_is() {
    let mut rig = Rig::among(&["a", "b", "c"]);
    rig.ask("r", Gather::Sockets);
    rig.answer("b", "r", sockets(&["b1"]));
    assert!(without_heartbeats(rig.pass(TIMEOUT - Duration::from_millis(1))).is_empty());
    let outputs = without_heartbeats(rig.pass(Duration::from_millis(1)));
    assert_eq!(outputs, ["r: timed out: 2 of 3 nodes did not answer, among them a, c; [b1]"]);
    let metrics = rig.metrics();
    assert_eq!((metrics.requests_timed_out, metrics.requests_partial), (1, 1));
}

#[test]
fn a_request_whose_time_is_up_already_ends_at_once() {
    let mut rig = Rig::among(&["a"]);
    let id = RequestId::new("r").unwrap();
    let message = Message::AllRooms { request: id.clone() };
    let request =
        trunkline_core::engine::Request { id, gather: Gather::Rooms, message: Some(message), deadline: rig.now };
    let outputs = rig.handle(Input::Request(request));
    assert_eq!(outputs, ["publish rooms r", "r: timed out: 1 of 1 nodes did not answer, among them a; []"]);
}

#[test]
fn an_answer_at_the_very_end_still_counts() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.now += TIMEOUT;
    assert_eq!(without_heartbeats(rig.answer("a", "r", value("yes"))), ["r: [yes]"]);
}

#[test]
fn a_late_answer_is_counted_and_without_effect() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    rig.pass(TIMEOUT);
    assert!(rig.answer("a", "r", value("late")).is_empty());
    assert_eq!(rig.metrics().late_answers, 1);
}

#[test]
fn answers_to_other_nodes_requests_are_nothing_to_this_one() {
    let mut rig = Rig::among(&["a"]);
    assert!(rig.answer("a", "foreign", value("x")).is_empty());
    assert!(rig.anonymous_answer("foreign", value("x")).is_empty());
    assert_eq!(rig.metrics().late_answers, 0);
}

#[test]
fn a_repeated_answer_stands_for_nobody_else() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Sockets);
    rig.answer("a", "r", sockets(&["a1"]));
    assert!(rig.answer("a", "r", sockets(&["a1"])).is_empty());
    assert_eq!(rig.metrics().late_answers, 1);
    assert_eq!(rig.answer("b", "r", sockets(&[])), ["r: [a1]"]);
}

#[test]
fn an_answer_of_another_kind_is_no_answer() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    assert!(rig.answer("a", "r", sockets(&["a1"])).is_empty());
    assert!(rig.answer("a", "r", Answer::ClientCount(1)).is_empty());
    assert!(rig.answer("a", "r", Answer::Ack(None)).is_empty());
    assert_eq!(rig.answer("a", "r", value("yes")), ["r: [yes]"]);
}

#[test]
fn a_node_that_leaves_is_not_waited_for() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Sockets);
    rig.answer("a", "r", sockets(&["a1"]));
    assert_eq!(rig.hear("b", Message::Leaving), ["down b Left", "r: [a1]"]);
}

#[test]
fn a_node_that_dies_is_not_waited_for() {
    let mut rig = Rig::among(&["a"]);
    rig.pass(Duration::from_secs(8));
    rig.ask("r", Gather::Sockets);
    assert_eq!(without_heartbeats(rig.pass(Duration::from_secs(3))), ["down a Silent", "r: []"]);
    assert_eq!(rig.metrics().requests_timed_out, 0);
}

#[test]
fn a_node_known_to_be_dead_costs_nothing() {
    let mut rig = Rig::among(&["a"]);
    rig.pass(Duration::from_secs(12));
    assert_eq!(rig.ask("r", Gather::Sockets), ["publish fetch r", "r: []"]);
}

#[test]
fn a_node_that_was_given_up_stays_given_up_for_this_request() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Sockets);
    rig.hear("a", Message::Leaving);
    assert!(rig.answer("a", "r", sockets(&["a1"])).is_empty());
    assert_eq!(rig.answer("b", "r", sockets(&["b1"])), ["r: [b1]"]);
}

#[test]
fn a_node_that_comes_later_is_welcome_to_answer_but_not_waited_for() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Sockets);
    rig.meet("b");
    assert!(rig.answer("b", "r", sockets(&["b1"])).is_empty(), "it stands for nobody else");
    assert_eq!(rig.answer("a", "r", sockets(&["a1"])), ["r: [b1 a1]"]);
}

#[test]
fn an_answer_shows_that_its_node_lives() {
    let mut rig = Rig::among(&["a"]);
    rig.pass(Duration::from_secs(9));
    rig.ask("r", Gather::Values);
    rig.answer("a", "r", value("yes"));
    assert!(without_heartbeats(rig.pass(Duration::from_secs(9))).is_empty());
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn a_node_that_fell_silent_and_answers_is_back() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.ask("r", Gather::Values);
    rig.pass(Duration::from_secs(12));
    assert_eq!(rig.answer("a", "r", value("late")), ["up a"]);
}

#[test]
fn a_cancelled_request_is_forgotten() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    assert!(rig.handle(Input::Cancel(RequestId::new("r").unwrap())).is_empty());
    assert_eq!(rig.engine.pending_requests(), 0);
    assert!(rig.answer("a", "r", value("late")).is_empty());
    assert!(without_heartbeats(rig.pass(TIMEOUT)).is_empty());
    assert_eq!(rig.metrics().late_answers, 1);
}

#[test]
fn a_request_that_cannot_be_published_fails_with_the_reason() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    let failed = |kind| Input::PublishFailed(RequestId::new("r").unwrap(), Error::new(kind, "why"));
    assert_eq!(rig.handle(failed(ErrorKind::TooLarge)), ["r: message too large: why"]);
    assert!(rig.handle(failed(ErrorKind::TooLarge)).is_empty());
}

#[test]
fn more_requests_than_allowed_are_refused_at_once() {
    let mut rig = Rig::with(HEARTBEATS, EngineConfig { max_pending_requests: 2, ..EngineConfig::default() });
    rig.meet("a");
    rig.ask("r1", Gather::Values);
    rig.ask("r2", Gather::Values);
    let refused = "r3: publish queue full: 2 requests are pending, more are not allowed";
    assert_eq!(rig.ask("r3", Gather::Values), [refused]);
    rig.answer("a", "r1", value("yes"));
    assert_eq!(rig.ask("r4", Gather::Values), ["publish ask r4"]);
}

#[test]
fn a_request_id_that_is_taken_is_refused() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    assert_eq!(rig.ask("r", Gather::Values), ["r: configuration: request id r is taken"]);
    assert_eq!(rig.engine.pending_requests(), 1, "the first one goes on");
}

#[test]
fn requests_that_end_together_end_in_the_order_of_their_ids() {
    let mut rig = Rig::among(&["a"]);
    for name in ["r3", "r1", "r2"] {
        rig.ask(name, Gather::Values);
    }
    assert_eq!(rig.hear("a", Message::Leaving), ["down a Left", "r1: []", "r2: []", "r3: []"]);
}

#[test]
fn a_server_side_emit_without_answers_is_only_published() {
    let mut rig = Rig::among(&["a"]);
    let tell = Message::ServerSideEmit { request: None, payload: payload("tell") };
    assert_eq!(rig.hear("a", tell), ["serve a: tell"]);
    assert_eq!(rig.hear("a", broadcast("x")), ["serve a: x"]);
    assert_eq!(rig.engine.pending_requests(), 0);
}
