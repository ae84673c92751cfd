//! Rooms, as the server sees them.

use std::time::{Duration, Instant};

use serde_json::Value;
use trunkline_brokers::Nats;
use trunkline_core::{Room, Target};

use crate::member::{Member, config};

/// No number of a test's messages.
const END: u64 = u64::MAX;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_a_room_receive_none_of_its_traffic() {
    let server = Nats::options().monitored().start().await.unwrap();
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(Member::join(config(server.url())).await);
    }
    let room = Room::from("only there");
    members[3].enter(&room).await;
    for number in 0..1000 {
        members[0].emit(Target::room(room.clone()), number).await.unwrap();
    }
    members[0].emit(Target::all(), END).await.unwrap();
    assert_eq!(members[3].numbers_until(END).await.len(), 1000);
    for member in &mut members[1..3] {
        assert!(member.numbers_until(END).await.is_empty());
    }
    // The server's own count. A batch may carry many messages, so even one is told from none by its size.
    let connections: Value = serde_json::from_str(&server.page("/connz").await.unwrap()).unwrap();
    let sent = |index: usize| connections["connections"][index]["out_bytes"].as_u64().unwrap();
    let mut sent: Vec<_> = (0..4).map(sent).collect();
    sent.sort_unstable();
    assert!(sent[2] < 10_000, "three nodes got nothing of what was for the room: {sent:?}");
    assert!(sent[3] > 40_000, "one did: {sent:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_right_after_a_room_was_entered_arrives_a_thousand_times_of_a_thousand() {
    let server = Nats::start().await.unwrap();
    let sender = Member::join(config(server.url())).await;
    let mut heard = 0;
    for round in 0..10 {
        heard += entered_and_heard(&sender, server.url(), round).await;
    }
    assert_eq!(heard, 1000);
}

/// A new node enters a hundred rooms, each of them spoken to at once. How often it hears it.
pub(crate) async fn entered_and_heard(sender: &Member, url: &str, round: usize) -> usize {
    let mut receiver = Member::join(config(url)).await;
    for number in 0..100 {
        let room = Room::new(format!("room {round} {number}"));
        receiver.enter(&room).await;
        sender.emit(Target::room(room), number).await.unwrap();
    }
    sender.emit(Target::all(), END).await.unwrap();
    let heard = receiver.numbers_until(END).await.len();
    receiver.backend.transport.close().await;
    heard
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_rooms_are_entered_and_left_at_once_without_disturbing_others() {
    let server = Nats::options().monitored().start().await.unwrap();
    let member = Member::join(config(server.url())).await;
    let (sender, mut receiver) = (Member::join(config(server.url())).await, Member::join(config(server.url())).await);
    for number in 0..50_000 {
        member.enter(&Room::new(format!("room {number}"))).await;
    }
    let page: Value = serde_json::from_str(&server.page("/connz").await.unwrap()).unwrap();
    let subscriptions = page["connections"].as_array().unwrap().iter().map(|it| it["subscriptions"].as_u64().unwrap());
    // Two and the buckets, and one for the connection itself.
    assert!(subscriptions.max().unwrap() <= 258 + 1, "{page}");
    let start = Instant::now();
    let leaving = async {
        member.backend.transport.leave(&member.node).await.unwrap();
        start.elapsed()
    };
    let publishing = async {
        let mut latencies = Vec::new();
        for number in 0.. {
            let start = Instant::now();
            sender.emit(Target::all(), number).await.unwrap();
            while receiver.number().await != number {}
            latencies.push(start.elapsed());
            if number >= 200 {
                break;
            }
        }
        latencies.sort_unstable();
        latencies
    };
    let (left, latencies) = tokio::join!(leaving, publishing);
    let worst = latencies[latencies.len() - 1];
    println!(
        "left in {left:?}; publishing meanwhile took {:?} (median), {worst:?} (most)",
        latencies[latencies.len() / 2]
    );
    assert!(left < Duration::from_secs(1), "left in {left:?}");
    assert!(worst < Duration::from_millis(500), "a publish took {worst:?}");
}
