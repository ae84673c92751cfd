//! Time-outs of servers for connections that are quiet, and for statements: nodes that have nothing to say stay
//! connected, and miss nothing.

use std::time::Duration;

use tokio::time::sleep;
use trunkline::Target;
use trunkline_backends::join;
use trunkline_brokers::{MongoDb, Postgres, Redis};

/// More than three times what servers here allow.
const QUIET: Duration = Duration::from_millis(3500);

/// Checks that two nodes reach each other after a while, over the connections that they had.
async fn outlast(url: &str) {
    let backends = (trunkline::connect(url).await.unwrap(), trunkline::connect(url).await.unwrap());
    let (a, b) = (join(backends.0).await, join(backends.1).await);
    let socket = b.socket(["lobby"]).await.unwrap();
    a.wait_for_peers(1).await.unwrap();
    sleep(QUIET).await;
    for name in ["one", "two", "three"] {
        a.emit(Target::room("lobby"), name).await.unwrap();
    }
    socket.wait_for(3).await.unwrap();
    socket.got(&["one", "two", "three"]).unwrap();
    assert_eq!(a.fetch_sockets(Target::room("lobby")).await.unwrap().len(), 1, "{url}");
    for health in [a.health(), b.health()] {
        assert!(health.connected && health.reconnects == 0 && health.gaps == 0, "{url}: {health:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redis() {
    let redis = Redis::options().arguments(&["--timeout", "1"]).start().await.unwrap();
    let url = |mode: &str| format!("{}?mode={mode}", redis.url());
    let (pubsub, sharded, streams) = (url("pubsub"), url("sharded"), url("streams"));
    tokio::join!(outlast(&pubsub), outlast(&sharded), outlast(&streams));
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres() {
    let limits = [
        "--idle_session_timeout=1s",
        "--idle_in_transaction_session_timeout=500ms",
        "--lock_timeout=300ms",
        "--statement_timeout=500ms",
    ];
    let postgres = Postgres::options().arguments(&limits).start().await.unwrap();
    let (plain, history) = (format!("{}?prefix=plain", postgres.url()), format!("{}?history=on", postgres.url()));
    tokio::join!(outlast(&plain), outlast(&history));
}

#[tokio::test(flavor = "multi_thread")]
async fn mongodb() {
    let mongo = MongoDb::start().await.unwrap();
    outlast(&format!("{}&maxIdleTimeMS=1000", mongo.url())).await;
}
