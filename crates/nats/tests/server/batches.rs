//! How messages share batches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use trunkline_brokers::{Nats, Proxy};
use trunkline_core::{Room, Target};

use crate::member::{Member, config};

const MESSAGES: u64 = 20_000;

/// As a handler does: every message is awaited, and others may run in between.
async fn emit_in_a_loop(sender: Member, room: Room) -> Member {
    for number in 0..MESSAGES {
        sender.emit_padded(Target::room(room.clone()), number, 100).await.unwrap();
        tokio::task::yield_now().await;
    }
    sender
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_a_handler_emits_in_a_loop_share_batches() {
    let server = Nats::start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let far = config(&format!("nats://127.0.0.1:{}", proxy.port()));
    let room = Room::from("r");
    let (sender, mut receiver) = (Member::join(far).await, Member::join(config(server.url())).await);
    receiver.enter(&room).await;
    // The window, not the scheduler of this machine, decides how many messages share a batch.
    proxy.delay(Duration::from_millis(5));
    let batches = count_batches(&server).await;
    let emitting = tokio::spawn(emit_in_a_loop(sender, room));
    for number in 0..MESSAGES {
        assert_eq!(receiver.number().await, number);
    }
    emitting.await.unwrap();
    let batches = batches.load(Ordering::Relaxed);
    println!("{batches} batches for {MESSAGES} messages");
    assert!(batches > 0 && batches < MESSAGES as usize / 8, "{batches} batches for {MESSAGES} messages");
}

/// Counts what is published to rooms, over a connection of its own.
async fn count_batches(server: &Nats) -> Arc<AtomicUsize> {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut published = client.subscribe("trunkline.*.room.*").await.unwrap();
    client.flush().await.unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    tokio::spawn({
        let count = Arc::clone(&count);
        async move {
            while published.next().await.is_some() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_messages_do_not_wait_for_a_round_trip() {
    const DELAY: Duration = Duration::from_secs(1);
    let server = Nats::start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let mut far = config(&format!("nats://127.0.0.1:{}", proxy.port()));
    far.ping_interval = Duration::from_secs(30);
    let (sender, mut receiver) = (Member::join(far).await, Member::join(config(server.url())).await);
    proxy.delay(DELAY);
    let start = std::time::Instant::now();
    sender.emit(Target::all(), 1).await.unwrap();
    assert_eq!(receiver.number().await, 1);
    // The first one is not confirmed yet: that takes as long again.
    sender.emit(Target::all(), 2).await.unwrap();
    assert_eq!(receiver.number().await, 2);
    let took = start.elapsed();
    assert!(took >= 2 * DELAY && took < 3 * DELAY, "one way each: {took:?}");
}
