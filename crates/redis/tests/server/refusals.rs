//! Servers that are full, that cannot write, or that refuse what we have no right to.

use std::{path::Path, time::Duration};

use trunkline_brokers::Redis;
use trunkline_conformance::kit::Failure;
use trunkline_core::{Emitter, ErrorKind, Target};

use crate::support::{
    TIMEOUT, Wire, all_is_well, backend, cluster, expect_numbers, is_lost, numbered, numbers, over_all, pair, send,
    server, until,
};

over_all! {
    what_may_not_be_published_is_counted_and_shows_in_the_health,
    without_the_password_or_the_right_to_publish_there_is_no_connection,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_one_that_is_away_for_the_moment() -> Result<(), Failure> {
    let server = server().await;
    let limit = async |bytes| drop(server.cli(&["CONFIG", "SET", "maxmemory", bytes]).await.unwrap());
    takes_nothing_for_the_moment(&server, "OOM", async || limit("1").await, async || limit("0").await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_write_to_its_disk_is_one_that_is_away_for_the_moment() -> Result<(), Failure> {
    let server = Redis::options().arguments(&["--save", "3600 1", "--dbfilename", "taken.rdb"]).start().await.unwrap();
    let directory = server.cli(&["CONFIG", "GET", "dir"]).await.unwrap();
    let taken = Path::new(directory.lines().last().unwrap()).join("taken.rdb");
    let begin = async || {
        std::fs::create_dir(&taken).unwrap();
        server.cli(&["BGSAVE"]).await.unwrap();
        let has_failed = async || server.cli(&["INFO", "persistence"]).await.unwrap().contains("bgsave_status:err");
        until("the server has tried to save", has_failed).await;
    };
    let end = async || {
        server.cli(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"]).await.unwrap();
    };
    takes_nothing_for_the_moment(&server, "MISCONF", begin, end).await
}

/// While the server refuses to write for this reason, messages are held, and told of once.
async fn takes_nothing_for_the_moment(
    server: &Redis,
    reason: &str,
    begin: impl AsyncFnOnce(),
    end: impl AsyncFnOnce(),
) -> Result<(), Failure> {
    let wire = Wire::Streams;
    let [a, b] = pair(wire, server.url(), "outbox_bytes=64KiB").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let (lost, mut events) = (a.events(), a.events());
    begin().await;
    send(&a, 0..1).await?;
    a.wait_for_event(lost, is_lost, "of the loss").await?;
    let refusals = async || {
        let counts = server.cli(&["INFO", "commandstats"]).await.unwrap();
        let of_xadd = counts.lines().find(|line| line.starts_with("cmdstat_xadd"))?;
        of_xadd.split_once("rejected_calls=")?.1.split(',').next()?.parse::<u32>().ok()
    };
    until("it was tried again", async || refusals().await.is_some_and(|count| count >= 4)).await;
    let health = a.health();
    assert!(!health.connected && health.reason.is_some_and(|told| told.contains(reason)));
    let mut sent = 1;
    let error = loop {
        match a.broadcast(Target::room("r"), numbered(sent, 10)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(there.packets().is_empty());
    end().await;
    expect_numbers(&there, sent).await?;
    // What was refused went to own clients at once, as the error says.
    here.wait_for(sent + 1).await?;
    assert_eq!(numbers(&here), [sent].into_iter().chain(0..sent).collect::<Vec<_>>());
    // What found the queue full: the last broadcast, and heartbeats.
    assert!(a.metrics().publish_errors >= 1 && a.health().refused_messages == 0);
    let losses: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).filter(is_lost).collect();
    assert_eq!(losses.len(), 1, "it is told once: {losses:?}");
    all_is_well(wire, [&a, &b], &there, sent).await
}

const PUBLISHING: [&str; 3] = ["publish", "spublish", "xadd"];

async fn what_may_not_be_published_is_counted_and_shows_in_the_health(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    let emitter = Emitter::new(&backend(wire, server.url(), "").await?);
    let user = async |sign: &str| {
        let rights = PUBLISHING.map(|command| format!("{sign}{command}"));
        let command: Vec<_> =
            ["ACL", "SETUSER", "default"].into_iter().chain(rights.iter().map(String::as_str)).collect();
        server.cli(&command).await.unwrap();
    };
    user("-").await;
    send(&a, 0..10).await?;
    until("what was refused is counted", async || a.metrics().publish_errors >= 10).await;
    let health = a.health();
    assert!(!health.connected && health.refused_messages >= 10, "{health:?}");
    assert!(health.refusal.is_some_and(|reason| reason.contains("NOPERM")));
    emitter.emit(Target::room("r"), numbered(0, 10)).await?;
    let error = emitter.flush().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker, "{error}");
    assert!(error.to_string().contains("NOPERM"), "{error}");
    user("+").await;
    send(&a, 10..20).await?;
    there.wait_for(10).await?;
    until("the health is good again", async || a.health().connected && b.health().connected).await;
    Ok(())
}

async fn without_the_password_or_the_right_to_publish_there_is_no_connection(wire: Wire) -> Result<(), Failure> {
    let server = Redis::options().password("secret").start().await.unwrap();
    let url = server.url().replace(":secret@", "");
    let error = backend(wire, &url, "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("NOAUTH"), "{error}");
    let user = ["ACL", "SETUSER", "mute", "on", ">x", "~*", "&*", "+@all", "-publish", "-spublish", "-xadd"];
    server.cli(&user).await.unwrap();
    let error = backend(wire, &server.url().replace(":secret@", "mute:x@"), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("permissions"), "{error}");
    // Whom nothing else is permitted to is not asked.
    let user = ["ACL", "SETUSER", "plain", "on", ">x", "~*", "&*", "+@all", "-multi"];
    server.cli(&user).await.unwrap();
    backend(wire, &server.url().replace(":secret@", "plain:x@"), "").await?;
    Ok(())
}

/// A heartbeat needs no memory at the server, and says how many entries there should be.
#[tokio::test(flavor = "multi_thread")]
async fn heartbeats_do_not_overtake_what_a_full_server_refuses() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let a = cluster(wire, server.url(), "").build().fast_failure_detection().join().await?;
    // A heartbeat is looked at when a read has ended.
    let b = cluster(wire, server.url(), "block=200ms").node().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    // For longer than peers wait for what a heartbeat has counted.
    let mut ticks = tokio::time::interval(Duration::from_millis(100));
    for number in 0..25 {
        ticks.tick().await;
        send(&a, number..number + 1).await?;
    }
    assert!(there.packets().is_empty());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    expect_numbers(&there, 25).await?;
    assert_eq!((b.metrics().gaps, b.metrics().missed), (0, 0));
    Ok(())
}

/// A stand-in for services that lack a command, or permit none.
#[tokio::test(flavor = "multi_thread")]
async fn without_patterns_the_error_names_the_mode_that_needs_none() -> Result<(), Failure> {
    let lacking = Redis::options().arguments(&["--rename-command", "PSUBSCRIBE", "NOWHERE"]).start().await.unwrap();
    let forbidding = server().await;
    forbidding.cli(&["ACL", "SETUSER", "default", "-psubscribe"]).await.unwrap();
    let error = backend(Wire::PubSub, lacking.url(), "").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Unsupported, false), "{error}");
    assert!(error.to_string().contains("mode=sharded"), "{error}");
    // The right is missed when the first node subscribes.
    let failure = cluster(Wire::PubSub, forbidding.url(), "").node().await.map(drop).unwrap_err().to_string();
    assert!(failure.contains("NOPERM") && failure.contains("mode=sharded"), "{failure}");
    for server in [&lacking, &forbidding] {
        let [a, b] = pair(Wire::Sharded, server.url(), "").await?;
        let there = b.socket(["r"]).await?;
        send(&a, 0..10).await?;
        expect_numbers(&there, 10).await?;
    }
    Ok(())
}
