//! Messages of other nodes and emitters, and their effects.

use trunkline_core::{
    Message, Offset, Payload, Target,
    engine::{EngineConfig, Input},
    model::{Delivery, SeqChannel, SeqNo},
};

use crate::test_engine::{HEARTBEATS, TestEngine, broadcast, heartbeat, id, payload, sockets};

#[test]
fn messages_of_other_nodes_are_served() {
    let mut engine = TestEngine::with_peers(&["a"]);
    assert_eq!(engine.receive("a", broadcast("news")), ["serve a: news"]);
    let joins = Message::Join { target: Target::all(), rooms: vec!["r".into()] };
    assert_eq!(engine.receive("a", joins), ["serve a: join"]);
    let leaves = Message::Leave { target: Target::all(), rooms: vec!["r".into()] };
    assert_eq!(engine.receive("a", leaves), ["serve a: leave"]);
    let disconnects = Message::Disconnect { target: Target::all(), close: true };
    assert_eq!(engine.receive("a", disconnects), ["serve a: disconnect"]);
    assert_eq!(
        engine.receive("a", Message::ServerSideEmit { request: None, payload: payload("x") }),
        ["serve a: tell"]
    );
    assert_eq!(engine.metrics().delivered, 6, "the first heartbeat included");
}

#[test]
fn requests_of_other_nodes_are_served_and_answered_to_them_alone() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let request = trunkline_core::RequestId::new("r").unwrap();
    let fetch = Message::FetchSockets { request: request.clone(), target: Target::all() };
    assert_eq!(engine.receive("a", fetch), ["serve a: fetch r"]);
    let answer = Input::LocalAnswer { to: Some(id("a")), request, answer: sockets(&[]) };
    assert_eq!(engine.handle(answer), ["send a for r: Sockets([])"]);
}

#[test]
fn an_own_message_that_comes_back_has_no_effect() {
    let mut engine = TestEngine::new(HEARTBEATS);
    assert!(engine.receive("me", broadcast("news")).is_empty());
    assert!(engine.receive("me", heartbeat(true, &[(0, 0)])).is_empty());
    assert!(engine.receive("me", Message::Leaving).is_empty());
    assert!(engine.answer("me", "r", sockets(&[])).is_empty());
    assert_eq!(engine.metrics().own_echoes, 1 + 4, "the first heartbeat, too");
    assert!(engine.members().is_empty());
}

#[test]
fn an_emitter_is_served_but_is_no_node() {
    let mut engine = TestEngine::new(HEARTBEATS);
    assert_eq!(engine.receive("emitter", broadcast("news")), ["serve emitter: news"]);
    let nameless = Delivery::Message { from: None, seq_no: None, offset: None, message: broadcast("old news") };
    assert_eq!(engine.deliver(nameless), ["serve emitter: old news"]);
    assert!(engine.members().is_empty());
}

#[test]
fn requests_heartbeats_and_leaves_of_an_emitter_are_malformed() {
    let mut engine = TestEngine::new(HEARTBEATS);
    let request = trunkline_core::RequestId::new("r").unwrap();
    assert!(engine.receive("emitter", Message::AllRooms { request }).is_empty());
    assert!(engine.receive("emitter", heartbeat(true, &[])).is_empty());
    assert!(engine.receive("emitter", Message::Leaving).is_empty());
    assert_eq!(engine.metrics().malformed, 3);
    assert!(engine.members().is_empty());
}

#[test]
fn offsets_are_passed_on() {
    let mut engine = TestEngine::with_peers(&["a"]);
    let offset = Some(Offset::new("7-1").unwrap());
    let message = broadcast("news");
    let theirs = Delivery::Message { from: Some(id("a")), seq_no: None, offset: offset.clone(), message };
    assert_eq!(engine.deliver(theirs), ["serve a: news at 7-1"]);
    let mine = Delivery::Stored { seq_no: None, message: broadcast("mine"), offset };
    assert_eq!(engine.deliver(mine), ["serve me: mine at 7-1"]);
}

#[test]
fn own_messages_that_come_back_are_judged_by_their_numbers() {
    let mut engine = TestEngine::new(HEARTBEATS.with_history(true));
    let stored = |number, name| Delivery::Stored { seq_no: number_of(number), message: broadcast(name), offset: None };
    assert_eq!(engine.deliver(stored(1, "one")), ["serve me: one"]);
    assert!(engine.deliver(stored(1, "one")).is_empty(), "a repeat");
    assert!(engine.deliver(Delivery::Skipped { from: id("me"), seq_no: number_of(2) }).is_empty());
    assert_eq!(engine.deliver(stored(5, "five")), ["gap Hole Some(2)", "serve me: five"]);
    assert!(engine.deliver(stored(3, "late")).is_empty(), "it was counted as missing");
    let refused = Delivery::Stored { seq_no: None, message: broadcast("refused"), offset: None };
    assert_eq!(engine.deliver(refused), ["serve me: refused"]);
    assert!(engine.members().is_empty());
    assert_eq!((engine.metrics().repeats, engine.metrics().missed), (2, 2));
}

#[test]
fn own_messages_are_served_again_after_one_was_forged() {
    let mut engine = TestEngine::new(HEARTBEATS.with_history(true));
    let stored = |number, name| Delivery::Stored { seq_no: number_of(number), message: broadcast(name), offset: None };
    let heartbeat = |number| heartbeat(false, &[(0, number)]);
    assert_eq!(engine.deliver(stored(1, "one")), ["serve me: one"]);
    let outputs = engine.deliver(stored(1 << 32, "forged"));
    assert_eq!(outputs[1..], ["serve me: forged"], "{outputs:?}");
    assert!(engine.deliver(stored(2, "two")).is_empty());
    assert!(engine.receive("me", heartbeat(2)).is_empty(), "it may be late");
    engine.advance(EngineConfig::default().heartbeat_interval);
    assert_eq!(engine.receive("me", heartbeat(2)), ["gap Hole None"]);
    assert_eq!(engine.deliver(stored(3, "three")), ["serve me: three"]);
    assert!(engine.receive("me", heartbeat(9)).is_empty(), "what it counts may be on its way");
    assert!(engine.members().is_empty());
}

fn number_of(number: u64) -> Option<SeqNo> {
    Some(SeqNo { channel: SeqChannel::ALL, number })
}

#[test]
fn a_skipped_message_is_counted_and_shows_that_its_sender_is_alive() {
    let mut engine = TestEngine::new(HEARTBEATS);
    let skipped =
        |number| Delivery::Skipped { from: id("a"), seq_no: Some(SeqNo { channel: SeqChannel::ALL, number }) };
    assert_eq!(engine.deliver(skipped(1)), ["up a"]);
    assert!(engine.deliver(skipped(1)).is_empty());
    assert_eq!(engine.deliver(skipped(3)), ["gap Hole Some(1)"]);
    assert!(engine.deliver(Delivery::Skipped { from: id("me"), seq_no: None }).is_empty());
    let metrics = engine.metrics();
    assert_eq!((metrics.unwanted, metrics.repeats, metrics.delivered), (2, 1, 0));
}

#[test]
fn after_the_leave_nothing_is_served() {
    let mut engine = TestEngine::with_peers(&["a"]);
    engine.handle(Input::Leave);
    assert!(engine.receive("a", broadcast("news")).is_empty());
    assert!(engine.receive("b", heartbeat(true, &[])).is_empty());
    assert_eq!(engine.inner.deadline(), None);
}

#[test]
fn a_broadcast_that_would_cut_off_every_client_is_malformed() {
    let mut engine = TestEngine::with_peers(&["a"]);
    for from in ["a", "emitter"] {
        for text in ["[]", "[null]", "[{}]", r#"["disconnect","x"]"#, r#"["newListener"]"#] {
            let payload = Payload::from_json(text).unwrap();
            let message = Message::Broadcast { request: None, target: Target::all(), payload };
            assert!(engine.receive(from, message).is_empty(), "{from}: {text}");
        }
    }
    assert_eq!(engine.metrics().malformed, 10);
}
