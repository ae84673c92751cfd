//! Numbered messages: repeats are dropped, missing messages are noticed. The faults are those of
//! [`faults`](crate::faults), on the way to one node.

use std::time::Duration;

use fastrand::Rng;
use trunkline_core::{
    Event, Message, Payload, Target,
    model::{Delivery, Gap, GapCause},
};

use crate::{
    faults::{self, Fault, Faulty},
    kit::{Checked, TestCluster, TestNode, check, check_eq, eventually},
};

/// Loses the broadcasts whose event is called `lost`.
#[derive(Clone, Debug)]
struct LoseNamed;

impl Fault for LoseNamed {
    const IN_ORDER: bool = true;

    fn pass(&mut self, _: &mut Rng, delivery: Delivery) -> Vec<(Duration, Delivery)> {
        let is_lost = matches!(&delivery, Delivery::Message { message: Message::Broadcast { payload, .. }, .. }
            if payload.event_name().as_deref() == Some("lost"));
        if is_lost { Vec::new() } else { vec![(Duration::ZERO, delivery)] }
    }
}

/// A node without faults, and one with `fault` on the way to it.
async fn pair<F: Fault>(t: &TestCluster, fault: F) -> Checked<(TestNode, TestNode)> {
    let a = t.node().await?;
    let b = t.build().over(Faulty::wrap(t.backend().await?, 42, fault)).join().await?;
    a.await_peers(1, t.timeout()).await?;
    b.await_peers(1, t.timeout()).await?;
    Ok((a, b))
}

fn is_hole(event: &Event) -> bool {
    matches!(event, Event::Gap(Gap { cause: GapCause::Hole, .. }))
}

pub(crate) async fn a_repeated_message_is_delivered_once(t: TestCluster) -> Checked {
    let (a, b) = pair(&t, faults::Duplicate { percent: 50, max: Duration::from_millis(5) }).await?;
    let socket = b.socket(["x"]).await?;
    let names: Vec<_> = (0..t.scaled(300, 60)).map(|number| number.to_string()).collect();
    for name in &names {
        a.emit(Target::room("x"), name).await?;
    }
    a.settle().await?;
    // The last repeats may come after the marker.
    eventually(t.timeout(), || "no repeat is counted".into(), async || b.metrics().repeats > 0).await?;
    check_eq(socket.names(), names, "events at the client")
}

pub(crate) async fn a_lost_message_is_noticed_at_the_next_one(t: TestCluster) -> Checked {
    let (a, b) = pair(&t, LoseNamed).await?;
    let socket = b.socket(["x"]).await?;
    let events = b.events();
    for name in ["one", "lost", "two"] {
        a.emit(Target::room("x"), name).await?;
    }
    let hole = b.wait_for_event(events, is_hole, "that something is missing").await?;
    let missed = Some(1);
    check_eq(hole, Event::Gap(Gap { cause: GapCause::Hole, missed }), "what is missing")?;
    a.settle().await?;
    socket.got(&["one", "two"])?;
    check_eq(b.metrics().missed, 1, "messages counted as missed")
}

pub(crate) async fn a_lost_last_message_is_noticed_at_a_heartbeat(t: TestCluster) -> Checked {
    let (a, b) = pair(&t, LoseNamed).await?;
    let socket = b.socket(["x"]).await?;
    let events = b.events();
    for name in ["one", "two", "three", "lost"] {
        a.emit(Target::room("x"), name).await?;
    }
    let hole = b.wait_for_event(events, is_hole, "that something is missing").await?;
    let missed = Some(1);
    check_eq(hole, Event::Gap(Gap { cause: GapCause::Hole, missed }), "what is missing")?;
    socket.got(&["one", "two", "three"])?;
    check_eq(b.metrics().missed, 1, "messages counted as missed")
}

pub(crate) async fn a_message_without_matching_sockets_does_not_count_as_missed(t: TestCluster) -> Checked {
    let (a, b) = pair(&t, LoseNamed).await?;
    let socket = b.socket(["x"]).await?;
    let events = b.events();
    for round in 0..20 {
        a.emit(Target::room(format!("empty-{round}")), "unwanted").await?;
        a.emit(Target::rooms([format!("empty-{round}"), "none".to_owned()]), "unwanted").await?;
        a.emit(Target::room("x").except("x"), "unwanted").await?;
        a.emit(Target::room("x").volatile(), "volatile").await?;
        a.emit(Target::room("x").local(), "local").await?;
    }
    a.server_side_emit(Payload::event("event", &())?).await?;
    a.fetch_sockets(Target::all()).await?;
    // Noticed at a heartbeat, whose numbers cover everything sent before.
    a.emit(Target::room("x"), "lost").await?;
    b.wait_for_event(events, is_hole, "that something is missing").await?;
    check_eq(b.metrics().missed, 1, "messages counted as missed, of which one was lost")?;
    socket.got(&["volatile"; 20])
}

pub(crate) async fn late_messages_are_missed_rather_than_delivered_out_of_order(t: TestCluster) -> Checked {
    let (a, b) = pair(&t, faults::Reorder { max: Duration::from_millis(3) }).await?;
    let socket = b.socket(["x"]).await?;
    let count = t.scaled(500, 100);
    for number in 0..count {
        a.emit(Target::room("x"), &number.to_string()).await?;
    }
    // A message sent after all delays have passed arrives, whatever happened before.
    let arrives =
        async || a.emit(Target::room("x"), "last").await.is_ok() && socket.names().iter().any(|name| name == "last");
    eventually(t.timeout(), || "nothing arrives any more".into(), arrives).await?;
    let numbers: Vec<usize> = socket.names().iter().map_while(|name| name.parse().ok()).collect();
    let is_in_order = numbers.windows(2).all(|pair| pair[0] < pair[1]);
    check(is_in_order, format!("events arrived out of order: {numbers:?}"))?;
    check(numbers.len() == count || b.metrics().missed > 0, "messages are missing, and none was counted")
}
