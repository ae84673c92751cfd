//! Bursts that a socket's buffer cannot hold.

use std::time::Duration;

use trunkline_core::Payload;
use trunkline_socketioxide::BacklogLimits;

use crate::kit::{Client, Options, Server, pair, servers};

async fn burst(a: &Server, count: u32) {
    for number in 0..count {
        a.io.emit("tick", &number).await.unwrap();
    }
    a.io.emit("end", &()).await.unwrap();
}

fn numbers(events: &[Payload]) -> Vec<u32> {
    events.iter().map(|event| event.arguments::<(u32,)>().unwrap().0).collect()
}

#[tokio::test]
async fn a_burst_far_beyond_the_buffer_arrives_whole_and_in_order_on_one_thread() {
    let [a, b] = pair().await;
    let mut clients = [Client::of(&a, &[]).await, Client::of(&b, &[]).await];
    burst(&a, 5000).await;
    for client in &mut clients {
        assert_eq!(numbers(&client.until("end").await), (0..5000).collect::<Vec<_>>());
    }
    assert_eq!(b.root().metrics().dropped_by_sockets, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_far_beyond_the_buffer_arrives_whole_and_in_order_on_two_threads() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    burst(&a, 5000).await;
    assert_eq!(numbers(&client.until("end").await), (0..5000).collect::<Vec<_>>());
    assert_eq!(b.root().metrics().dropped_by_sockets, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_loses_what_exceeds_its_backlog_and_holds_up_no_other_client() {
    let configure = |builder: trunkline_socketioxide::ClusterBuilder| {
        builder.backlog(BacklogLimits { bytes: 1 << 20, ..BacklogLimits::default() })
    };
    let options = Options { configure, ..Options::new() };
    let [a, b] = servers([options.again(), options]).await;
    let _deaf = Client::of(&b, &["deaf"]).await;
    let mut listening = Client::of(&b, &[]).await;
    let big = "x".repeat(64 << 10);
    for _ in 0..500 {
        a.io.to("deaf").emit("big", &big).await.unwrap();
    }
    burst(&a, 500).await;
    assert_eq!(numbers(&listening.until("end").await), (0..500).collect::<Vec<_>>());
    let handle = b.root();
    assert!(handle.metrics().dropped_by_sockets > 0);
    assert!(handle.backlog() > 0);
}

#[tokio::test]
async fn a_socket_that_is_behind_keeps_its_order_in_broadcasts_to_many() {
    let configure = |builder: trunkline_socketioxide::ClusterBuilder| builder.paced_sockets(1);
    let options = Options { configure, ..Options::new() };
    let [a, b] = servers([options.again(), options]).await;
    let mut one = Client::of(&b, &["one"]).await;
    let mut other = Client::of(&b, &[]).await;
    b.cluster.pause(&b.io.get_socket(one.id.parse().unwrap()).unwrap());
    a.io.to("one").emit("tick", &0).await.unwrap();
    for number in 1..50 {
        a.io.emit("tick", &number).await.unwrap();
    }
    a.io.emit("end", &()).await.unwrap();
    assert_eq!(numbers(&other.until("end").await), (1..50).collect::<Vec<_>>());
    b.root().resume(&b.io.get_socket(one.id.parse().unwrap()).unwrap());
    assert_eq!(numbers(&one.until("end").await), (0..50).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_socket_is_disconnected_after_its_backlog_is_sent() {
    let [a, b] = pair().await;
    let mut client = Client::of(&b, &[]).await;
    let socket = b.io.get_socket(client.id.parse().unwrap()).unwrap();
    b.cluster.pause(&socket);
    a.io.emit("last", &()).await.unwrap();
    a.io.disconnect().await.unwrap();
    while b.root().backlog() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    b.root().resume(&socket);
    client.event("last").await;
    client.disconnected().await;
}
