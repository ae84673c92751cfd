//! What happens when connections and servers break: nothing hangs, nothing is repeated, and what is missing is said.

use std::time::{Duration, Instant};

use trunkline_brokers::{Postgres as Server, Proxy};
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::{Emitter, ErrorKind, Event, GapCause, Payload, Target};

use crate::support::{
    LISTENS, PUBLISHES, QUERIES, TIMEOUT, cluster, config, demote, expect_numbers, fill_disk, free_disk, named,
    numbered, numbers, restart, server, terminate, until,
};

/// Two nodes that know each other; the connections of the first are called `a` at the server, those of the second `b`.
async fn pair(server: &Server, parameters: &str) -> Result<[TestNode; 2], Failure> {
    let cluster = cluster(server.url(), parameters);
    let a = cluster.build().over(named(server.url(), "a", parameters).await?).join().await?;
    let b = cluster.build().over(named(server.url(), "b", parameters).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    Ok([a, b])
}

fn is_gap(event: &Event) -> bool {
    matches!(event, Event::Gap(gap) if gap.cause == GapCause::ConnectionLost)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_listening_connection_comes_back_with_one_gap_of_known_size() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, "").await?;
    let there = b.socket(["r"]).await?;
    let (events, mut log) = (b.events(), b.events());
    assert_eq!(terminate(&server, "b", LISTENS).await, 1);
    // Some of these come too early.
    for number in 0..200 {
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    let Event::Gap(gap) = b.wait_for_event(events, is_gap, "of a gap").await? else { unreachable!() };
    a.settle().await?;
    let arrived = numbers(&there);
    assert_eq!(gap.missed, Some(200 - arrived.len() as u64), "{arrived:?}");
    assert!(arrived.is_sorted());
    let mut seen = Vec::new();
    while let Ok(event) = log.try_recv() {
        seen.push(event);
    }
    let count = |wanted: fn(&Event) -> bool| seen.iter().filter(|event| wanted(event)).count();
    let (lost, connected, gaps) = (
        count(|event| matches!(event, Event::Lost(_))),
        count(|event| matches!(event, Event::Connected)),
        count(|event| matches!(event, Event::Gap(_))),
    );
    assert_eq!((lost, gaps), (1, 1), "{seen:?}");
    assert!((1..=2).contains(&connected), "{seen:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_publishing_connections_lose_and_repeat_nothing() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, "").await?;
    let there = b.socket(["r"]).await?;
    const COUNT: usize = 5_000;
    for number in 0..COUNT {
        if number % 100 == 50 {
            terminate(&server, "a", PUBLISHES).await;
        }
        let bytes = if number % 100 == 0 { 20_000 } else { 50 };
        a.broadcast(Target::room("r"), numbered(number, bytes)).await?;
    }
    expect_numbers(&there, COUNT).await?;
    a.settle().await?;
    assert_eq!(numbers(&there).len(), COUNT);
    assert!(a.health().reconnects > 0);
    assert_eq!((b.metrics().gaps, b.metrics().missed), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_query_connections_lose_no_rows() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, "").await?;
    let there = b.socket(["r"]).await?;
    const COUNT: usize = 400;
    for number in 0..COUNT {
        if number % 100 == 50 {
            terminate(&server, "b", QUERIES).await;
        }
        a.broadcast(Target::room("r"), numbered(number, 20_000)).await?;
    }
    expect_numbers(&there, COUNT).await?;
    assert_eq!((b.metrics().gaps, b.metrics().malformed), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_fetched_however_often_its_connection_breaks() -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(server.url(), "");
    let a = cluster.node().await?;
    let b = cluster.build().over(named(&proxy.url(server.url()), "b", "").await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    // Breaks each connection over which the row comes, and no other.
    proxy.cut_within(4 << 10);
    let accepted = proxy.accepted();
    for number in 0..2 {
        a.broadcast(Target::room("r"), numbered(number, 20_000)).await?;
    }
    until("connections break", async || proxy.accepted() >= accepted + 8).await;
    proxy.resume();
    expect_numbers(&there, 2).await?;
    assert_eq!((b.metrics().gaps, b.metrics().malformed), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn publishes_are_held_while_the_server_is_out_of_reach() -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(server.url(), "");
    let a = cluster.build().over(named(&proxy.url(server.url()), "a", "").await?).join().await?;
    let b = cluster.node().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let lost = a.events();
    proxy.refuse();
    proxy.cut();
    a.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    assert!(!a.health().connected);
    for number in 0..100 {
        a.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 10 })).await?;
    }
    // Local sockets are served meanwhile.
    expect_numbers(&here, 100).await?;
    assert!(a.health().queued_bytes >= 10 * 20_000);
    proxy.resume();
    expect_numbers(&there, 100).await?;
    until("the connection stands", async || a.health().connected).await;
    // Answers come, too.
    b.answer_server_side(Some(Payload::value(&1).unwrap()));
    let answers = a.server_side_emit_with_ack(Payload::event("ask", &()).unwrap(), None).await?;
    assert_eq!(answers.len(), 1);
    assert_eq!((b.metrics().gaps, b.metrics().missed), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_of_the_server_costs_is_said() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, "").await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (a.events(), b.events());
    server.kill().await.unwrap();
    a.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    for number in 0..100 {
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    restart(&server).await;
    // A node does not receive what the other one publishes before it listens again itself.
    let Event::Gap(gap) = b.wait_for_event(gap, is_gap, "of a gap").await? else { unreachable!() };
    a.settle().await?;
    let arrived = numbers(&there);
    assert!(arrived.is_sorted_by(|a, b| a < b), "{arrived:?}");
    assert_eq!(gap.missed, Some(100 - arrived.len() as u64), "{arrived:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_server_down_a_full_queue_is_an_error_at_once() -> Result<(), Failure> {
    let server = server().await;
    let [a, _b] = pair(&server, "outbox_bytes=64KiB").await?;
    let lost = a.events();
    server.kill().await.unwrap();
    a.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    let start = Instant::now();
    let error = loop {
        match a.broadcast(Target::all(), numbered(0, 1_000)).await {
            Ok(()) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(start.elapsed() < Duration::from_secs(2));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_longer_than_a_heartbeat_loses_nothing() -> Result<(), Failure> {
    let server = server().await;
    let cluster = cluster(server.url(), "");
    let slow = "ping_timeout=20s&response_timeout=20s";
    let mut config = cluster.config();
    config.engine.heartbeat_interval = Duration::from_millis(200);
    config.engine.heartbeat_timeout = Duration::from_millis(2_500);
    let a = cluster.build().config(config).over(named(server.url(), "a", slow).await?).join().await?;
    let b = cluster.build().config(config).over(named(server.url(), "b", slow).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    let mut events = a.events();
    server.freeze().unwrap();
    for number in 0..100 {
        a.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 10 })).await?;
    }
    // By then everybody is silent, which says nothing about anybody: the request still waits for the other node.
    let unanswered = a.fetch_sockets(Target::all()).await.unwrap_err();
    assert_eq!(unanswered.incomplete().map(|incomplete| incomplete.missing.clone()), Some(vec![b.id().clone()]));
    server.thaw().unwrap();
    expect_numbers(&there, 100).await?;
    assert_eq!((b.metrics().gaps, b.metrics().missed), (0, 0));
    let has_gone = std::iter::from_fn(|| events.try_recv().ok()).any(|event| matches!(event, Event::NodeDown(..)));
    assert!(!has_gone, "a node was given up while the server was frozen");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_for_long_is_left_and_found_again() -> Result<(), Failure> {
    let server = server().await;
    let quick = "ping_timeout=500ms&response_timeout=500ms&connect_timeout=500ms";
    let [a, b] = pair(&server, quick).await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (b.events(), b.events());
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&there, 1).await?;
    server.freeze().unwrap();
    for number in 1..100 {
        a.broadcast(Target::room("r"), numbered(number, if number % 10 == 0 { 20_000 } else { 10 })).await?;
    }
    b.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    until("the publisher has noticed", async || !a.health().connected).await;
    server.thaw().unwrap();
    until("all is well", async || a.health().connected && b.health().connected).await;
    a.broadcast(Target::room("r"), numbered(100, 10)).await?;
    a.settle().await?;
    let arrived = numbers(&there);
    assert!(arrived.is_sorted_by(|a, b| a < b) && arrived.last() == Some(&100), "{arrived:?}");
    // The listening connection may have outlived it: then nothing is missing.
    if arrived.len() < 101 {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_silently_dead_is_noticed() -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(server.url(), "");
    let a = cluster.node().await?;
    let quick = "ping_timeout=500ms&response_timeout=500ms&connect_timeout=500ms";
    let b = cluster.build().over(named(&proxy.url(server.url()), "b", quick).await?).join().await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (b.events(), b.events());
    proxy.stall();
    b.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    for number in 0..50 {
        b.broadcast(Target::room("elsewhere"), numbered(number, 10)).await?;
    }
    let heard = a.socket(["elsewhere"]).await?;
    proxy.cut();
    proxy.resume();
    b.wait_for_event(gap, is_gap, "of a gap").await?;
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&there, 1).await?;
    expect_numbers(&heard, 50).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_cannot_take_now_is_sent_when_it_can() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, "").await?;
    let there = b.socket(["r"]).await?;
    fill_disk(&server).await;
    let lost = a.events();
    for number in 0..60 {
        a.broadcast(Target::room("r"), numbered(number, if number % 10 == 5 { 20_000 } else { 10 })).await?;
    }
    let is_full = |event: &Event| matches!(event, Event::Lost(reason) if reason.contains("53100"));
    a.wait_for_event(lost, is_full, "of the full disk").await?;
    free_disk(&server).await;
    expect_numbers(&there, 60).await?;
    assert_eq!((b.metrics().gaps, a.metrics().publish_errors), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_turns_read_only_gets_the_rows_later() -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(&server, "").await?;
    let there = b.socket(["r"]).await?;
    let lost = a.events();
    server.sql("ALTER SYSTEM SET default_transaction_read_only = on").await.unwrap();
    server.sql("SELECT pg_reload_conf()").await.unwrap();
    until("the server is read-only", async || server.sql("SHOW transaction_read_only").await.unwrap().trim() == "on")
        .await;
    for number in 0..20 {
        a.broadcast(Target::room("r"), numbered(number, 20_000)).await?;
    }
    let is_read_only = |event: &Event| matches!(event, Event::Lost(reason) if reason.contains("25006"));
    a.wait_for_event(lost, is_read_only, "of a read-only server").await?;
    // What `ALTER SYSTEM` has written; a read-only session could not take it back.
    std::fs::write(server.folder().join("data/postgresql.auto.conf"), "").unwrap();
    server.sql("SELECT pg_reload_conf()").await.unwrap();
    expect_numbers(&there, 20).await?;
    assert_eq!(b.metrics().gaps, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_the_server_will_never_take_holds_up_nothing() -> Result<(), Failure> {
    let server = server().await;
    for history in ["history=off", "history=on"] {
        let [a, b] = pair(&server, history).await?;
        let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
        server.sql("ALTER TABLE socket_io_attachments ADD CONSTRAINT none CHECK (false) NOT VALID").await.unwrap();
        for number in 0..30 {
            a.broadcast(Target::room("r"), numbered(number, if number % 10 == 5 { 20_000 } else { 10 })).await?;
        }
        there.wait_for(27).await?;
        a.settle().await?;
        let expected: Vec<_> = (0..30).filter(|number| number % 10 != 5).collect();
        assert_eq!(numbers(&there), expected, "{history}");
        // Here it arrives, in some order: the others never see it.
        here.wait_for(30).await?;
        assert_eq!(a.metrics().publish_errors, 3, "{history}");
        let health = a.health();
        assert_eq!(health.refused_messages, 3, "{history}");
        assert!(health.refusal.is_some_and(|reason| reason.contains("none")), "{history}");
        let emitter = Emitter::new(a.backend());
        emitter.emit(Target::room("r"), numbered(30, 20_000)).await?;
        let error = emitter.flush().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker, "{history}: {error}");
        assert!(error.to_string().contains("none"), "{history}: {error}");
        emitter.flush().await?;
        server.sql("ALTER TABLE socket_io_attachments DROP CONSTRAINT none").await.unwrap();
        a.leave().await?;
        b.leave().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_emitter_outlives_a_restart() -> Result<(), Failure> {
    let server = server().await;
    let node = cluster(server.url(), "").node().await?;
    let socket = node.socket(["r"]).await?;
    let emitter = Emitter::new(&trunkline_postgres::connect(config(server.url(), "")).await?);
    let gap = node.events();
    restart(&server).await;
    node.wait_for_event(gap, is_gap, "of a gap").await?;
    for number in 0..100 {
        emitter.emit(Target::room("r"), numbered(number, 10)).await?;
    }
    expect_numbers(&socket, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_traffic_is_counted_and_skipped() -> Result<(), Failure> {
    let server = server().await;
    let node = cluster(server.url(), "").node().await?;
    let socket = node.socket(["r"]).await?;
    server
        .sql("INSERT INTO socket_io_attachments (id, payload) VALUES (900, 'garbage'), (901, NULL), (902, '\\x')")
        .await
        .unwrap();
    let texts = [
        "garbage",
        "",
        "null",
        "{}",
        "[]",
        "{\"type\":3}",
        "{\"type\":\"3\",\"uid\":\"a\",\"nsp\":\"/\"}",
        "{\"type\":3,\"data\":{},\"uid\":\"a\",\"nsp\":\"/\"}",
        "{\"type\":77,\"uid\":\"a\",\"nsp\":\"/\"}",
        "{\"uid\":\"a\",\"type\":3,\"attachmentId\":\"900\"}",
        "{\"uid\":\"a\",\"type\":3,\"attachmentId\":\"901\"}",
        "{\"uid\":\"a\",\"type\":3,\"attachmentId\":\"902\"}",
        "{\"uid\":\"a\",\"type\":3,\"attachmentId\":\"903\"}",
        "{\"uid\":\"a\",\"type\":3,\"attachmentId\":\"x\"}",
        "{\"uid\":\"a\",\"type\":3,\"attachmentId\":1e99}",
        "{\"type\":3,\"data\":{\"packet\":{\"type\":2,\"data\":[\"x\"]},\"opts\":{\"rooms\":[]}},\"uid\":\"a\",\"nsp\":\"/other\"}",
    ];
    for text in texts {
        let text = text.replace('\'', "''");
        server.sql(&format!("SELECT pg_notify('socket.io#/', '{text}')")).await.unwrap();
    }
    Emitter::new(node.backend()).emit(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&socket, 1).await?;
    let metrics = node.metrics();
    assert_eq!((metrics.unknown_type, metrics.foreign_namespace), (1, 1), "{metrics:?}");
    assert_eq!(metrics.malformed as usize, texts.len() - 2, "{metrics:?}");
    Ok(())
}

/// The address stands for a standby for a while, and then for the new primary.
#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_became_a_standby_is_away_until_the_address_is_that_of_another() -> Result<(), Failure> {
    let (old, new) = (server().await, server().await);
    let proxy = Proxy::start(old.port()).await.unwrap();
    let [a, b] = cluster(&proxy.url(old.url()), "").nodes().await?;
    let there = b.socket(["r"]).await?;
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&there, 1).await?;
    demote(&old).await;
    for node in [&a, &b] {
        until("the health says why", async || {
            let health = node.health();
            !health.connected && health.reason.is_some_and(|reason| reason.contains("standby"))
        })
        .await;
    }
    a.broadcast(Target::room("r"), numbered(1, 10)).await?;
    proxy.redirect(new.port());
    expect_numbers(&there, 2).await?;
    until("both are connected", async || a.health().connected && b.health().connected).await;
    assert_eq!(b.metrics().connections_lost, 1);
    assert!(b.metrics().gaps <= 1, "known peers may say that nothing is missing");
    Ok(())
}
