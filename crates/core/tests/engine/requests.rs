//! The node's own requests: which nodes they wait for, and how they end.

use std::time::Duration;

use trunkline_core::{
    Ack, Answer, Error, ErrorKind, Heartbeat, Message, RequestId,
    engine::{EngineConfig, Gather, Input},
    model::{Delivery, Part},
};

use crate::{
    presence::without_heartbeats,
    test_engine::{HEARTBEATS, TIMEOUT, TestEngine, broadcast, heartbeat, id, payload, sockets, value},
};

#[test]
fn fetched_sockets_of_all_nodes_are_merged() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    assert_eq!(engine.send_request("r", Gather::Sockets), ["publish fetch r"]);
    assert!(engine.answer("a", "r", sockets(&["a1", "a2"])).is_empty());
    assert_eq!(engine.answer("b", "r", sockets(&["b1"])), ["r: [a1 a2 b1]"]);
    assert_eq!(engine.inner.pending_requests(), 0);
    assert_eq!(engine.metrics().requests, 1);
}

fn part(index: u32, is_last: bool, names: &[&str]) -> Answer {
    Answer::Part(Part { index, is_last, answer: Box::new(sockets(names)) })
}

#[test]
fn an_answer_in_parts_counts_once_all_are_there_in_any_order() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Sockets);
    assert!(engine.answer("b", "r", sockets(&["b1"])).is_empty());
    for (index, is_last, name) in [(2, true, "a3"), (0, false, "a1"), (2, true, "a3"), (0, false, "a1")] {
        assert!(engine.answer("a", "r", part(index, is_last, &[name])).is_empty());
    }
    assert!(engine.answer("a", "r", part(3, true, &["a4"])).is_empty(), "a part behind the last one");
    assert!(engine.answer("b", "r", part(0, true, &["b2"])).is_empty(), "a second answer");
    assert_eq!(engine.answer("a", "r", part(1, false, &["a2"])), ["r: [b1 a3 a1 a2]"]);
}

#[test]
fn parts_of_a_node_that_is_gone_are_dropped_and_those_of_a_silent_one_returned() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Sockets);
    engine.answer("a", "r", part(0, false, &["a1"]));
    engine.answer("b", "r", part(0, false, &["b1"]));
    engine.receive("a", Message::Leaving);
    let outputs = without_heartbeats(engine.advance(TIMEOUT));
    assert_eq!(outputs, ["r: timed out: 1 of 1 nodes did not answer, among them b; [b1]"]);
}

#[test]
fn an_answer_that_is_too_large_ends_the_request_with_an_error_and_the_other_answers() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Sockets);
    engine.answer("a", "r", part(0, false, &["a1"]));
    assert!(engine.answer("a", "r", Answer::TooLarge("9 bytes, allowed are 8".to_owned())).is_empty());
    let expected = "r: message too large: node a cannot send its answer: 9 bytes, allowed are 8; [a1 b1]";
    assert_eq!(engine.answer("b", "r", sockets(&["b1"])), [expected]);
    let metrics = engine.metrics();
    assert_eq!((metrics.requests_timed_out, metrics.requests_partial), (0, 1));
}

#[test]
fn rooms_are_listed_once_each_also_those_of_fetched_sockets() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    assert_eq!(engine.send_request("r", Gather::Rooms), ["publish rooms r"]);
    engine.answer("a", "r", Answer::Rooms(vec!["x".into(), 42.into()]));
    assert_eq!(engine.answer("b", "r", sockets(&["x", "y"])), ["r: [x y 42]"]);
}

#[test]
fn a_session_is_asked_of_nodes_of_ours_until_one_has_it() {
    let mut engine = TestEngine::with_peers(&["a"]);
    // Its high-water marks come later.
    engine.receive("b", Message::Heartbeat(Heartbeat::new(true).with_marks_following()));
    engine.receive("official", heartbeat(true, &[]));
    assert_eq!(engine.send_request("none", Gather::Session), ["publish ask none"]);
    engine.answer("a", "none", Answer::ServerSideEmit(None));
    assert_eq!(engine.answer("b", "none", Answer::ServerSideEmit(None)), ["none: [nothing nothing]"]);
    engine.send_request("r", Gather::Session);
    assert_eq!(engine.answer("b", "r", value("yes")), ["r: [yes]"]);
}

#[test]
fn a_server_side_emit_gathers_one_value_per_node() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    assert_eq!(engine.send_request("r", Gather::Values), ["publish ask r"]);
    engine.answer("a", "r", Answer::ServerSideEmit(None));
    assert_eq!(engine.answer("b", "r", value("yes")), ["r: [nothing yes]"]);
}

#[test]
fn a_request_of_a_node_alone_ends_at_once() {
    let mut engine = TestEngine::new(HEARTBEATS);
    assert_eq!(engine.send_request("r", Gather::Sockets), ["publish fetch r", "r: []"]);
}

#[test]
fn a_request_that_is_not_published_waits_for_no_node() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(engine.request("r", Gather::Sockets, None), ["r: []"]);
}

#[test]
fn a_timeout_names_the_missing_nodes_and_returns_the_answers_so_far() {
    let mut engine = TestEngine::with_peers(&["a", "b", "c"]);
    engine.send_request("r", Gather::Sockets);
    engine.answer("b", "r", sockets(&["b1"]));
    assert!(without_heartbeats(engine.advance(TIMEOUT - Duration::from_millis(1))).is_empty());
    let outputs = without_heartbeats(engine.advance(Duration::from_millis(1)));
    assert_eq!(outputs, ["r: timed out: 2 of 3 nodes did not answer, among them a, c; [b1]"]);
    let metrics = engine.metrics();
    assert_eq!((metrics.requests_timed_out, metrics.requests_partial), (1, 1));
}

#[test]
fn a_request_whose_deadline_has_passed_ends_at_once() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let id = RequestId::new("r").unwrap();
    let message = Message::AllRooms { request: id.clone() };
    let request =
        trunkline_core::engine::Request { id, gather: Gather::Rooms, message: Some(message), deadline: engine.now };
    let outputs = engine.handle(Input::Request(request));
    assert_eq!(outputs, ["publish rooms r", "r: timed out: 1 of 1 nodes did not answer, among them a; []"]);
}

#[test]
fn an_answer_at_the_deadline_still_counts() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.now += TIMEOUT;
    assert_eq!(without_heartbeats(engine.answer("a", "r", value("yes"))), ["r: [yes]"]);
}

#[test]
fn a_late_answer_is_counted_and_without_effect() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    engine.advance(TIMEOUT);
    assert!(engine.answer("a", "r", value("late")).is_empty());
    assert_eq!(engine.metrics().late_answers, 1);
}

#[test]
fn answers_to_requests_of_other_nodes_are_ignored() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert!(engine.answer("a", "foreign", value("x")).is_empty());
    assert!(engine.anonymous_answer("foreign", value("x")).is_empty());
    assert_eq!(engine.metrics().late_answers, 0);
}

#[test]
fn a_repeated_answer_does_not_count_for_another_node() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Sockets);
    engine.answer("a", "r", sockets(&["a1"]));
    assert!(engine.answer("a", "r", sockets(&["a1"])).is_empty());
    assert_eq!(engine.metrics().late_answers, 1);
    assert_eq!(engine.answer("b", "r", sockets(&[])), ["r: [a1]"]);
}

#[test]
fn an_answer_of_another_kind_is_ignored() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    assert!(engine.answer("a", "r", sockets(&["a1"])).is_empty());
    assert!(engine.answer("a", "r", Answer::ClientCount(1)).is_empty());
    assert!(engine.answer("a", "r", Answer::Ack(Ack::default())).is_empty());
    assert_eq!(engine.answer("a", "r", value("yes")), ["r: [yes]"]);
}

#[test]
fn a_node_that_leaves_is_not_waited_for() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Sockets);
    engine.answer("a", "r", sockets(&["a1"]));
    assert_eq!(engine.receive("b", Message::Leaving), ["down b Left", "r: [a1]"]);
}

#[test]
fn a_node_that_falls_silent_is_not_waited_for() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.advance(Duration::from_secs(8));
    engine.send_request("r", Gather::Sockets);
    assert_eq!(without_heartbeats(engine.advance(Duration::from_secs(3))), ["down a Silent", "r: []"]);
    assert_eq!(engine.metrics().requests_timed_out, 0);
}

#[test]
fn a_node_that_is_down_costs_no_wait() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.advance(Duration::from_secs(12));
    assert_eq!(engine.send_request("r", Gather::Sockets), ["publish fetch r", "r: []"]);
}

#[test]
fn a_node_that_left_stays_excluded_from_this_request() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Sockets);
    engine.receive("a", Message::Leaving);
    assert!(engine.answer("a", "r", sockets(&["a1"])).is_empty());
    assert_eq!(engine.answer("b", "r", sockets(&["b1"])), ["r: [b1]"]);
}

#[test]
fn a_node_that_joins_later_may_answer_but_is_not_waited_for() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Sockets);
    engine.first_heartbeat("b");
    assert!(engine.answer("b", "r", sockets(&["b1"])).is_empty(), "it does not count for another node");
    assert_eq!(engine.answer("a", "r", sockets(&["a1"])), ["r: [b1 a1]"]);
}

#[test]
fn an_answer_shows_that_its_node_is_alive() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.advance(Duration::from_secs(9));
    engine.send_request("r", Gather::Values);
    engine.answer("a", "r", value("yes"));
    assert!(without_heartbeats(engine.advance(Duration::from_secs(9))).is_empty());
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn a_node_that_was_silent_and_answers_is_up() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.send_request("r", Gather::Values);
    engine.advance(Duration::from_secs(12));
    assert_eq!(engine.answer("a", "r", value("late")), ["up a"]);
}

#[test]
fn a_cancelled_request_is_forgotten() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    assert!(engine.handle(Input::Cancel(RequestId::new("r").unwrap())).is_empty());
    assert_eq!(engine.inner.pending_requests(), 0);
    assert!(engine.answer("a", "r", value("late")).is_empty());
    assert!(without_heartbeats(engine.advance(TIMEOUT)).is_empty());
    assert_eq!(engine.metrics().late_answers, 1);
}

#[test]
fn a_request_that_cannot_be_published_fails_with_the_reason() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    let failed = |kind| Input::PublishFailed(RequestId::new("r").unwrap(), Error::new(kind, "why"));
    assert_eq!(engine.handle(failed(ErrorKind::TooLarge)), ["r: message too large: why"]);
    assert!(engine.handle(failed(ErrorKind::TooLarge)).is_empty());
}

#[test]
fn more_requests_than_allowed_are_refused_at_once() {
    let mut engine = TestEngine::with(HEARTBEATS, EngineConfig::default().with_max_pending_requests(2));
    engine.first_heartbeat("a");
    engine.send_request("r1", Gather::Values);
    engine.send_request("r2", Gather::Values);
    let refused = "r3: publish queue full: 2 requests are pending, more are not allowed";
    assert_eq!(engine.send_request("r3", Gather::Values), [refused]);
    engine.answer("a", "r1", value("yes"));
    assert_eq!(engine.send_request("r4", Gather::Values), ["publish ask r4"]);
}

#[test]
fn a_request_id_in_use_is_refused() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    assert_eq!(engine.send_request("r", Gather::Values), ["r: configuration: request id r is taken"]);
    assert_eq!(engine.inner.pending_requests(), 1, "the first one goes on");
}

#[test]
fn requests_that_end_together_end_in_the_order_of_their_ids() {
    let mut engine = TestEngine::with_peers(&["a"]);
    for name in ["r3", "r1", "r2"] {
        engine.send_request(name, Gather::Values);
    }
    assert_eq!(engine.receive("a", Message::Leaving), ["down a Left", "r1: []", "r2: []", "r3: []"]);
}

#[test]
fn a_server_side_emit_without_answers_is_only_published() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let tell = Message::ServerSideEmit { request: None, payload: payload("tell") };
    assert_eq!(engine.receive("a", tell), ["serve a: tell"]);
    assert_eq!(engine.receive("a", broadcast("x")), ["serve a: x"]);
    assert_eq!(engine.inner.pending_requests(), 0);
}

#[test]
fn a_probe_notes_when_each_node_answers_which_does_not_and_the_way_of_an_own_heartbeat() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.echoes = false;
    engine.advance(Duration::from_secs(1));
    assert_eq!(engine.send_request("r", Gather::RoundTrips), ["publish heartbeat", "publish fetch r"]);
    engine.advance(Duration::from_millis(2));
    assert!(engine.answer("a", "r", sockets(&[])).is_empty());
    engine.advance(Duration::from_millis(1));
    assert!(engine.deliver(Delivery::Skipped { from: id("me"), seq_no: None }).is_empty());
    engine.advance(Duration::from_millis(4));
    assert_eq!(engine.answer("b", "r", sockets(&[])), ["r: [a b] echo Some(3ms)"]);

    engine.send_request("s", Gather::RoundTrips);
    engine.answer("b", "s", sockets(&[]));
    let outputs = without_heartbeats(engine.advance(TIMEOUT));
    assert_eq!(outputs, ["s: timed out: 1 of 2 nodes did not answer, among them a; [b] echo None"]);
}

#[test]
fn a_probe_of_a_node_that_is_alone_ends_with_the_return_of_its_heartbeat() {
    let mut engine = TestEngine::new(HEARTBEATS);
    engine.echoes = false;
    engine.send_request("r", Gather::RoundTrips);
    assert_eq!(engine.deliver(Delivery::Skipped { from: id("me"), seq_no: None }), ["r: [] echo Some(0ns)"]);
}
