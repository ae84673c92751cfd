//! What is published while the server is away, and what a stream no longer holds.

use std::time::{Duration, Instant};

use trunkline_brokers::Proxy;
use trunkline_conformance::kit::Failure;
use trunkline_core::{Emitter, ErrorKind, Event, GapCause, Target};

use crate::support::{
    TIMEOUT, Wire, all_is_well, backend, cluster, expect_numbers, is_gap, is_lost, numbered, numbers, over_all, pair,
    send, server, until,
};

over_all! {
    publishes_are_held_while_the_server_is_out_of_reach,
    with_the_server_down_a_full_queue_is_an_error_at_once,
    an_emitter_outlives_a_restart,
}

async fn publishes_are_held_while_the_server_is_out_of_reach(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.build().over(backend(wire, &proxy.url(server.url()), "").await?).join().await?;
    let b = cluster.node().await?;
    a.await_peers(1, TIMEOUT).await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let lost = a.events();
    proxy.refuse();
    proxy.cut();
    a.wait_for_event(lost, is_lost, "of the loss").await?;
    assert!(!a.health().connected);
    for number in 0..100 {
        let bytes = if number % 10 == 0 { 20_000 } else { 10 };
        a.broadcast(Target::room("r"), numbered(number, bytes)).await?;
    }
    if wire != Wire::Streams {
        // Local sockets are served meanwhile.
        expect_numbers(&here, 100).await?;
    }
    assert!(a.health().queued_bytes >= 10 * 20_000);
    proxy.resume();
    expect_numbers(&there, 100).await?;
    expect_numbers(&here, 100).await?;
    assert_eq!((b.metrics().gaps, b.metrics().missed), (0, 0));
    Ok(())
}

async fn with_the_server_down_a_full_queue_is_an_error_at_once(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let [a, _b] = pair(wire, server.url(), "outbox_bytes=64KiB").await?;
    let lost = a.events();
    server.kill().await.unwrap();
    a.wait_for_event(lost, is_lost, "of the loss").await?;
    until("the writer has noticed", async || {
        let begun = Instant::now();
        let error = loop {
            match a.broadcast(Target::all(), numbered(0, 1_000)).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::QueueFull);
        begun.elapsed() < Duration::from_secs(1)
    })
    .await;
    assert!(a.health().queued_bytes <= 64 << 10);
    Ok(())
}

async fn an_emitter_outlives_a_restart(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let node = cluster(wire, server.url(), "").node().await?;
    let socket = node.socket(["r"]).await?;
    let emitter = Emitter::new(&backend(wire, server.url(), "").await?);
    let (lost, gap) = (node.events(), node.events());
    server.kill().await.unwrap();
    node.wait_for_event(lost, is_lost, "of the loss").await?;
    server.restart().await.unwrap();
    if wire != Wire::Streams {
        node.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    for number in 0..100 {
        emitter.emit(Target::room("r"), numbered(number, 10)).await?;
    }
    expect_numbers(&socket, 100).await
}

fn is_trimmed(event: &Event) -> bool {
    matches!(event, Event::Gap(gap) if gap.cause == GapCause::Trimmed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_trimmed_past_a_reader_is_a_gap() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.node().await?;
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), "").await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (b.events(), b.events());
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    proxy.refuse();
    proxy.cut();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    let here = a.socket(["r"]).await?;
    send(&a, 50..100).await?;
    here.wait_for(50).await?;
    server.cli(&["XTRIM", "socket.io", "MAXLEN", "10"]).await.unwrap();
    proxy.resume();
    b.wait_for_event(gap, is_trimmed, "of a gap").await?;
    a.settle().await?;
    let expected: Vec<_> = (0..50).chain(90..100).collect();
    assert_eq!(numbers(&there), expected);
    assert_eq!(b.metrics().missed, 40);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_a_gap_and_begins_anew() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (b.events(), b.events());
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    // As a server without persistence that is restarted.
    server.cli(&["DEL", "socket.io"]).await.unwrap();
    server.kill().await.unwrap();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    server.restart().await.unwrap();
    b.wait_for_event(gap, is_trimmed, "of a gap").await?;
    send(&a, 50..100).await?;
    all_is_well(wire, [&a, &b], &there, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_outlives_a_restart() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..50).await?;
    let offset = there.wait_for(50).await?[39].offset.clone().unwrap();
    let lost = b.events();
    server.kill().await.unwrap();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    server.restart().await.unwrap();
    until("the connections stand", async || b.health().connected).await;
    let missed = b.replay(offset, &["r".into()]).await?;
    assert_eq!(missed.len(), 10);
    Ok(())
}

/// How often a node has told that history is gone.
fn trimmed(events: &mut tokio::sync::broadcast::Receiver<Event>) -> usize {
    std::iter::from_fn(|| events.try_recv().ok()).filter(is_trimmed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_deleted_under_the_nodes() -> Result<(), Failure> {
    for command in [&["FLUSHALL"][..], &["DEL", "socket.io"]] {
        let (wire, server) = (Wire::Streams, server().await);
        let [a, b] = pair(wire, server.url(), "").await?;
        let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
        send(&a, 0..50).await?;
        let offset = there.wait_for(50).await?[39].offset.clone().unwrap();
        let mut told = [a.events(), b.events()];
        let gaps = [a.events(), b.events()];
        server.cli(command).await.unwrap();
        for (node, gap) in [&a, &b].into_iter().zip(gaps) {
            node.wait_for_event(gap, is_trimmed, "of a gap").await?;
        }
        send(&a, 50..100).await?;
        expect_numbers(&here, 100).await?;
        all_is_well(wire, [&a, &b], &there, 100).await?;
        assert_eq!(told.each_mut().map(trimmed), [1, 1]);
        assert_eq!(b.replay(offset, &["r".into()]).await.unwrap_err().kind(), ErrorKind::HistoryLost);
    }
    Ok(())
}

/// What was written and not read yet is gone as well: others learn how much, own clients get it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_deleted_while_it_is_written() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let [a, b] = pair(wire, server.url(), "").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let mut told = [a.events(), b.events()];
    let gaps = [a.events(), b.events()];
    for number in 0..2_000 {
        send(&a, number..number + 1).await?;
        if number == 1_000 {
            server.cli(&["DEL", "socket.io"]).await.unwrap();
        }
    }
    for (node, gap) in [&a, &b].into_iter().zip(gaps) {
        node.wait_for_event(gap, is_trimmed, "of a gap").await?;
    }
    expect_numbers(&here, 2_000).await?;
    let arrived = numbers(&there).len() as u64;
    a.settle().await?;
    let missing = 2_000 - numbers(&there).len() as u64;
    until("what is missing is said", async || b.metrics().missed >= missing).await;
    assert_eq!(b.metrics().missed, missing, "{arrived} at first");
    assert_eq!(told.each_mut().map(trimmed), [1, 1]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_deleted_while_a_node_is_away() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.node().await?;
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), "").await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    let (lost, gap) = (b.events(), b.events());
    proxy.refuse();
    proxy.cut();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    server.cli(&["FLUSHALL"]).await.unwrap();
    proxy.resume();
    b.wait_for_event(gap, is_trimmed, "of a gap").await?;
    send(&a, 50..100).await?;
    all_is_well(wire, [&a, &b], &there, 100).await
}
