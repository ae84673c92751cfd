//! Heartbeats, and nodes that come and go.

use std::time::Duration;

use trunkline_core::{
    Heartbeat, Message,
    engine::{EngineConfig, Gather, Input},
    model::Delivery,
};

use crate::rig::{HEARTBEATS, Rig, broadcast, heartbeat};

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_node_says_hello_and_then_beats_periodically() {
    let mut rig = Rig::new(HEARTBEATS);
    assert!(rig.pass(Duration::from_millis(4999)).is_empty());
    assert_eq!(rig.pass(Duration::from_millis(1)), ["publish heartbeat"]);
    assert_eq!(rig.pass(SECOND * 10), ["publish heartbeat", "publish heartbeat"]);
}

#[test]
fn a_hello_is_answered_at_once() {
    let mut rig = Rig::new(HEARTBEATS);
    rig.pass(SECOND);
    assert_eq!(rig.meet("a"), ["up a", "publish heartbeat"]);
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn an_ordinary_heartbeat_is_not_answered() {
    let mut rig = Rig::new(HEARTBEATS);
    rig.pass(SECOND);
    assert_eq!(rig.hear("a", heartbeat(false, &[])), ["up a"]);
}

#[test]
fn many_hellos_at_the_same_time_share_an_answer() {
    let mut rig = Rig::new(HEARTBEATS);
    rig.pass(SECOND);
    assert_eq!(rig.meet("a"), ["up a", "publish heartbeat"]);
    assert_eq!(rig.meet("b"), ["up b"], "it had joined before it asked, so it hears the answer to the first one");
    rig.pass(Duration::from_millis(10));
    assert_eq!(rig.meet("c"), ["up c"], "its answer is owed");
    rig.ask("r", Gather::Values);
    assert_eq!(rig.meet("d"), ["up d"]);
    assert_eq!(rig.pass(Duration::from_millis(40)), ["publish heartbeat"], "one for both, whatever else was published");
}

#[test]
fn a_request_postpones_the_heartbeat() {
    let mut rig = Rig::among(&[]);
    rig.pass(SECOND * 4);
    assert_eq!(rig.ask("r", Gather::Values), ["publish ask r", "r: []"]);
    assert!(rig.pass(Duration::from_millis(4999)).is_empty());
    assert_eq!(rig.pass(Duration::from_millis(1)), ["publish heartbeat"]);
}

#[test]
fn requests_postpone_the_heartbeat_only_so_far_because_it_carries_the_counters() {
    let mut rig = Rig::among(&[]);
    let mut heartbeats = 0;
    for _ in 0..40 {
        rig.ask("r", Gather::Values);
        heartbeats += rig.pass(SECOND).len();
    }
    assert_eq!(heartbeats, 4, "every 10 seconds");
}

#[test]
fn a_request_that_could_not_be_published_postpones_nothing() {
    let mut rig = Rig::among(&["a"]);
    rig.pass(SECOND * 4);
    rig.ask("r", Gather::Values);
    let error = trunkline_core::Error::new(trunkline_core::ErrorKind::QueueFull, "full");
    let failed = Input::PublishFailed(trunkline_core::RequestId::new("r").unwrap(), error);
    assert_eq!(rig.handle(failed), ["r: publish queue full: full"]);
    assert_eq!(rig.pass(SECOND), ["publish heartbeat"]);
}

#[test]
fn any_message_of_a_node_shows_that_it_is_there() {
    let mut rig = Rig::new(HEARTBEATS);
    assert_eq!(rig.hear("a", broadcast("news")), ["up a", "serve a: news"]);
}

#[test]
fn a_node_that_announces_its_leave_is_gone_at_once() {
    let mut rig = Rig::among(&["a", "b"]);
    assert_eq!(rig.hear("a", Message::Leaving), ["down a Left"]);
    assert_eq!(rig.members(), ["b"]);
    assert!(rig.hear("a", Message::Leaving).is_empty());
    assert!(rig.hear("stranger", Message::Leaving).is_empty());
}

#[test]
fn a_late_message_of_a_node_that_left_is_served_but_does_not_bring_it_back() {
    let mut rig = Rig::among(&["a"]);
    rig.hear("a", Message::Leaving);
    assert_eq!(rig.hear("a", broadcast("last words")), ["serve a: last words"]);
    assert!(rig.hear("a", heartbeat(false, &[(0, 1)])).is_empty());
    assert!(rig.members().is_empty());
    assert_eq!(rig.meet("a")[0], "up a", "it has joined again");
}

#[test]
fn a_silent_node_is_gone_after_the_time_out_and_a_moment_of_suspicion() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(without_heartbeats(rig.pass(Duration::from_millis(10_999))), [""; 0]);
    assert_eq!(rig.pass(Duration::from_millis(1)), ["down a Silent"]);
    assert!(rig.members().is_empty());
}

#[test]
fn a_sign_of_life_dispels_suspicion() {
    let mut rig = Rig::among(&["a"]);
    rig.pass(Duration::from_millis(10_500));
    rig.hear("a", broadcast("still here"));
    assert_eq!(without_heartbeats(rig.pass(Duration::from_millis(10_999))), [""; 0]);
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn a_node_that_fell_silent_and_speaks_again_is_back() {
    let mut rig = Rig::among(&["a"]);
    rig.pass(SECOND * 12);
    assert!(rig.members().is_empty());
    assert_eq!(rig.hear("a", broadcast("news")), ["up a", "serve a: news"]);
}

#[test]
fn a_repeat_from_long_ago_brings_no_dead_node_back() {
    let mut rig = Rig::among(&["a"]);
    rig.hear_numbered("a", 1);
    rig.pass(SECOND * 12);
    assert!(rig.hear_numbered("a", 1).is_empty());
    assert!(rig.members().is_empty());
}

#[test]
fn a_process_that_stood_still_gives_nobody_up_whose_messages_wait() {
    let mut rig = Rig::among(&["a"]);
    rig.now += SECOND * 60;
    assert_eq!(rig.handle(Input::Tick), ["publish heartbeat"], "suspicion at most");
    rig.hear("a", heartbeat(false, &[]));
    assert_eq!(without_heartbeats(rig.pass(SECOND * 10)), [""; 0]);
    assert_eq!(rig.members(), ["a"]);
}

#[test]
fn nobody_is_given_up_amid_a_batch() {
    let mut rig = Rig::among(&["a", "b"]);
    rig.pass(Duration::from_millis(10_500));
    rig.now += SECOND * 60;
    assert_eq!(without_heartbeats(rig.hear("b", broadcast("the first of many"))), ["serve b: the first of many"]);
    rig.now += SECOND * 60;
    rig.hear("a", broadcast("the last of them"));
    assert_eq!(without_heartbeats(rig.handle(Input::Tick)), [""; 0]);
    assert_eq!(rig.members(), ["a", "b"]);
}

#[test]
fn nobody_is_given_up_while_the_connection_is_away() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(rig.deliver(Delivery::Lost("cut".into())), [r#"Lost("cut")"#]);
    assert_eq!(without_heartbeats(rig.pass(SECOND * 100)), [""; 0]);
    assert_eq!(rig.deliver(Delivery::Connected), ["Connected"]);
    assert_eq!(without_heartbeats(rig.pass(Duration::from_millis(10_999))), [""; 0]);
    assert_eq!(rig.members(), ["a"]);
    assert_eq!(rig.pass(Duration::from_millis(1)), ["down a Silent"]);
    assert_eq!(rig.metrics().connections_lost, 1);
}

#[test]
fn leaving_tells_the_last_counters_and_ends_all_requests() {
    let mut rig = Rig::among(&["a"]);
    rig.ask("r", Gather::Values);
    let outputs = rig.handle(Input::Leave);
    assert_eq!(outputs, ["publish heartbeat", "publish leaving", "r: closed: node me of namespace / has left"]);
    assert_eq!(rig.ask("r2", Gather::Values), ["r2: closed: node me of namespace / has left"]);
    assert!(rig.pass(SECOND * 60).is_empty());
}

#[test]
fn nodes_with_another_number_of_buckets_are_complained_about_once() {
    let mut rig = Rig::with(HEARTBEATS, EngineConfig { buckets: Some(256), ..EngineConfig::default() });
    let beat = |buckets| Message::Heartbeat(Heartbeat { buckets, ..Heartbeat::default() });
    let expected = r#"Misconfigured("room buckets: 256 here, 64 on node a")"#;
    assert_eq!(rig.hear("a", beat(Some(64))), ["up a", expected]);
    assert!(rig.hear("a", beat(Some(64))).is_empty());
    assert_eq!(rig.hear("b", beat(Some(256))), ["up b"]);
    assert_eq!(rig.hear("foreign", beat(None)), ["up foreign"]);
}

#[test]
fn the_version_of_the_membership_changes_with_it() {
    let mut rig = Rig::new(HEARTBEATS);
    let before = rig.engine.membership_version();
    rig.hear("emitter", broadcast("news"));
    assert_eq!(rig.engine.membership_version(), before);
    rig.meet("a");
    assert_eq!(rig.engine.peer_count(), 1);
    assert_ne!(rig.engine.membership_version(), before);
}

pub(crate) fn without_heartbeats(mut outputs: Vec<String>) -> Vec<String> {
    outputs.retain(|output| output != "publish heartbeat");
    outputs
}
