//! Private Redis Clusters and Sentinels.

use trunkline_brokers::{RedisCluster, RedisSentinel};

#[tokio::test]
async fn a_cluster_serves_moves_slots_and_survives_a_crash() {
    let cluster = RedisCluster::start().await.unwrap();
    let slot = cluster.slot("key").await.unwrap();
    let owner = cluster.owner(slot).await.unwrap();
    owner.cli(&["SET", "key", "value"]).await.unwrap();
    let other = cluster.nodes().iter().find(|node| node.port() != owner.port()).unwrap();
    cluster.move_slot(slot, other).await.unwrap();
    assert_eq!(cluster.owner(slot).await.unwrap().port(), other.port());
    assert_eq!(other.cli(&["GET", "key"]).await.unwrap(), "value");
    owner.kill().await.unwrap();
    assert_eq!(other.cli(&["GET", "key"]).await.unwrap(), "value");
    owner.restart().await.unwrap();
    cluster.ready().await.unwrap();
}

#[tokio::test]
async fn a_node_that_knows_no_other_joins_the_cluster() {
    let cluster = RedisCluster::start().await.unwrap();
    let [.., stranger] = cluster.nodes() else { panic!("no nodes") };
    for node in cluster.nodes().iter().filter(|node| node.port() != stranger.port()) {
        let id = node.cli(&["CLUSTER", "MYID"]).await.unwrap();
        stranger.cli(&["CLUSTER", "FORGET", &id]).await.unwrap();
    }
    assert!(stranger.cli(&["CLUSTER", "INFO"]).await.unwrap().contains("cluster_known_nodes:1"));
    cluster.ready().await.unwrap();
    assert!(stranger.cli(&["CLUSTER", "INFO"]).await.unwrap().contains("cluster_known_nodes:3"));
}

#[tokio::test]
async fn a_sentinel_names_a_new_master() {
    let redis = RedisSentinel::start().await.unwrap();
    let [first, second] = redis.servers();
    assert_eq!(redis.master().await.unwrap().port(), first.port());
    first.kill().await.unwrap();
    redis.new_master(first.port()).await.unwrap();
    assert_eq!(redis.master().await.unwrap().port(), second.port());
    second.cli(&["SET", "key", "value"]).await.unwrap();
}

#[tokio::test]
async fn a_failover_can_be_requested() {
    let redis = RedisSentinel::start().await.unwrap();
    redis.failover().await.unwrap();
    assert_eq!(redis.master().await.unwrap().port(), redis.servers()[1].port());
}
