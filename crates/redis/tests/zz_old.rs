//! By hand.
#![allow(clippy::unwrap_used, reason = "tests fail by panicking")]
use trunkline_redis::{Config, connect};
#[tokio::test]
async fn old() {
    for mode in ["mode=sharded", "mode=streams&sharded_pubsub=on", "mode=pubsub", "mode=streams"] {
        let config = Config::from_url(&format!("redis://127.0.0.1:26262?{mode}")).unwrap();
        println!("{mode}: {:?}", connect(config).await.map(drop).map_err(|e| (e.kind(), e.to_string())));
    }
}
