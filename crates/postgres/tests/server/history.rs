//! The events table: its order, what it survives, and how it ends.

use std::sync::Arc;

use trunkline_brokers::Proxy;
use trunkline_conformance::kit::{Failure, TestNode, TestSocket};
use trunkline_core::{Event, Offset, Room, Target};

use crate::support::{
    LISTENS, PUBLISHES, TIMEOUT, cluster, expect_numbers, named, numbered, numbers, restart, server, terminate, until,
};

/// Nodes that know each other, each with connections that have its name at the server.
async fn nodes<const N: usize>(url: &str, names: [&str; N], parameters: &str) -> Result<[TestNode; N], Failure> {
    let cluster = cluster(url, "");
    let parameters = format!("history=on&{parameters}");
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(cluster.build().over(named(url, name, &parameters).await?).join().await?);
    }
    for node in &nodes {
        node.await_peers(N - 1, TIMEOUT).await?;
    }
    Ok(nodes.try_into().unwrap())
}

fn offsets(socket: &TestSocket) -> Vec<i64> {
    let offset = |offset: &Option<Offset>| offset.as_ref().unwrap().as_str().parse().unwrap();
    socket.packets().iter().map(|packet| offset(&packet.offset)).collect()
}

fn sorted(mut offsets: Vec<i64>) -> Vec<i64> {
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_concurrent_publishers_are_in_the_order_of_delivery() -> Result<(), Failure> {
    const EACH: usize = 400;
    let server = server().await;
    let nodes = nodes(server.url(), ["a", "b", "c"], "").await?.map(Arc::new);
    let mut sockets = Vec::new();
    for node in &nodes {
        sockets.push(node.socket(["r"]).await?);
    }
    let emitting = nodes.clone().map(|node| {
        tokio::spawn(async move {
            for number in 0..EACH {
                let bytes = if number % 50 == 0 { 10_000 } else { 50 };
                node.broadcast(Target::room("r"), numbered(number, bytes)).await.unwrap();
                if number % 7 == 0 {
                    tokio::task::yield_now().await;
                }
            }
        })
    });
    for emit in emitting {
        emit.await.unwrap();
    }
    for socket in &sockets {
        socket.wait_for(3 * EACH).await?;
        assert_eq!(offsets(socket), sorted(offsets(&sockets[0])), "offsets grow, and are the same everywhere");
    }
    let all = offsets(&sockets[0]);
    for index in [0, 1, EACH, 3 * EACH - 2, 3 * EACH - 1] {
        let since = Offset::new(all[index].to_string()).unwrap();
        let missed = nodes[0].replay(since, &[Room::from("r")]).await?;
        let replayed: Vec<i64> = missed.iter().map(|missed| missed.offset.as_str().parse().unwrap()).collect();
        assert_eq!(replayed, all[index + 1..]);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_caught_up_with_and_no_gap() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = nodes(server.url(), ["a", "b"], "").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let mut events = b.events();
    for round in 0..5 {
        terminate(&server, "b", LISTENS).await;
        for number in round * 100..(round + 1) * 100 {
            let bytes = if number % 10 == 0 { 20_000 } else { 50 };
            a.broadcast(Target::room("r"), numbered(number, bytes)).await?;
            // What has to be caught up with does not hide among what is stored only for clients.
            a.sockets_join(Target::room("nobody"), vec![Room::from("x")]).await?;
        }
    }
    expect_numbers(&there, 500).await?;
    expect_numbers(&here, 500).await?;
    assert!(b.health().reconnects > 0);
    // Heartbeats have told by now what else there was.
    a.settle().await?;
    while let Ok(event) = events.try_recv() {
        assert!(!matches!(event, Event::Gap(_)), "{event:?}");
    }
    assert_eq!((b.metrics().gaps, b.metrics().missed), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_when_the_server_crashes() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = nodes(server.url(), ["a", "b"], "").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    const COUNT: usize = 3_000;
    for number in 0..COUNT {
        if number % 1_000 == 500 {
            restart(&server).await;
        }
        let bytes = if number % 50 == 0 { 20_000 } else { 50 };
        a.broadcast(Target::room("r"), numbered(number, bytes)).await?;
    }
    expect_numbers(&there, COUNT).await?;
    expect_numbers(&here, COUNT).await?;
    assert_eq!((b.metrics().gaps, a.metrics().gaps), (0, 0));
    let repeats = "SELECT count(*) - count(DISTINCT (origin, number)) FROM socket_io_events WHERE origin IS NOT NULL";
    assert_eq!(server.sql(repeats).await.unwrap().trim(), "0");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_sent_again_is_stored_once() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = nodes(server.url(), ["a", "b"], "").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    const COUNT: usize = 4_000;
    for number in 0..COUNT {
        if number % 100 == 0 {
            terminate(&server, "a", PUBLISHES).await;
        }
        a.broadcast(Target::room("r"), numbered(number, 50)).await?;
    }
    expect_numbers(&there, COUNT).await?;
    expect_numbers(&here, COUNT).await?;
    assert_eq!(b.metrics().gaps, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_was_trimmed_too_far_is_a_gap() -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let trimmed = "history=on&history_messages=20&cleanup_interval=200ms";
    let cluster = cluster(server.url(), trimmed);
    let a = cluster.node().await?;
    let b = cluster.build().over(named(&proxy.url(server.url()), "b", trimmed).await?).join().await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    let events = b.events();
    proxy.refuse();
    proxy.cut();
    for number in 0..100 {
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    let count = async || server.sql("SELECT count(*) FROM socket_io_events").await.unwrap();
    until("the table is trimmed", async || count().await.trim() == "20").await;
    proxy.resume();
    let is_trimmed = |event: &Event| matches!(event, Event::Gap(gap) if gap.missed == Some(80));
    b.wait_for_event(events, is_trimmed, "of a trimmed history").await?;
    there.wait_for(20).await?;
    assert_eq!(numbers(&there), (80..100).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_message_is_never_trimmed() -> Result<(), Failure> {
    let server = server().await;
    let [a] = nodes(server.url(), ["a"], "history_ttl=100ms&cleanup_interval=100ms").await?;
    let socket = a.socket(["r"]).await?;
    for number in 0..50 {
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    expect_numbers(&socket, 50).await?;
    let count = async || server.sql("SELECT count(*) FROM socket_io_events").await.unwrap();
    until("all but the last are trimmed", async || count().await.trim() == "1").await;
    let last = Offset::new(offsets(&socket)[49].to_string()).unwrap();
    assert_eq!(a.replay(last, &[]).await?, []);
    let first = Offset::new(offsets(&socket)[0].to_string()).unwrap();
    let error = a.replay(first, &[]).await.unwrap_err();
    assert_eq!(error.kind(), trunkline_core::ErrorKind::HistoryLost);
    assert_eq!(numbers(&socket).len(), 50);
    Ok(())
}
