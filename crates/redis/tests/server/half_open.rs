//! Connections that are half-open, and nodes that have one of their connections back and not yet the other.

use std::time::{Duration, Instant};

use tokio::sync::broadcast::Receiver;
use trunkline_brokers::{Proxy, Redis};
use trunkline_conformance::kit::{Failure, TestNode, TestSocket};
use trunkline_core::{Event, Target};

use crate::support::{
    TIMEOUT, Wire, all_is_well, backend, cluster, expect_numbers, is_gap, is_lost, over_all, send, server, until,
};

over_all! {
    a_reconnecting_node_ends_its_former_connection,
    a_former_connection_that_may_not_be_ended_is_no_other_node,
    a_node_without_subscriptions_does_not_come_and_go,
    a_publisher_that_is_back_first_waits_for_the_subscriptions,
}

const QUICK: &str = "response_timeout=500ms&connect_timeout=500ms";

async fn far_node(wire: Wire, server: &Redis, proxy: &Proxy, near: &str) -> Result<[TestNode; 2], Failure> {
    let cluster = cluster(wire, near, "");
    let a = cluster.node().await?;
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), QUICK).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    Ok([a, b])
}

/// Makes the connections of `b` half-open, and waits until it has noticed. Returns its client, which got 50 numbers.
async fn abandoned(wire: Wire, proxy: &Proxy, [a, b]: [&TestNode; 2]) -> Result<TestSocket, Failure> {
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (b.events(), b.events());
    send(a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    proxy.abandon();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    Ok(there)
}

async fn subscribers(server: &Redis) -> usize {
    server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap().lines().count()
}

async fn a_reconnecting_node_ends_its_former_connection(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let [a, b] = far_node(wire, &server, &proxy, server.url()).await?;
    let there = abandoned(wire, &proxy, [&a, &b]).await?;
    all_is_well(wire, [&a, &b], &there, 50).await?;
    assert_eq!(subscribers(&server).await, 2);
    Ok(())
}

/// Without the right to end connections, the server keeps the dead one, and goes on counting it.
async fn a_former_connection_that_may_not_be_ended_is_no_other_node(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    server.cli(&["ACL", "SETUSER", "default", "-client|kill"]).await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let [a, b] = far_node(wire, &server, &proxy, server.url()).await?;
    let there = abandoned(wire, &proxy, [&a, &b]).await?;
    until("the node is back beside its ghost", async || subscribers(&server).await == 3).await;
    all_is_well(wire, [&a, &b], &there, 50).await?;
    // The count is repeated now and then.
    for node in [&a, &b] {
        let begun = Instant::now();
        assert_eq!(node.fetch_sockets(Target::room("r")).await?.len(), 1);
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    }
    Ok(())
}

/// The changes of the other nodes that were told since.
fn changes(events: &mut Receiver<Event>) -> Vec<Event> {
    let told = std::iter::from_fn(|| events.try_recv().ok());
    told.filter(|event| matches!(event, Event::NodeUp(_) | Event::NodeDown(..))).collect()
}

/// Its publishing connection stands, and its subscriptions cannot be restored for a while.
async fn a_node_without_subscriptions_does_not_come_and_go(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let a = cluster(wire, server.url(), "").node().await?;
    let before = subscriber_ids(&server).await;
    let cluster = cluster(wire, server.url(), "");
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), QUICK).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = a.socket(["r"]).await?;
    let (lost, mut told) = (b.events(), a.events());
    proxy.refuse();
    for id in subscriber_ids(&server).await.iter().filter(|id| !before.contains(id)) {
        server.cli(&["CLIENT", "KILL", "ID", id]).await.unwrap();
    }
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    for number in 0..50 {
        send(&b, number..number + 1).await?;
        // Each of these would be a sign of life, and each count denies it.
        let _ = a.fetch_sockets(Target::room("r").partial()).await?;
    }
    assert!(b.health().queued_bytes > 0, "what is sent waits for the subscriptions");
    proxy.resume();
    expect_numbers(&there, 50).await?;
    a.wait_for_peers(1).await?;
    let told = changes(&mut told);
    assert!(told.len() <= 2, "{told:?}");
    Ok(())
}

async fn subscriber_ids(server: &Redis) -> Vec<String> {
    let list = server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap();
    list.lines().filter_map(|line| line.split(' ').next()?.strip_prefix("id=").map(ToOwned::to_owned)).collect()
}

/// The publisher notices first that its connection is half-open: whether the subscriptions stand is asked at once, and
/// not when they have been silent for long.
async fn a_publisher_that_is_back_first_waits_for_the_subscriptions(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.node().await?;
    let patient = format!("{QUICK}&ping_interval=60s");
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), &patient).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = a.socket(["r"]).await?;
    proxy.abandon();
    send(&b, 0..50).await?;
    expect_numbers(&there, 50).await?;
    assert_eq!(subscribers(&server).await, 2, "the subscriptions are back over a new connection");
    all_is_well(wire, [&b, &a], &there, 50).await
}
