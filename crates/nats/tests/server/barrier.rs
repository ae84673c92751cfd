//! Rooms that are entered behind one server of a cluster and spoken to behind another one.

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use trunkline_brokers::NatsCluster;
use trunkline_core::{Room, Target};

use crate::{
    interest::entered_and_heard,
    member::{Member, config},
    process::NodeProcess,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_behind_another_server_right_after_a_room_was_entered_arrives_a_thousand_times_of_a_thousand() {
    let cluster = NatsCluster::start().await.unwrap();
    let [first, second, third] = cluster.nodes() else { unreachable!() };
    let senders = [Member::join(config(first.url())).await, Member::join(config(second.url())).await];
    let mut heard = 0;
    for round in 0..10 {
        heard += entered_and_heard(&senders[round % 2], third.url(), round).await;
    }
    assert_eq!(heard, 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_connect_at_the_same_time_know_each_other() {
    let cluster = NatsCluster::start().await.unwrap();
    let [first, second, third] = cluster.nodes() else { unreachable!() };
    let (sender, mut receiver, _third) = tokio::join!(
        Member::join(config(first.url())),
        Member::join(config(second.url())),
        Member::join(config(third.url()))
    );
    for number in 0..200 {
        let room = Room::new(format!("room {number}"));
        receiver.enter(&room).await;
        sender.emit(Target::room(room), number).await.unwrap();
        assert_eq!(receiver.number().await, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_frozen_or_killed_holds_up_one_join() {
    let cluster = NatsCluster::start().await.unwrap();
    let [first, second, third] = cluster.nodes() else { unreachable!() };
    let (sender, mut receiver) = (Member::join(config(first.url())).await, Member::join(config(second.url())).await);
    let mut processes = Vec::new();
    for (round, interrupt) in [NodeProcess::freeze, NodeProcess::kill].into_iter().enumerate() {
        let process = NodeProcess::start(third.url()).await;
        interrupt(&process);
        processes.push(process);
        let start = Instant::now();
        let room = Room::new(format!("room {round}"));
        receiver.enter(&room).await;
        let waited = Duration::from_millis(900)..Duration::from_secs(5);
        assert!(waited.contains(&start.elapsed()), "it is waited for a second: {:?}", start.elapsed());
        let start = Instant::now();
        for number in 0..10 {
            receiver.enter(&Room::new(format!("room {round} {number}"))).await;
        }
        assert!(start.elapsed() < Duration::from_secs(5), "it is not waited for again: {:?}", start.elapsed());
        sender.emit(Target::room(room), 1).await.unwrap();
        assert_eq!(receiver.number().await, 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leaves_holds_up_no_join() {
    let cluster = NatsCluster::start().await.unwrap();
    let [first, second, _] = cluster.nodes() else { unreachable!() };
    let stays = Member::join(config(first.url())).await;
    let mut waited = Duration::ZERO;
    for number in 0..4 {
        let leaves = Member::join(config(second.url())).await;
        leaves.backend.transport.close().await;
        let start = Instant::now();
        stays.enter(&Room::new(format!("room {number}"))).await;
        waited += start.elapsed();
    }
    assert!(waited < Duration::from_secs(2), "four joins took {waited:?}");
}

/// As `docs/protocol.md` says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_in_another_language_asks_and_is_asked() {
    let cluster = NatsCluster::start().await.unwrap();
    let [member, peer, _] = cluster.nodes() else { unreachable!() };
    let member = Member::join(config(member.url())).await;
    let peer = async_nats::connect(peer.url()).await.unwrap();
    let hello = format!("peer {}", peer.server_info().server_id);
    let mut questions = peer.subscribe("trunkline.fence").await.unwrap();
    let answer = peer.request("trunkline.fence", hello.clone().into()).await.unwrap();
    assert_eq!(answer.payload.split(|byte| *byte == b' ').count(), 2, "who answers says where it is: {answer:?}");
    for number in 0..10 {
        let room = Room::new(format!("room {number}"));
        let answered = async {
            loop {
                let question = questions.next().await.unwrap();
                // Our own one is heard, too.
                if question.payload != hello {
                    break peer.publish(question.reply.unwrap(), hello.clone().into()).await.unwrap();
                }
            }
        };
        tokio::join!(member.enter(&room), answered);
    }
}
