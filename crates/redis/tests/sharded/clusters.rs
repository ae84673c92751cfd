//! Redis Clusters whose slots move, and whose servers die.

use std::time::Duration;

use tokio::time::interval;
use trunkline_brokers::RedisCluster;
use trunkline_conformance::kit::{TestNode, TestSocket};
use trunkline_core::{Payload, Target};

use crate::support::{Member, cluster, is_gap, is_lost, numbers, send, until};

/// Sends on until something that is sent from now on arrives, and returns the next number.
async fn until_heard(from: &TestNode, there: &TestSocket, begun: usize) -> usize {
    let mut number = begun;
    let mut pace = interval(Duration::from_millis(5));
    let sending = async {
        loop {
            pace.tick().await;
            // Given up in the middle, it may have been sent.
            number += 1;
            send(from, number - 1).await;
        }
    };
    let heard = async || numbers(there).last().is_some_and(|last| *last >= begun);
    tokio::select! {
        () = until("messages arrive", heard) => {}
        () = sending => {}
    }
    number
}

/// Everything works in both directions.
async fn all_is_well([a, b]: [&TestNode; 2]) {
    for node in [a, b] {
        until("the connections stand", async || node.health().connected).await;
        node.wait_for_peers(1).await.unwrap();
    }
    for (asks, answers) in [(a, b), (b, a)] {
        answers.answer_server_side(Some(Payload::value(&1).unwrap()));
        let got = asks.server_side_emit_with_ack(Payload::event("ask", &()).unwrap(), None).await.unwrap();
        assert_eq!(got.len(), 1);
        assert_eq!(asks.fetch_sockets(Target::room("r")).await.unwrap().len(), 1);
    }
}

/// A slot moves to another server while messages travel on a channel in it.
async fn a_slot_moves(subscription: &str, channel: &str) {
    let servers = RedisCluster::start().await.unwrap();
    let [a, b] = cluster(servers.url(), &format!("cluster=on&subscription={subscription}")).nodes().await.unwrap();
    let there = b.socket(["r"]).await.unwrap();
    let mut number = until_heard(&a, &there, 0).await;
    let slot = servers.slot(channel).await.unwrap();
    // There and back again: each time the subscriptions follow.
    for _ in 0..2 {
        let (gap, owner) = (b.events(), servers.owner(slot).await.unwrap().port());
        let target = servers.nodes().iter().find(|node| node.port() != owner).unwrap();
        let moving = servers.move_slot(slot, target);
        let mut pace = interval(Duration::from_millis(2));
        let sending = async {
            for _ in 0..100 {
                pace.tick().await;
                send(&a, number).await;
                number += 1;
            }
        };
        let (moved, ()) = tokio::join!(moving, sending);
        moved.unwrap();
        b.wait_for_event(gap, is_gap, "of a gap").await.unwrap();
        number = until_heard(&a, &there, number).await;
    }
    all_is_well([&a, &b]).await;
    assert_eq!(b.metrics().connections_lost, 0, "the connections stood all the time");
    numbers(&there);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_channel_of_a_room_follows_its_slot() {
    a_slot_moves("dynamic", "socket.io#/#r#").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_channel_of_a_namespace_follows_its_slot() {
    a_slot_moves("static", "socket.io#/#").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_a_cluster_may_be_killed_and_restarted() {
    let servers = RedisCluster::start().await.unwrap();
    let [a, b] = cluster(servers.url(), "cluster=on").nodes().await.unwrap();
    let there = b.socket(["r"]).await.unwrap();
    let number = until_heard(&a, &there, 0).await;
    let slot = servers.slot("socket.io#/#r#").await.unwrap();
    let owner = servers.owner(slot).await.unwrap();
    let (lost, gap) = (b.events(), b.events());
    owner.kill().await.unwrap();
    b.wait_for_event(lost, is_lost, "of the loss").await.unwrap();
    owner.restart().await.unwrap();
    b.wait_for_event(gap, is_gap, "of a gap").await.unwrap();
    until_heard(&a, &there, number).await;
    all_is_well([&a, &b]).await;
    assert_eq!(b.metrics().gaps, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_server_dies_for_good_everything_goes_to_its_replica() {
    let mut servers = RedisCluster::start().await.unwrap();
    let slot = servers.slot("socket.io#/#r#").await.unwrap();
    let port = servers.owner(slot).await.unwrap().port();
    let master = servers.nodes().iter().position(|node| node.port() == port).unwrap();
    servers.add_replica(master).await.unwrap();
    let alive = servers.nodes().iter().find(|node| node.port() != port).unwrap().url();
    let [a, b] = cluster(alive, "cluster=on").nodes().await.unwrap();
    let there = b.socket(["r"]).await.unwrap();
    let number = until_heard(&a, &there, 0).await;
    let (lost, gap) = (b.events(), b.events());
    servers.nodes()[master].kill().await.unwrap();
    b.wait_for_event(lost, is_lost, "of the loss").await.unwrap();
    b.wait_for_event(gap, is_gap, "of a gap").await.unwrap();
    until_heard(&a, &there, number).await;
    all_is_well([&a, &b]).await;
    // One for each connection that was lost: a busy cluster may send away the first new one.
    let metrics = b.metrics();
    assert!((1..=metrics.connections_lost).contains(&metrics.gaps), "{metrics:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_connection_to_publish_and_one_to_receive_per_server() {
    let servers = RedisCluster::start().await.unwrap();
    let mut member = Member::join(servers.url(), "cluster=on").await;
    let other = Member::join(servers.url(), "cluster=on&subscription=static").await;
    for room in 0..60 {
        member.enter(room).await;
        member.emit(Target::room(room), 1).await;
    }
    other.emit(Target::all(), 1).await;
    assert_eq!(member.number().await, 1);
    other.backend.transport.close().await;
    for server in servers.nodes() {
        for name in ["name=trunkline-publish", "name=trunkline-receive"] {
            // The server takes a moment to notice that the other one is gone.
            let connections = async || server.cli(&["CLIENT", "LIST"]).await.unwrap().matches(name).count();
            until("there is one", async || connections().await == 1).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_not_announced_is_named() {
    let servers = RedisCluster::start().await.unwrap();
    let elsewhere = servers.slot("socket.io#/#").await.unwrap();
    let owner = servers.owner(elsewhere).await.unwrap().port();
    let wrong = servers.nodes().iter().find(|node| node.port() != owner).unwrap();
    let failure = cluster(wrong.url(), "").node().await.unwrap_err();
    assert!(failure.to_string().contains("cluster=on"), "{failure}");
}
