//! What is held during an outage, and to whom it goes.

use futures_util::future::try_join_all;
use redis::{Client, aio::MultiplexedConnection};
use trunkline_brokers::{Redis, RedisCluster, RedisSentinel};
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::Event;

use crate::support::{
    TIMEOUT, Wire, backend, cluster, expect_numbers, is_lost, numbers, over_all, send, server, until,
};

over_all! {
    what_is_held_waits_for_a_peer_that_is_back_later,
    what_is_held_waits_for_it_behind_sentinels_too,
    what_is_held_waits_for_it_on_a_cluster_too,
    what_is_held_does_not_wait_long_for_a_peer_that_stays_away,
}

/// A user of the servers, whose rights are taken away in between.
struct User {
    name: &'static str,
    /// Of an administrator, to each server: what they tell comes at once.
    servers: Vec<MultiplexedConnection>,
}

impl User {
    async fn new(name: &'static str, servers: impl IntoIterator<Item = &Redis>) -> Self {
        let clients = servers.into_iter().map(|server| Client::open(server.url()).unwrap());
        let connections = clients.map(async |client| client.get_multiplexed_async_connection().await);
        let user = Self { name, servers: try_join_all(connections).await.unwrap() };
        user.everywhere(&["ACL", "SETUSER", name, "on", "nopass", "~*", "&*", "+@all"]).await;
        user
    }

    async fn everywhere(&self, command: &[&str]) -> Vec<String> {
        let answers = self
            .servers
            .iter()
            .map(async |server| redis::cmd(command[0]).arg(&command[1..]).query_async(&mut server.clone()).await);
        try_join_all(answers).await.unwrap()
    }

    fn url(&self, url: &str) -> String {
        url.replacen("redis://", &format!("redis://{}:any@", self.name), 1)
    }

    async fn shut_out(&self) {
        self.everywhere(&["ACL", "SETUSER", self.name, "off"]).await;
        self.everywhere(&["CLIENT", "KILL", "USER", self.name]).await;
    }

    async fn let_in(&self) {
        self.everywhere(&["ACL", "SETUSER", self.name, "on"]).await;
    }

    /// How many connections of this user have subscribed to something.
    async fn subscribers(&self) -> usize {
        let lists = self.everywhere(&["CLIENT", "LIST", "TYPE", "pubsub"]).await;
        let user = format!(" user={} ", self.name);
        lists.iter().flat_map(|list| list.lines()).filter(|client| client.contains(&user)).count()
    }
}

async fn join(wire: Wire, url: &str, users: &[User]) -> Result<Vec<TestNode>, Failure> {
    let cluster = cluster(wire, url, "");
    let mut nodes = Vec::new();
    for user in users {
        nodes.push(cluster.build().over(backend(wire, &user.url(url), "").await?).join().await?);
    }
    for node in &nodes {
        node.await_peers(users.len() - 1, TIMEOUT).await?;
    }
    Ok(nodes)
}

/// All nodes lose all servers.
async fn outage(nodes: &[TestNode], users: &[User]) -> Result<(), Failure> {
    let losses: Vec<_> = nodes.iter().map(|node| node.events()).collect();
    for user in users {
        user.shut_out().await;
    }
    for (node, lost) in nodes.iter().zip(losses) {
        node.wait_for_event(lost, is_lost, "of the loss").await?;
    }
    Ok(())
}

async fn a_peer_is_back_later(
    wire: Wire,
    url: &str,
    servers: impl IntoIterator<Item = &Redis> + Clone,
) -> Result<(), Failure> {
    let users = [User::new("first", servers.clone()).await, User::new("second", servers).await];
    let nodes = join(wire, url, &users).await?;
    let ([a, b], [first, second]) = (nodes.as_array().unwrap(), &users);
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    send(a, 0..10).await?;
    expect_numbers(&there, 10).await?;
    let (subscribed, mut events) = (first.subscribers().await, b.events());
    outage(&nodes, &users).await?;
    send(a, 10..100).await?;
    first.let_in().await;
    until("one node is back", async || first.subscribers().await == subscribed).await;
    second.let_in().await;
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

async fn what_is_held_waits_for_a_peer_that_is_back_later(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    a_peer_is_back_later(wire, server.url(), [&server]).await
}

async fn what_is_held_waits_for_it_behind_sentinels_too(wire: Wire) -> Result<(), Failure> {
    let sentinel = RedisSentinel::start().await.unwrap();
    let url = format!("{}?sentinel={}", sentinel.url(), sentinel.service());
    a_peer_is_back_later(wire, &url, sentinel.servers()).await
}

async fn what_is_held_waits_for_it_on_a_cluster_too(wire: Wire) -> Result<(), Failure> {
    let cluster = RedisCluster::start().await.unwrap();
    a_peer_is_back_later(wire, &format!("{}?cluster=on", cluster.url()), cluster.nodes()).await
}

async fn what_is_held_does_not_wait_long_for_a_peer_that_stays_away(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let users = [
        User::new("first", [&server]).await,
        User::new("second", [&server]).await,
        User::new("third", [&server]).await,
    ];
    let nodes = join(wire, server.url(), &users).await?;
    let ([a, b, c], [first, second, _]) = (nodes.as_array().unwrap(), &users);
    let (there, nowhere) = (b.socket(["r"]).await?, c.socket(["r"]).await?);
    outage(&nodes, &users).await?;
    send(a, 0..100).await?;
    second.let_in().await;
    until("one node is back", async || second.subscribers().await == 1).await;
    first.let_in().await;
    expect_numbers(&there, 100).await?;
    assert!(numbers(&nowhere).is_empty());
    Ok(())
}
