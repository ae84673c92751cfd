//! Rooms, as the broker sees them.

use std::time::{Duration, Instant};

use trunkline_core::{Room, Target};

use crate::{
    member::Member,
    support::{bindings, config, delivered, shared, until},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_without_a_room_receive_none_of_its_traffic() {
    let broker = shared().await;
    let mut members = Vec::new();
    for _ in 0..4 {
        members.push(Member::join(config(broker.url(), "quiet")).await);
    }
    let room = Room::from("only there");
    members[3].enter(&room).await;
    for _ in 0..1000 {
        members[0].emit(Target::room(room.clone())).await;
    }
    members[0].emit(Target::all()).await;
    assert_eq!(members[3].targets().await.len(), 1000);
    for member in &mut members[1..3] {
        assert!(member.targets().await.is_empty());
    }
    let counts = delivered(broker, "quiet").await;
    for (index, member) in members.iter().enumerate() {
        let (_, count) = counts.iter().find(|(queue, _)| queue.contains(member.node.id.as_str())).unwrap();
        // The one to all is a batch of its own.
        assert_eq!(*count > 1, index == 3, "{counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_right_after_a_room_was_entered_arrives_a_thousand_times_of_a_thousand() {
    let broker = shared().await;
    let sender = Member::join(config(broker.url(), "joining")).await;
    for round in 0..10 {
        let mut receiver = Member::join(config(broker.url(), "joining")).await;
        for room in 0..100 {
            let room = Room::new(format!("room {round} {room}"));
            receiver.enter(&room).await;
            sender.emit(Target::room(room)).await;
        }
        sender.emit(Target::all()).await;
        assert_eq!(receiver.targets().await.len(), 100, "round {round}");
        receiver.backend.transport.close().await;
    }
}

/// Enters so many rooms on one node, and returns it with two others.
async fn crowded(prefix: &str, rooms: usize) -> [Member; 3] {
    let broker = shared().await;
    let mut config = config(broker.url(), prefix);
    config.linger = Duration::from_millis(300);
    let member = Member::join(config.clone()).await;
    for number in 0..rooms {
        member.enter(&Room::new(format!("room {number}"))).await;
    }
    let bindings = bindings(broker, prefix).await;
    assert_eq!(bindings.values().copied().collect::<Vec<_>>(), [258], "all, the node itself, and every bucket");
    [member, Member::join(config.clone()).await, Member::join(config).await]
}

/// Sends from node to node until `work` is done, and for a second at least. Returns the longest time that a message
/// took.
async fn slowest<T>(sender: &Member, receiver: &mut Member, work: impl Future<Output = T>) -> (Duration, T) {
    let mut work = std::pin::pin!(work);
    let (start, mut slowest, mut done) = (Instant::now(), Duration::ZERO, None);
    while done.is_none() || start.elapsed() < Duration::from_secs(1) {
        let sent = Instant::now();
        let there_and_back = async {
            sender.emit(Target::all()).await;
            receiver.targets().await;
        };
        let mut there_and_back = std::pin::pin!(there_and_back);
        tokio::select! {
            () = &mut there_and_back => {}
            output = &mut work, if done.is_none() => {
                done = Some(output);
                there_and_back.await;
            }
        }
        slowest = slowest.max(sent.elapsed());
    }
    (slowest, done.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_rooms_go_with_their_node_without_disturbing_others() {
    let [member, sender, mut receiver] = crowded("leaving", 50_000).await;
    let leave = async {
        let start = Instant::now();
        member.backend.transport.leave(&member.node).await.unwrap();
        start.elapsed()
    };
    let (slowest, left) = slowest(&sender, &mut receiver, leave).await;
    println!("left in {left:?}, the slowest message took {slowest:?}");
    assert!(left < Duration::from_secs(1) && slowest < Duration::from_secs(1), "left in {left:?}, slowest {slowest:?}");
    assert_eq!(bindings(shared().await, "leaving").await.len(), 2, "the queue is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_thousand_rooms_are_left_one_by_one_without_disturbing_others() {
    let [member, sender, mut receiver] = crowded("emptying", 50_000).await;
    let leave = async {
        let start = Instant::now();
        for number in 0..50_000 {
            member.leave(&Room::new(format!("room {number}"))).await;
        }
        start.elapsed()
    };
    let (slowest, left) = slowest(&sender, &mut receiver, leave).await;
    println!("left in {left:?}, the slowest message took {slowest:?}");
    assert!(left < Duration::from_secs(1) && slowest < Duration::from_secs(1), "left in {left:?}, slowest {slowest:?}");
    let few = async || bindings(shared().await, "emptying").await.values().all(|count| *count == 2);
    until("every bucket is given up", few).await;
}
