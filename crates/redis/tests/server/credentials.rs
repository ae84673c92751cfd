//! Credentials that expire: connections that stand authenticate again in time.

use std::{
    collections::BTreeSet,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use trunkline_brokers::{Redis, RedisCluster, RedisSentinel};
use trunkline_conformance::kit::Failure;
use trunkline_redis::{Config, Login, connect};

use crate::support::{TIMEOUT, Wire, cluster, config, expect_numbers, over_all, send, until};

over_all! {
    connections_that_stand_authenticate_with_renewed_credentials,
    renewed_credentials_that_are_refused_leave_the_connections_as_they_are,
}

/// Lets two users do everything: the first one until the credentials are renewed, and then the second one.
async fn add_users(server: &Redis) {
    for user in ["first", "second"] {
        server.cli(&["ACL", "SETUSER", user, "on", ">s3cret", "~*", "&*", "+@all"]).await.unwrap();
    }
}

/// Gives the credentials of the first user, for a second, and then those of the second one.
fn with_provider(config: Config, password_of_second: &'static str) -> (Config, Arc<AtomicBool>) {
    let renews = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&renews);
    let config = config.credentials(move || {
        let is_second = seen.load(Ordering::Relaxed);
        async move {
            let (user, password) = if is_second { ("second", password_of_second) } else { ("first", "s3cret") };
            Ok::<_, io::Error>(Login::new(user, password).valid_for(Duration::from_secs(1)))
        }
    });
    (config, renews)
}

/// The users of our connections that stand for longer than they connect.
async fn users(server: &Redis) -> BTreeSet<String> {
    let clients = server.cli(&["CLIENT", "LIST"]).await.unwrap();
    let ours = clients.lines().filter(|client| client.contains("name=trunkline-"));
    let user = |client: &str| client.split_once(" user=").unwrap().1.split(' ').next().unwrap().to_owned();
    ours.map(user).collect()
}

async fn connections_that_stand_authenticate_with_renewed_credentials(wire: Wire) -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    add_users(&server).await;
    let (config, renews) = with_provider(config(wire, server.url(), ""), "s3cret");
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.build().over(connect(config.clone()).await?).join().await?;
    let b = cluster.build().over(connect(config).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    send(&a, 0..10).await?;
    expect_numbers(&there, 10).await?;
    assert_eq!(users(&server).await, BTreeSet::from(["first".to_owned()]));
    renews.store(true, Ordering::Relaxed);
    let second = BTreeSet::from(["second".to_owned()]);
    until("all have authenticated again", async || users(&server).await == second).await;
    send(&a, 10..20).await?;
    expect_numbers(&there, 20).await?;
    assert_eq!((a.health().reconnects, b.health().reconnects), (0, 0));
    assert_eq!((b.metrics().gaps, b.metrics().connections_lost), (0, 0));
    Ok(())
}

async fn renewed_credentials_that_are_refused_leave_the_connections_as_they_are(wire: Wire) -> Result<(), Failure> {
    let server = Redis::start().await.unwrap();
    add_users(&server).await;
    let (config, renews) = with_provider(config(wire, server.url(), ""), "wrong");
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.build().over(connect(config).await?).join().await?;
    let here = a.socket(["r"]).await?;
    // Each connection is opened with the right ones, also the one that publishes: own clients get what is sent without it.
    send(&a, 0..10).await?;
    expect_numbers(&here, 10).await?;
    a.backend().transport.flush().await?;
    renews.store(true, Ordering::Relaxed);
    let refused = async || {
        let counts = server.cli(&["INFO", "commandstats"]).await.unwrap();
        let failed = counts.lines().find(|line| line.starts_with("cmdstat_auth")).unwrap();
        let failed = failed.split_once("failed_calls=").unwrap().1;
        failed.split(',').next().unwrap().parse::<u32>().unwrap() >= 2
    };
    until("the connections have tried", refused).await;
    send(&a, 10..20).await?;
    expect_numbers(&here, 20).await?;
    assert_eq!(a.metrics().connections_lost, 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_at_the_nodes_of_a_cluster_authenticate_again() -> Result<(), Failure> {
    let servers = RedisCluster::start().await.unwrap();
    for server in servers.nodes() {
        add_users(server).await;
    }
    let url = format!("{}&cluster=on", crate::support::with(servers.url(), "prefix=renewed"));
    let (config, renews) = with_provider(config(Wire::Sharded, &url, ""), "s3cret");
    let cluster = cluster(Wire::Sharded, servers.url(), "");
    let a = cluster.build().over(connect(config).await?).join().await?;
    let here = a.socket(["r"]).await?;
    renews.store(true, Ordering::Relaxed);
    let second = BTreeSet::from(["second".to_owned()]);
    until("all have authenticated again", async || {
        let mut all = BTreeSet::new();
        for server in servers.nodes() {
            all.extend(users(server).await);
        }
        all == second
    })
    .await;
    send(&a, 0..10).await?;
    expect_numbers(&here, 10).await?;
    assert_eq!((a.health().reconnects, a.metrics().connections_lost), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_have_credentials_of_their_own() -> Result<(), Failure> {
    let servers = RedisSentinel::start().await.unwrap();
    let sentinel = servers.sentinel();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}", sentinel.port())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    for user in ["watcher on >s3cret allchannels +@all", "default resetpass >other"] {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg(user.split(' ').collect::<Vec<_>>());
        command.query_async::<()>(&mut connection).await.unwrap();
    }
    let url = format!("redis://127.0.0.1:{}?sentinel={}", sentinel.port(), servers.service());
    let asked = Arc::new(AtomicUsize::new(0));
    let config = Config::from_url(&url)?;
    assert!(connect(config.clone()).await.is_err(), "the sentinel wants a password");
    let count = Arc::clone(&asked);
    let config = config.sentinel_credentials(move || {
        count.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, io::Error>(Login::new("watcher", "s3cret")) }
    });
    connect(config).await?;
    assert!(asked.load(Ordering::Relaxed) > 0);
    Ok(())
}
