//! Completeness and order of the messages of one sender.

use futures_util::{FutureExt as _, future::try_join_all};
use trunkline_core::{Payload, Target};

use crate::kit::{Checked, Packet, TestCluster, TestNode, check, check_eq};

/// The event `sender-number` with about `bytes` bytes of text.
fn numbered(sender: &str, number: usize, bytes: usize) -> Payload {
    let text = format!(r#"["{sender}-{number}","{}"]"#, "x".repeat(bytes.saturating_sub(20)));
    Payload::from_trusted_json(text, Vec::new())
}

/// The numbers of one sender's events, in the order of their arrival.
fn numbers<'a>(payloads: impl IntoIterator<Item = &'a Payload>, sender: &str) -> Vec<usize> {
    let number = |payload: &Payload| payload.event_name()?.strip_prefix(sender)?.strip_prefix('-')?.parse().ok();
    payloads.into_iter().filter_map(number).collect()
}

#[track_caller]
fn check_in_order(packets: &[Packet], sender: &str, count: usize) -> Checked {
    let payloads = packets.iter().map(|packet| &packet.payload);
    check_eq(numbers(payloads, sender), (0..count).collect::<Vec<_>>(), "numbers in the order of their arrival")
}

/// Broadcasts `count` small events.
async fn send(node: &TestNode, target: &Target, sender: &str, count: usize) -> Checked {
    for number in 0..count {
        node.broadcast(target.clone(), numbered(sender, number, 100)).await?;
    }
    Ok(())
}

pub(crate) async fn ten_thousand_messages_of_all_sizes_arrive_complete_and_in_order(t: TestCluster) -> Checked {
    let (count, most) = (t.scaled(10_000, 1000), t.scaled_within_limit(1_000_000).await?);
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    for number in 0..count {
        let bytes = match number {
            _ if number % 500 == 499 => most,
            _ if number % 20 == 19 => 20_000,
            _ => 100,
        };
        a.broadcast(Target::room("x"), numbered("a", number, bytes)).await?;
    }
    check_in_order(&socket.wait_for(count).await?, "a", count)
}

pub(crate) async fn a_small_message_never_overtakes_a_big_one(t: TestCluster) -> Checked {
    let most = t.scaled_within_limit(1_000_000).await?;
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    for number in 0..20 {
        let bytes = if number % 2 == 0 { most } else { 20 };
        a.broadcast(Target::room("x"), numbered("a", number, bytes)).await?;
    }
    check_in_order(&socket.wait_for(20).await?, "a", 20)
}

pub(crate) async fn the_last_message_before_a_pause_arrives(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    for round in 1..=20 {
        a.emit(Target::room("x"), "last").await?;
        socket.wait_for(round).await?;
    }
    Ok(())
}

pub(crate) async fn each_sender_keeps_its_own_order(t: TestCluster) -> Checked {
    let count = t.scaled(1000, 100);
    let [a, b, c, d] = t.nodes().await?;
    let socket = d.socket(["x"]).await?;
    let room = Target::room("x");
    let senders = [(&a, "a"), (&b, "b"), (&c, "c")].map(|(node, name)| send(node, &room, name, count));
    try_join_all(senders).await?;
    let packets = socket.wait_for(3 * count).await?;
    ["a", "b", "c"].iter().try_for_each(|name| check_in_order(&packets, name, count))
}

pub(crate) async fn broadcasts_of_concurrent_tasks_arrive_complete(t: TestCluster) -> Checked {
    let count = t.scaled(100, 20);
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    let room = Target::room("x");
    let names: Vec<_> = (0..16).map(|task| format!("task-{task}")).collect();
    try_join_all(names.iter().map(|name| send(&a, &room, name, count))).await?;
    let packets = socket.wait_for(16 * count).await?;
    names.iter().try_for_each(|name| check_in_order(&packets, name, count))
}

pub(crate) async fn messages_to_one_room_keep_their_order_among_others(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let count = t.scaled(500, 100);
    let sockets = [b.socket(["x"]).await?, b.socket(["y"]).await?];
    for number in 0..count {
        a.broadcast(Target::room("x"), numbered("x", number, 50)).await?;
        a.broadcast(Target::room("y"), numbered("y", number, 5000)).await?;
    }
    check_in_order(&sockets[0].wait_for(count).await?, "x", count)?;
    check_in_order(&sockets[1].wait_for(count).await?, "y", count)
}

pub(crate) async fn messages_keep_their_order_whatever_their_rooms(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x", "y", "z"]).await?;
    let targets = [Target::room("x"), Target::all(), Target::room("y"), Target::rooms(["x", "z"]), Target::room("z")];
    let count = t.scaled(500, 100);
    for number in 0..count {
        a.broadcast(targets[number % targets.len()].clone(), numbered("a", number, number * 10)).await?;
    }
    // A broadcast before a disconnect arrives before the client is disconnected.
    a.disconnect_sockets(Target::room("y"), false).await?;
    socket.wait_for_disconnect().await?;
    check_in_order(&socket.packets(), "a", count)
}

pub(crate) async fn acknowledged_and_plain_broadcasts_keep_their_order(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
    let (count, mut acknowledged) = (t.scaled(200, 61), Vec::new());
    for number in 0..count {
        let payload = numbered("a", number, number * 10);
        if number % 3 == 0 {
            acknowledged.push(a.broadcast_with_ack(Target::room("x"), payload).await?);
        } else {
            a.broadcast(Target::room("x"), payload).await?;
        }
    }
    for socket in &sockets {
        check_in_order(&socket.wait_for(count).await?, "a", count)?;
    }
    for acks in acknowledged {
        check_eq(acks.collect().await?.len(), 2, "acknowledgements")?;
    }
    Ok(())
}

pub(crate) async fn joins_and_broadcasts_apply_in_the_order_of_their_calls(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let socket = b.socket([""; 0]).await?;
    for _ in 0..50 {
        a.sockets_join(Target::room(socket.room()), vec!["x".into()]).await?;
        a.emit(Target::room("x"), "inside").await?;
        a.sockets_leave(Target::room(socket.room()), vec!["x".into()]).await?;
        a.emit(Target::room("x"), "outside").await?;
    }
    a.settle().await?;
    socket.got(&["inside"; 50])
}

pub(crate) async fn what_is_done_to_sockets_comes_behind_what_was_sent_before(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    for round in 0..20 {
        let sockets = [a.socket(["x"]).await?, b.socket(["x"]).await?];
        a.emit(Target::room("x"), "bye").await?;
        if round % 2 == 0 {
            a.disconnect_sockets(Target::room("x"), false).await?;
        } else {
            a.sockets_leave(Target::room("x"), vec!["x".into()]).await?;
        }
        let own = a.fetch_sockets(Target::room("x").local()).await?;
        check_eq(own.len(), 0, "own sockets in the room when the call has returned")?;
        a.emit(Target::room("x"), "too late").await?;
        a.settle().await?;
        sockets.iter().try_for_each(|socket| socket.got(&["bye"]))?;
    }
    Ok(())
}

pub(crate) async fn a_dropped_call_sends_its_message_whole_or_not_at_all(t: TestCluster) -> Checked {
    let count = t.scaled(200, 50);
    let [a, b] = t.nodes().await?;
    let socket = b.socket(["x"]).await?;
    for number in 0..count {
        // Polled once, and dropped if it has to wait.
        let _ = a.broadcast(Target::room("x"), numbered("a", number, 5000)).now_or_never();
    }
    a.broadcast(Target::room("x"), numbered("a", count, 5000)).await?;
    a.settle().await?;
    let packets = socket.packets();
    let arrived = numbers(packets.iter().map(|packet| &packet.payload), "a");
    check_eq(arrived.len(), packets.len(), "events that arrived whole")?;
    check_eq(arrived.last(), Some(&count), "the last event")?;
    check(arrived.is_sorted_by(|one, next| one < next), format!("repeated or out of order: {arrived:?}"))?;
    let is_whole = |(packet, number): (&Packet, &usize)| packet.payload.same_meaning(&numbered("a", *number, 5000));
    check(packets.iter().zip(&arrived).all(is_whole), "an event is not what was sent")?;
    check_eq(b.metrics().missed, 0, "messages counted as missed")
}

pub(crate) async fn server_side_events_keep_their_order(t: TestCluster) -> Checked {
    let [a, b] = t.nodes().await?;
    let count = t.scaled(500, 100);
    let big = t.within_limit(20_000).await?;
    for number in 0..count {
        a.server_side_emit(numbered("a", number, if number % 20 == 19 { big } else { number })).await?;
    }
    let events = b.wait_for_server_side_events(count).await?;
    let numbers = numbers(events.iter().map(|event| &event.payload), "a");
    check_eq(numbers, (0..count).collect::<Vec<_>>(), "numbers in the order of their arrival")
}
