//! What happens when the server breaks or breaks off: nothing hangs, nothing is repeated, what is missing is said, and
//! streams miss nothing.

use std::time::Duration;

use trunkline_brokers::{Proxy, Redis};
use trunkline_conformance::kit::Failure;
use trunkline_core::Target;

use crate::support::{
    Wire, all_is_well, backend, cluster, expect_numbers, is_gap, is_lost, numbered, over_all, pair, send, server, until,
};

over_all! {
    a_server_may_be_killed_and_restarted,
    every_connection_may_be_killed_by_the_server,
    a_server_that_pauses_loses_nothing,
    a_server_that_pauses_for_long_is_left_and_found_again,
    a_connection_that_is_silently_dead_is_noticed,
    a_slow_consumer_is_cut_off_and_learns_what_it_missed,
}

async fn a_server_may_be_killed_and_restarted(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    let (lost_a, lost_b, gap) = (a.events(), b.events(), b.events());
    send(&a, 0..100).await?;
    expect_numbers(&there, 100).await?;
    server.kill().await.unwrap();
    a.wait_for_event(lost_a, is_lost, "of the loss").await?;
    b.wait_for_event(lost_b, is_lost, "of the loss").await?;
    send(&a, 100..200).await?;
    server.restart().await.unwrap();
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    all_is_well(wire, [&a, &b], &there, 200).await
}

/// The ids of all connections but the one that asks.
async fn connections(server: &Redis) -> Vec<String> {
    let list = server.cli(&["CLIENT", "LIST"]).await.unwrap();
    let others = list.lines().filter(|line| !line.contains("cmd=client"));
    others.filter_map(|line| line.split(' ').next()?.strip_prefix("id=").map(ToOwned::to_owned)).collect()
}

async fn every_connection_may_be_killed_by_the_server(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    let gap = b.events();
    let ids = connections(&server).await;
    assert!(ids.len() >= if wire != Wire::Streams { 4 } else { 6 }, "{ids:?}");
    for (index, id) in ids.iter().enumerate() {
        send(&a, index * 100..index * 100 + 50).await?;
        // It may have been given up already: a node that loses one connection may look after the others.
        let _ = server.cli(&["CLIENT", "KILL", "ID", id]).await;
        send(&a, index * 100 + 50..(index + 1) * 100).await?;
    }
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    all_is_well(wire, [&a, &b], &there, ids.len() * 100).await?;
    assert!(a.health().reconnects > 0 && b.health().reconnects > 0);
    Ok(())
}

async fn a_server_that_pauses_loses_nothing(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(wire, server.url(), "response_timeout=20s").await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..50).await?;
    server.cli(&["CLIENT", "PAUSE", "1000", "ALL"]).await.unwrap();
    send(&a, 50..100).await?;
    expect_numbers(&there, 100).await?;
    assert_eq!((b.metrics().gaps, b.metrics().missed, a.health().reconnects), (0, 0, 0));
    all_is_well(wire, [&a, &b], &there, 100).await
}

async fn a_server_that_pauses_for_long_is_left_and_found_again(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let quick = "response_timeout=400ms&connect_timeout=400ms&ping_interval=200ms&block=200ms";
    let quick = if wire != Wire::Streams { quick.trim_end_matches("&block=200ms") } else { quick };
    let [a, b] = pair(wire, server.url(), quick).await?;
    let there = b.socket(["r"]).await?;
    let (lost_a, lost_b) = (a.events(), b.events());
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    server.cli(&["CLIENT", "PAUSE", "4000", "ALL"]).await.unwrap();
    send(&a, 50..100).await?;
    a.wait_for_event(lost_a, is_lost, "of the loss").await?;
    b.wait_for_event(lost_b, is_lost, "of the loss").await?;
    all_is_well(wire, [&a, &b], &there, 100).await
}

async fn a_connection_that_is_silently_dead_is_noticed(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.node().await?;
    let far = backend(wire, &proxy.url(server.url()), "response_timeout=500ms&connect_timeout=500ms").await?;
    let b = cluster.build().over(far).join().await?;
    a.await_peers(1, Duration::from_secs(20)).await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (b.events(), b.events());
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    proxy.stall();
    send(&a, 50..100).await?;
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    proxy.cut();
    proxy.resume();
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    all_is_well(wire, [&a, &b], &there, 100).await
}

/// Pub/sub: the server cuts off subscribers for whom too much waits. Streams are fetched, not pushed.
async fn a_slow_consumer_is_cut_off_and_learns_what_it_missed(wire: Wire) -> Result<(), Failure> {
    const COUNT: usize = 800;
    let limit = ["--client-output-buffer-limit", "pubsub", "256kb", "64kb", "1"];
    let server = Redis::options().arguments(&limit).start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let patient = "response_timeout=25s&ping_interval=20s";
    let cluster = cluster(wire, server.url(), patient);
    let a = cluster.node().await?;
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), patient).await?).join().await?;
    a.await_peers(1, Duration::from_secs(20)).await?;
    let there = b.socket(["r"]).await?;
    let subscribers = async || server.cli(&["CLIENT", "LIST", "TYPE", "pubsub"]).await.unwrap().lines().count();
    assert_eq!(subscribers().await, 2);
    let gap = b.events();
    proxy.stall();
    for number in 0..COUNT {
        a.broadcast(Target::room("r"), numbered(number, 20_000)).await?;
    }
    if wire != Wire::Streams {
        until("the slow consumer is cut off", async || subscribers().await < 2).await;
    }
    proxy.resume();
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
        assert!(b.metrics().missed > 0);
    }
    all_is_well(wire, [&a, &b], &there, COUNT).await
}
