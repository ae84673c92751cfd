//! Servers that change places, and the ways to reach one.

use std::time::Duration;

use trunkline_brokers::{ClientCertificate, Proxy, Redis, RedisCluster, RedisSentinel};
use trunkline_conformance::kit::Failure;
use trunkline_core::{ErrorKind, Event};

use crate::support::{
    TIMEOUT, Wire, all_is_well, backend, cluster, expect_numbers, is_gap, is_lost, numbers, over_all, pair, send,
    server, until,
};

over_all! {
    a_failover_in_good_order_is_followed,
    a_failover_after_a_crash_is_followed,
    a_failover_behind_a_name_is_noticed,
    a_replica_is_not_connected_to,
    a_node_of_a_cluster_may_be_killed_and_restarted,
    a_unix_socket_and_a_user_with_a_password_will_do,
}

async fn a_failover_in_good_order_is_followed(wire: Wire) -> Result<(), Failure> {
    let sentinel = RedisSentinel::start().await.unwrap();
    let url = format!("{}?sentinel={}", sentinel.url(), sentinel.service());
    let [a, b] = pair(wire, &url, "").await?;
    let there = b.socket(["r"]).await?;
    let (lost_a, lost_b, gap) = (a.events(), b.events(), b.events());
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    sentinel.failover().await.unwrap();
    a.wait_for_event(lost_a, is_lost, "of the loss").await?;
    b.wait_for_event(lost_b, is_lost, "of the loss").await?;
    send(&a, 50..100).await?;
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    all_is_well(wire, [&a, &b], &there, 100).await
}

async fn a_failover_after_a_crash_is_followed(wire: Wire) -> Result<(), Failure> {
    let sentinel = RedisSentinel::start().await.unwrap();
    let url = format!("{}?sentinel={}", sentinel.url(), sentinel.service());
    let [a, b] = pair(wire, &url, "").await?;
    let there = b.socket(["r"]).await?;
    let (lost, gap) = (a.events(), b.events());
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    // The replica has everything: it follows within a moment.
    let [master, replica] = sentinel.servers();
    if wire == Wire::Streams {
        let length = async |server: &Redis| server.cli(&["XLEN", "socket.io"]).await.unwrap();
        until("the replica has followed", async || length(replica).await == length(master).await).await;
    }
    let port = master.port();
    master.kill().await.unwrap();
    a.wait_for_event(lost, is_lost, "of the loss").await?;
    send(&a, 50..100).await?;
    sentinel.new_master(port).await.unwrap();
    if wire != Wire::Streams {
        b.wait_for_event(gap, is_gap, "of a gap").await?;
    }
    all_is_well(wire, [&a, &b], &there, 100).await
}

/// Makes one server the replica of another one, and waits until it has followed.
async fn make_replica(replica: &Redis, master: &Redis) {
    let port = master.port().to_string();
    replica.cli(&["REPLICAOF", "127.0.0.1", &port]).await.unwrap();
    let follows = async || replica.cli(&["INFO", "replication"]).await.unwrap().contains("master_link_status:up");
    until("the replica follows", follows).await;
}

/// The old master becomes a replica while the connections to it stand, and the name stands for it for a while.
async fn a_failover_behind_a_name_is_noticed(wire: Wire) -> Result<(), Failure> {
    let (old, new) = (server().await, server().await);
    make_replica(&new, &old).await;
    let names = [Proxy::start(old.port()).await.unwrap(), Proxy::start(old.port()).await.unwrap()];
    let cluster = cluster(wire, &names[0].url(old.url()), "");
    let a = cluster.node().await?;
    let b = cluster.build().over(backend(wire, &names[1].url(old.url()), "").await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    let (lost, mut events) = (a.events(), a.events());
    new.cli(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    make_replica(&old, &new).await;
    names[1].redirect(new.port());
    names[1].cut();
    send(&a, 50..60).await?;
    a.wait_for_event(lost, is_lost, "of the loss").await?;
    until("the health says why", async || {
        let health = a.health();
        !health.connected && health.reason.is_some_and(|reason| reason.contains("replica"))
    })
    .await;
    names[0].redirect(new.port());
    send(&a, 60..100).await?;
    for node in [&a, &b] {
        until("the connections stand", async || node.health().connected).await;
    }
    all_is_well(wire, [&a, &b], &there, 100).await?;
    let events: Vec<_> = std::iter::from_fn(|| events.try_recv().ok()).collect();
    let gaps = events.iter().filter(|event| matches!(event, Event::Gap(_))).count();
    let losses = events.iter().filter(|event| is_lost(event)).count();
    // Requests of streams come over another connection than messages.
    assert!((1..=if wire == Wire::Streams { 2 } else { 1 }).contains(&losses), "{events:?}");
    assert!(gaps <= 1, "{events:?}");
    Ok(())
}

async fn a_replica_is_not_connected_to(wire: Wire) -> Result<(), Failure> {
    let (master, replica) = (server().await, server().await);
    make_replica(&replica, &master).await;
    let error = backend(wire, replica.url(), "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(error.to_string().contains("replica"), "{error}");
    // Nobody needs the right to ask.
    replica.cli(&["ACL", "SETUSER", "default", "-role"]).await.unwrap();
    replica.cli(&["REPLICAOF", "NO", "ONE"]).await.unwrap();
    let [a, b] = pair(wire, replica.url(), "").await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    all_is_well(wire, [&a, &b], &there, 50).await
}

/// With the node down some channels and streams are out of reach; what goes elsewhere is not held up for ever.
async fn a_node_of_a_cluster_may_be_killed_and_restarted(wire: Wire) -> Result<(), Failure> {
    let cluster = RedisCluster::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await.unwrap();
    let [a, b] = pair(wire, &format!("{}?cluster=on", cluster.url()), "").await?;
    let there = b.socket(["r"]).await?;
    let lost = b.events();
    send(&a, 0..50).await?;
    expect_numbers(&there, 50).await?;
    let victim = match wire {
        // Both ends are there: it is the first that is asked.
        Wire::PubSub => &cluster.nodes()[0],
        Wire::Sharded => cluster.owner(cluster.slot("socket.io#/#").await.unwrap()).await.unwrap(),
        Wire::Streams => cluster.owner(cluster.slot("socket.io").await.unwrap()).await.unwrap(),
    };
    victim.kill().await.unwrap();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    send(&a, 50..100).await?;
    victim.restart().await.unwrap();
    cluster.ready().await.unwrap();
    all_is_well(wire, [&a, &b], &there, 100).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_may_move_to_another_node_during_traffic() -> Result<(), Failure> {
    let cluster = RedisCluster::start().await.unwrap();
    let [a, b] = pair(Wire::Streams, &format!("{}?cluster=on", cluster.url()), "").await?;
    let there = b.socket(["r"]).await?;
    let slot = cluster.slot("socket.io").await.unwrap();
    let owner = cluster.owner(slot).await.unwrap().port();
    let mut count = 0;
    for target in cluster.nodes().iter().filter(|node| node.port() != owner) {
        send(&a, count..count + 200).await?;
        let traffic = async { send(&a, count + 200..count + 400).await };
        let (sent, moved) = tokio::join!(traffic, cluster.move_slot(slot, target));
        sent?;
        moved.unwrap();
        count += 400;
        send(&a, count..count + 100).await?;
        count += 100;
        there.wait_for(count).await?;
    }
    assert_eq!(numbers(&there).len(), count);
    all_is_well(Wire::Streams, [&a, &b], &there, count).await
}

async fn a_unix_socket_and_a_user_with_a_password_will_do(wire: Wire) -> Result<(), Failure> {
    let server = Redis::options().user("app", "s3cret").unix_socket().start().await.unwrap();
    assert!(server.url().starts_with("redis+unix:"), "{}", server.url());
    let [a, b] = pair(wire, server.url(), "").await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..10).await?;
    all_is_well(wire, [&a, &b], &there, 10).await
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_authority_are_refused() {
    let server = Redis::options().user("app", "s3cret").tls(ClientCertificate::Ignored).start().await.unwrap();
    let ca = format!("tls_ca={}", server.certificates().unwrap().authority().display());
    backend(Wire::PubSub, server.url(), &ca).await.unwrap();
    let wrong = backend(Wire::PubSub, &server.url().replace("s3cret", "wr0ng"), &ca).await.unwrap_err();
    assert_eq!(wrong.kind(), ErrorKind::Config, "{wrong}");
    assert!(!format!("{wrong:?} {wrong}").contains("wr0ng"), "{wrong:?}");
    let unknown = backend(Wire::PubSub, server.url(), "").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Config, "{unknown}");
}

#[tokio::test]
async fn another_database_is_used_for_streams() -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    let [a, b] = pair(Wire::Streams, &format!("{}/3", server.url()), "").await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..10).await?;
    expect_numbers(&there, 10).await?;
    assert_eq!(server.cli(&["-n", "3", "EXISTS", "socket.io"]).await.unwrap(), "1");
    assert_eq!(server.cli(&["EXISTS", "socket.io"]).await.unwrap(), "0");
    Ok(())
}

#[tokio::test]
async fn a_server_that_is_not_there_is_an_error_within_the_time_allowed() {
    let begun = std::time::Instant::now();
    let error = backend(Wire::PubSub, "redis://127.0.0.1:1", "").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}
