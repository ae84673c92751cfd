//! Servers that are full, that cannot write, or that refuse what we have no right to.

use trunkline_brokers::Redis;
use trunkline_conformance::kit::Failure;
use trunkline_core::{ErrorKind, Target};

use crate::support::{
    Wire, all_is_well, backend, expect_numbers, is_lost, numbered, over_all, pair, send, server, until,
};

over_all! {
    a_server_that_cannot_write_to_its_disk_goes_on_delivering,
    what_may_not_be_published_is_counted_and_shows_in_the_health,
    without_the_password_or_the_right_to_publish_there_is_no_connection,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_is_one_that_is_away_for_the_moment() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let [a, b] = pair(wire, server.url(), "outbox_bytes=64KiB").await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let lost = a.events();
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    send(&a, 0..1).await?;
    a.wait_for_event(lost, is_lost, "of the loss").await?;
    assert!(!a.health().connected);
    let mut sent = 1;
    let error = loop {
        match a.broadcast(Target::room("r"), numbered(sent, 10)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(there.packets().is_empty());
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    expect_numbers(&there, sent).await?;
    expect_numbers(&here, sent).await?;
    assert_eq!(a.metrics().publish_errors, 0);
    all_is_well(wire, [&a, &b], &there, sent).await
}

/// It refuses PING, too.
async fn a_server_that_cannot_write_to_its_disk_goes_on_delivering(wire: Wire) -> Result<(), Failure> {
    let server = Redis::options().arguments(&["--enable-protected-configs", "yes"]).start().await.unwrap();
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    for (name, value) in [("save", "3600 1000000"), ("dir", "/proc")] {
        server.cli(&["CONFIG", "SET", name, value]).await.unwrap();
    }
    server.cli(&["BGSAVE"]).await.unwrap();
    let refused_pings = async || {
        let info = server.cli(&["INFO", "commandstats"]).await.unwrap();
        let ping = info.lines().find(|line| line.starts_with("cmdstat_ping:")).unwrap_or_default();
        ping.split("rejected_calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse().ok()).unwrap_or(0)
    };
    until("the server has refused to answer some PINGs", async || refused_pings().await >= 6).await;
    assert_eq!((a.health().reconnects, b.health().reconnects), (0, 0));
    server.cli(&["CONFIG", "SET", "save", ""]).await.unwrap();
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    all_is_well(wire, [&a, &b], &there, 50).await
}

const PUBLISHING: [&str; 3] = ["publish", "spublish", "xadd"];

async fn what_may_not_be_published_is_counted_and_shows_in_the_health(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    let user = async |sign: &str| {
        let rights = PUBLISHING.map(|command| format!("{sign}{command}"));
        let command: Vec<_> =
            ["ACL", "SETUSER", "default"].into_iter().chain(rights.iter().map(String::as_str)).collect();
        server.cli(&command).await.unwrap();
    };
    user("-").await;
    send(&a, 0..10).await?;
    until("what was refused is counted", async || a.metrics().publish_errors >= 10).await;
    assert!(!a.health().connected);
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
    assert_eq!(error.kind(), ErrorKind::Broker, "{error}");
    assert!(error.to_string().contains("NOAUTH"), "{error}");
    let user = ["ACL", "SETUSER", "mute", "on", ">x", "~*", "&*", "+@all", "-publish", "-spublish", "-xadd"];
    server.cli(&user).await.unwrap();
    let error = backend(wire, &server.url().replace(":secret@", "mute:x@"), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker, "{error}");
    assert!(error.to_string().contains("permissions"), "{error}");
    // Whom nothing else is permitted to is not asked.
    let user = ["ACL", "SETUSER", "plain", "on", ">x", "~*", "&*", "+@all", "-multi"];
    server.cli(&user).await.unwrap();
    backend(wire, &server.url().replace(":secret@", "plain:x@"), "").await?;
    Ok(())
}
