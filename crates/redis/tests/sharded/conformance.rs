//! The conformance suite: on a standalone server in every mode, on a cluster of three masters in the modes that differ
//! there.

use tokio::sync::OnceCell;
use trunkline_brokers::{Redis, RedisCluster};
use trunkline_conformance::{Setup, suite};
use trunkline_core::{Backend, Capabilities, Error, ErrorKind, Membership, Result};
use trunkline_redis::Config;

/// The backend of a cluster of nodes, which is kept apart from others by its names.
async fn backend(url: &str, prefix: String, parameters: &str) -> Result<Backend> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let mut config = Config::from_url(&format!("{url}{separator}mode=sharded&{parameters}"))?;
    config.prefix = prefix;
    trunkline_redis::connect(config).await
}

/// On the server that all tests share.
fn standalone(parameters: &'static str) -> Setup {
    Setup::new(move |prefix| async move {
        let url = Redis::shared().await.map_err(|error| Error::new(ErrorKind::Disconnected, error.to_string()))?;
        backend(&url, prefix, parameters).await
    })
}

/// On the Redis Cluster that all tests share.
fn cluster(parameters: &'static str) -> Setup {
    static SHARED: OnceCell<RedisCluster> = OnceCell::const_new();
    Setup::new(move |prefix| async move {
        let shared = SHARED.get_or_try_init(RedisCluster::start).await;
        let shared = shared.map_err(|error| Error::new(ErrorKind::Disconnected, error.to_string()))?;
        backend(shared.url(), prefix, &format!("cluster=on&{parameters}")).await
    })
}

const STATIC: Capabilities = Capabilities::new(Membership::BrokerCount)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_max_message_bytes(Some(16 << 20));

/// No node receives all rooms, so what is missing there cannot be told.
const DYNAMIC: Capabilities = STATIC.with_numbered(false).with_room_interest(true);

/// Rooms live on different servers.
const DYNAMIC_ON_CLUSTER: Capabilities = DYNAMIC.with_total_order(false).with_acknowledged_in_order(false);

suite! { all_to_all, standalone("subscription=static"), capabilities = STATIC, skipped = 25 }

suite! { dynamic, standalone("subscription=dynamic"), capabilities = DYNAMIC, skipped = 32 }

suite! {
    dynamic_private,
    standalone("subscription=dynamic-private").scaled_down_by(4),
    capabilities = DYNAMIC,
    skipped = 32,
}

suite! {
    all_to_all_on_cluster,
    cluster("subscription=static").scaled_down_by(4),
    capabilities = STATIC,
    skipped = 25,
}

suite! {
    dynamic_on_cluster,
    cluster("subscription=dynamic").scaled_down_by(4),
    capabilities = DYNAMIC_ON_CLUSTER,
    skipped = 35,
}
