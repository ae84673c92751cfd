//! Heartbeats, and nodes that join, leave and fall silent.

use std::{sync::Arc, time::Duration};

use trunkline_core::{
    Heartbeat, Message, Namespace, NodeId, NodeKey,
    engine::{Engine, EngineConfig, Gather, Input},
    model::Delivery,
};

use crate::test_engine::{HEARTBEATS, TestEngine, broadcast, heartbeat};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_sends_a_first_heartbeat_and_then_one_per_interval() {
    let mut engine = TestEngine::new(HEARTBEATS);
    assert!(engine.advance(Duration::from_millis(4999)).is_empty());
    assert_eq!(engine.advance(Duration::from_millis(1)), ["publish heartbeat"]);
    assert_eq!(engine.advance(SECOND * 10), ["publish heartbeat", "publish heartbeat"]);
}

#[test]
fn a_first_heartbeat_is_answered_at_once() {
    let mut engine = TestEngine::new(HEARTBEATS);
    engine.advance(SECOND);
    assert_eq!(engine.first_heartbeat("a"), ["up a", "publish heartbeat"]);
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn an_ordinary_heartbeat_is_not_answered() {
    let mut engine = TestEngine::new(HEARTBEATS);
    engine.advance(SECOND);
    assert_eq!(engine.receive("a", heartbeat(false, &[])), ["up a"]);
}

#[test]
fn many_first_heartbeats_at_the_same_time_share_an_answer() {
    let mut engine = TestEngine::new(HEARTBEATS);
    engine.advance(SECOND);
    assert_eq!(engine.first_heartbeat("a"), ["up a", "publish heartbeat"]);
    assert_eq!(
        engine.first_heartbeat("b"),
        ["up b"],
        "it had joined before it asked, so it hears the answer to the first one"
    );
    engine.advance(Duration::from_millis(10));
    assert_eq!(engine.first_heartbeat("c"), ["up c"], "its answer is owed");
    engine.send_request("r", Gather::Values);
    assert_eq!(engine.first_heartbeat("d"), ["up d"]);
    assert_eq!(
        engine.advance(Duration::from_millis(40)),
        ["publish heartbeat"],
        "one for both, whatever else was published"
    );
}

#[test]
fn a_request_postpones_the_heartbeat() {
    let mut engine = TestEngine::with_peers(&[]);
    engine.advance(SECOND * 4);
    assert_eq!(engine.send_request("r", Gather::Values), ["publish ask r", "r: []"]);
    assert!(engine.advance(Duration::from_millis(4999)).is_empty());
    assert_eq!(engine.advance(Duration::from_millis(1)), ["publish heartbeat"]);
}

#[test]
fn requests_postpone_the_heartbeat_only_once_because_it_carries_the_high_water_marks() {
    let mut engine = TestEngine::with_peers(&[]);
    let mut heartbeats = 0;
    for _ in 0..40 {
        engine.send_request("r", Gather::Values);
        heartbeats += engine.advance(SECOND).len();
    }
    assert_eq!(heartbeats, 4, "every 10 seconds");
}

#[test]
fn a_request_that_could_not_be_published_postpones_nothing() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.advance(SECOND * 4);
    engine.send_request("r", Gather::Values);
    let error = trunkline_core::Error::new(trunkline_core::ErrorKind::QueueFull, "full");
    let failed = Input::PublishFailed(trunkline_core::RequestId::new("r").unwrap(), error);
    assert_eq!(engine.handle(failed), ["r: publish queue full: full"]);
    assert_eq!(engine.advance(SECOND), ["publish heartbeat"]);
}

#[test]
fn any_message_of_a_node_shows_that_it_is_up() {
    let mut engine = TestEngine::new(HEARTBEATS);
    assert_eq!(engine.receive("a", broadcast("news")), ["up a", "serve a: news"]);
}

#[test]
fn a_node_that_announces_its_leave_is_gone_at_once() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    assert_eq!(engine.receive("a", Message::Leaving), ["down a Left"]);
    assert_eq!(engine.members(), ["b"]);
    assert!(engine.receive("a", Message::Leaving).is_empty());
    assert!(engine.receive("unknown", Message::Leaving).is_empty());
}

#[test]
fn a_late_message_of_a_node_that_left_is_served_but_does_not_bring_it_up() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive("a", Message::Leaving);
    assert_eq!(engine.receive("a", broadcast("late")), ["serve a: late"]);
    assert!(engine.receive("a", heartbeat(false, &[(0, 1)])).is_empty());
    assert!(engine.members().is_empty());
    assert_eq!(engine.first_heartbeat("a")[0], "up a", "it has joined again");
}

#[test]
fn a_silent_node_is_down_after_the_timeout_and_a_suspicion_period() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(without_heartbeats(engine.advance(Duration::from_millis(10_999))), [""; 0]);
    assert_eq!(engine.advance(Duration::from_millis(1)), ["down a Silent"]);
    assert!(engine.members().is_empty());
}

#[test]
fn a_node_that_hears_not_even_itself_does_not_give_up_the_last_one() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.advance(SECOND * 4);
    engine.receive("b", broadcast("news"));
    engine.echoes = false;
    assert_eq!(without_heartbeats(engine.advance(SECOND * 60)), ["down a Silent"], "b had just been heard");
    assert_eq!(engine.members(), ["b"]);
}

#[test]
fn requests_of_a_node_that_is_cut_off_say_who_is_missing() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.echoes = false;
    engine.advance(SECOND * 30);
    assert_eq!(without_heartbeats(engine.send_request("r", Gather::Values)), ["publish ask r"]);
    let outputs = without_heartbeats(engine.advance(SECOND * 10));
    assert!(matches!(&outputs[..], [timed_out] if timed_out.contains("a, b")), "{outputs:?}");
}

#[test]
fn what_arrives_proves_that_not_this_node_was_cut_off() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.echoes = false;
    engine.advance(SECOND * 30);
    assert_eq!(without_heartbeats(engine.receive("c", broadcast("news"))), ["up c", "serve c: news"]);
    engine.advance(SECOND * 5);
    assert_eq!(engine.members(), ["c"]);
}

#[test]
fn without_echoes_a_node_of_two_is_given_up_after_twice_the_timeout() {
    let mut engine = TestEngine::new(HEARTBEATS);
    (engine.echoes, engine.inner) = (false, engine_without_echoes());
    engine.first_heartbeat("a");
    assert_eq!(without_heartbeats(engine.advance(Duration::from_millis(19_999))), [""; 0]);
    assert_eq!(without_heartbeats(engine.advance(Duration::from_millis(1))), ["down a Silent"]);
}

#[test]
fn a_flood_of_invented_nodes_does_not_become_known() {
    let mut engine = TestEngine::new(HEARTBEATS);
    for number in 0..2000 {
        engine.receive(&format!("invented{number}"), heartbeat(false, &[]));
    }
    assert_eq!((engine.members().len(), engine.metrics().newcomers_ignored), (1024, 976));
}

#[test]
fn any_message_ends_the_suspicion() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.advance(Duration::from_millis(10_500));
    engine.receive("a", broadcast("still here"));
    assert_eq!(without_heartbeats(engine.advance(Duration::from_millis(10_999))), [""; 0]);
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn a_node_that_was_silent_and_sends_again_is_up() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.advance(SECOND * 12);
    assert!(engine.members().is_empty());
    assert_eq!(engine.receive("a", broadcast("news")), ["up a", "serve a: news"]);
}

#[test]
fn a_repeat_from_long_ago_does_not_bring_a_node_up() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.receive_numbered("a", 1);
    engine.advance(SECOND * 12);
    assert!(engine.receive_numbered("a", 1).is_empty());
    assert!(engine.members().is_empty());
}

#[test]
fn a_process_that_was_stopped_keeps_nodes_whose_messages_are_waiting() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.now += SECOND * 60;
    assert_eq!(engine.handle(Input::Tick), ["publish heartbeat"], "suspicion at most");
    engine.receive("a", heartbeat(false, &[]));
    assert_eq!(without_heartbeats(engine.advance(SECOND * 10)), [""; 0]);
    assert_eq!(engine.members(), ["a"]);
}

#[test]
fn no_node_goes_down_in_the_middle_of_a_batch() {
    let mut engine = TestEngine::with_peers(&["a", "b"]);
    engine.advance(Duration::from_millis(10_500));
    engine.now += SECOND * 60;
    assert_eq!(without_heartbeats(engine.receive("b", broadcast("the first of many"))), ["serve b: the first of many"]);
    engine.now += SECOND * 60;
    engine.receive("a", broadcast("the last of them"));
    assert_eq!(without_heartbeats(engine.handle(Input::Tick)), [""; 0]);
    assert_eq!(engine.members(), ["a", "b"]);
}

#[test]
fn no_node_goes_down_while_the_connection_is_lost() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(engine.deliver(Delivery::Lost("cut".into())), [r#"Lost("cut")"#]);
    assert_eq!(without_heartbeats(engine.advance(SECOND * 100)), [""; 0]);
    assert_eq!(engine.deliver(Delivery::Connected), ["Connected"]);
    assert_eq!(without_heartbeats(engine.advance(Duration::from_millis(10_999))), [""; 0]);
    assert_eq!(engine.members(), ["a"]);
    assert_eq!(engine.advance(Duration::from_millis(1)), ["down a Silent"]);
    assert_eq!(engine.metrics().connections_lost, 1);
}

#[test]
fn leaving_sends_the_last_high_water_marks_and_ends_all_requests() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.send_request("r", Gather::Values);
    let outputs = engine.handle(Input::Leave);
    assert_eq!(outputs, ["publish heartbeat", "publish leaving", "r: closed: node me of namespace / has left"]);
    assert_eq!(engine.send_request("r2", Gather::Values), ["r2: closed: node me of namespace / has left"]);
    assert!(engine.advance(SECOND * 60).is_empty());
}

#[test]
fn nodes_with_another_number_of_buckets_are_reported_once() {
    let mut engine = TestEngine::with(HEARTBEATS, EngineConfig::default().with_buckets(Some(256)));
    let beat = |buckets| Message::Heartbeat(Heartbeat::new(false).with_buckets(buckets));
    let expected = r#"Misconfigured("room buckets: 256 here, 64 on node a")"#;
    assert_eq!(engine.receive("a", beat(Some(64))), ["up a", expected]);
    assert!(engine.receive("a", beat(Some(64))).is_empty());
    assert_eq!(engine.receive("b", beat(Some(256))), ["up b"]);
    assert_eq!(engine.receive("foreign", beat(None)), ["up foreign"]);
}

#[test]
fn the_version_of_the_membership_changes_with_it() {
    let mut engine = TestEngine::new(HEARTBEATS);
    let before = engine.inner.membership_version();
    engine.receive("emitter", broadcast("news"));
    assert_eq!(engine.inner.membership_version(), before);
    engine.first_heartbeat("a");
    assert_eq!(engine.inner.peer_count(), 1);
    assert_ne!(engine.inner.membership_version(), before);
}

fn engine_without_echoes() -> Engine {
    let me = NodeKey { id: NodeId::new("me").unwrap(), namespace: Namespace::new("/") };
    Engine::new(me, HEARTBEATS, EngineConfig::default(), Arc::default())
}

pub(crate) fn without_heartbeats(mut outputs: Vec<String>) -> Vec<String> {
    outputs.retain(|output| output != "publish heartbeat");
    outputs
}

#[test]
fn a_node_that_the_broker_does_not_see_is_back_with_its_next_message() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.deliver(Delivery::Absent(NodeId::new("a").unwrap()));
    assert!(engine.members().is_empty());
    engine.receive("a", heartbeat(false, &[]));
    assert_eq!(engine.members(), ["a"]);
}
