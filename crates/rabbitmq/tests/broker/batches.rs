//! How messages share batches.

use trunkline_core::{Room, Target};

use crate::{
    member::Member,
    support::{config, delivered, shared, until},
};

const MESSAGES: u64 = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_a_handler_emits_in_a_loop_share_batches() {
    let broker = shared().await;
    let room = Room::from("r");
    let sender = Member::join(config(broker.url(), "batches")).await;
    let mut receiver = Member::join(config(broker.url(), "batches")).await;
    receiver.enter(&room).await;
    // As a handler does: every message is awaited, and others may run in between.
    let emitting = tokio::spawn(async move {
        for _ in 0..MESSAGES {
            sender.emit(Target::room(room.clone())).await;
            tokio::task::yield_now().await;
        }
        sender.emit(Target::all()).await;
        sender
    });
    assert_eq!(receiver.targets().await.len() as u64, MESSAGES);
    emitting.await.unwrap();
    let id = receiver.node.id.as_str();
    let batches = async || {
        let counts = delivered(broker, "batches").await;
        counts.iter().find(|(queue, _)| queue.contains(id)).map_or(0, |(_, count)| *count)
    };
    until("the broker has counted", async || batches().await > 0).await;
    let batches = batches().await;
    println!("{batches} batches for {MESSAGES} messages");
    assert!(batches < MESSAGES / 4, "{batches} batches for {MESSAGES} messages");
}
