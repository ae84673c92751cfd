//! What other nodes and emitters say, and what becomes of it.

use trunkline_core::{
    Message, Offset, Target,
    engine::Input,
    model::{Delivery, SeqChannel, SeqNo},
};

use crate::rig::{HEARTBEATS, Rig, broadcast, heartbeat, id, payload, sockets};

#[test]
fn what_a_node_broadcasts_is_served() {
    let mut rig = Rig::among(&["a"]);
    assert_eq!(rig.hear("a", broadcast("news")), ["serve a: news"]);
    let joins = Message::Join { target: Target::all(), rooms: vec!["r".into()] };
    assert_eq!(rig.hear("a", joins), ["serve a: join"]);
    let leaves = Message::Leave { target: Target::all(), rooms: vec!["r".into()] };
    assert_eq!(rig.hear("a", leaves), ["serve a: leave"]);
    let disconnects = Message::Disconnect { target: Target::all(), close: true };
    assert_eq!(rig.hear("a", disconnects), ["serve a: disconnect"]);
    assert_eq!(rig.hear("a", Message::ServerSideEmit { request: None, payload: payload("x") }), ["serve a: tell"]);
    assert_eq!(rig.metrics().delivered, 6, "the first heartbeat included");
}

#[test]
fn what_others_ask_is_served_and_the_answer_goes_to_them_alone() {
    let mut rig = Rig::among(&["a"]);
    let request = trunkline_core::RequestId::new("r").unwrap();
    let fetch = Message::FetchSockets { request: request.clone(), target: Target::all() };
    assert_eq!(rig.hear("a", fetch), ["serve a: fetch r"]);
    let answer = Input::LocalAnswer { to: Some(id("a")), request, answer: sockets(&[]) };
    assert_eq!(rig.handle(answer), ["send a for r: Sockets([])"]);
}

#[test]
fn an_own_message_that_comes_back_has_no_effect() {
    let mut rig = Rig::new(HEARTBEATS);
    assert!(rig.hear("me", broadcast("news")).is_empty());
    assert!(rig.hear("me", heartbeat(true, &[(0, 0)])).is_empty());
    assert!(rig.hear("me", Message::Leaving).is_empty());
    assert!(rig.answer("me", "r", sockets(&[])).is_empty());
    assert_eq!(rig.metrics().own_echoes, 4);
    assert!(rig.members().is_empty());
}

#[test]
fn an_emitter_is_served_but_is_no_node() {
    let mut rig = Rig::new(HEARTBEATS);
    assert_eq!(rig.hear("emitter", broadcast("news")), ["serve emitter: news"]);
    let nameless = Delivery::Message { from: None, seq_no: None, offset: None, message: broadcast("old news") };
    assert_eq!(rig.deliver(nameless), ["serve emitter: old news"]);
    assert!(rig.members().is_empty());
}

#[test]
fn an_emitter_can_neither_ask_nor_be_there_nor_leave() {
    let mut rig = Rig::new(HEARTBEATS);
    let request = trunkline_core::RequestId::new("r").unwrap();
    assert!(rig.hear("emitter", Message::AllRooms { request }).is_empty());
    assert!(rig.hear("emitter", heartbeat(true, &[])).is_empty());
    assert!(rig.hear("emitter", Message::Leaving).is_empty());
    assert_eq!(rig.metrics().malformed, 3);
    assert!(rig.members().is_empty());
}

#[test]
fn offsets_are_handed_on() {
    let mut rig = Rig::among(&["a"]);
    let offset = Some(Offset::new("7-1").unwrap());
    let message = broadcast("news");
    let theirs = Delivery::Message { from: Some(id("a")), seq_no: None, offset: offset.clone(), message };
    assert_eq!(rig.deliver(theirs), ["serve a: news at 7-1"]);
    let mine = Delivery::Stored { message: broadcast("mine"), offset };
    assert_eq!(rig.deliver(mine), ["serve me: mine at 7-1"]);
}

#[test]
fn what_nobody_here_wants_is_counted_and_shows_that_its_sender_lives() {
    let mut rig = Rig::new(HEARTBEATS);
    let skipped =
        |number| Delivery::Skipped { from: id("a"), seq_no: Some(SeqNo { channel: SeqChannel::ALL, number }) };
    assert_eq!(rig.deliver(skipped(1)), ["up a"]);
    assert!(rig.deliver(skipped(1)).is_empty());
    assert_eq!(rig.deliver(skipped(3)), ["gap Hole Some(1)"]);
    assert!(rig.deliver(Delivery::Skipped { from: id("me"), seq_no: None }).is_empty());
    let metrics = rig.metrics();
    assert_eq!((metrics.unwanted, metrics.repeats, metrics.delivered), (2, 1, 0));
}

#[test]
fn after_the_leave_nothing_is_served_any_more() {
    let mut rig = Rig::among(&["a"]);
    rig.handle(Input::Leave);
    assert!(rig.hear("a", broadcast("news")).is_empty());
    assert!(rig.hear("b", heartbeat(true, &[])).is_empty());
    assert_eq!(rig.engine.deadline(), None);
}
