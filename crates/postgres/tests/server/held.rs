//! What is held during an outage, and to whom it goes.

use trunkline_brokers::Proxy;
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::{Event, Target};

use crate::support::{TIMEOUT, cluster, expect_numbers, named, numbered, numbers, server, until};

/// Nodes that know each other, each behind a proxy of its own.
async fn join<const N: usize>(url: &str, proxies: &[Proxy; N], parameters: &str) -> Result<Vec<TestNode>, Failure> {
    let cluster = cluster(url, parameters);
    let mut nodes = Vec::new();
    for proxy in proxies {
        nodes.push(cluster.build().over(named(&proxy.url(url), "held", parameters).await?).join().await?);
    }
    for node in &nodes {
        node.await_peers(N - 1, TIMEOUT).await?;
    }
    Ok(nodes)
}

/// All nodes lose the server. Only those behind the proxies that are `away` cannot reach it again.
async fn outage(nodes: &[TestNode], proxies: &[Proxy], away: &[&Proxy]) -> Result<(), Failure> {
    let losses: Vec<_> = nodes.iter().map(|node| node.events()).collect();
    away.iter().for_each(|proxy| proxy.refuse());
    proxies.iter().for_each(Proxy::cut);
    for (node, lost) in nodes.iter().zip(losses) {
        node.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    }
    Ok(())
}

async fn send(node: &TestNode, numbers: std::ops::Range<usize>) -> Result<(), Failure> {
    for number in numbers {
        node.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 10 })).await?;
    }
    Ok(())
}

async fn a_peer_is_back_later(parameters: &str) -> Result<(), Failure> {
    let server = server().await;
    let proxies = [Proxy::start(server.port()).await.unwrap(), Proxy::start(server.port()).await.unwrap()];
    let nodes = join(server.url(), &proxies, parameters).await?;
    let ([a, b], [_, second]) = (nodes.as_array().unwrap(), &proxies);
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    send(a, 0..10).await?;
    expect_numbers(&there, 10).await?;
    let mut events = b.events();
    // A short one, in which the pauses between attempts to connect do not grow.
    outage(&nodes, &proxies, &[second]).await?;
    send(a, 10..100).await?;
    until("one node is back", async || a.health().connected).await;
    second.resume();
    expect_numbers(&there, 100).await?;
    expect_numbers(&here, 100).await?;
    for node in &nodes {
        until("the connections stand", async || node.health().connected).await;
    }
    a.settle().await?;
    let gaps: Vec<_> =
        std::iter::from_fn(|| events.try_recv().ok()).filter(|event| matches!(event, Event::Gap(_))).collect();
    assert!(gaps.len() <= 1, "{gaps:?}");
    assert_eq!(b.metrics().missed, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_waits_for_a_peer_that_is_back_later() -> Result<(), Failure> {
    a_peer_is_back_later("").await
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_history_it_need_not_wait() -> Result<(), Failure> {
    a_peer_is_back_later("history=on").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_does_not_wait_long_for_a_peer_that_stays_away() -> Result<(), Failure> {
    let server = server().await;
    let proxy = async || Proxy::start(server.port()).await.unwrap();
    let proxies = [proxy().await, proxy().await, proxy().await];
    let nodes = join(server.url(), &proxies, "").await?;
    let ([a, b, c], [first, second, third]) = (nodes.as_array().unwrap(), &proxies);
    let (there, nowhere) = (b.socket(["r"]).await?, c.socket(["r"]).await?);
    outage(&nodes, &proxies, &[first, second, third]).await?;
    send(a, 0..100).await?;
    second.resume();
    until("one node is back", async || b.health().connected).await;
    first.resume();
    expect_numbers(&there, 100).await?;
    assert!(numbers(&nowhere).is_empty());
    Ok(())
}
