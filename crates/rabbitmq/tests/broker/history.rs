//! The history over faults.

use std::time::Duration;

use trunkline_brokers::{Proxy, RabbitMq};
use trunkline_conformance::kit::Failure;
use trunkline_core::{ErrorKind, Room, Target};
use trunkline_rabbitmq::{Config, HistoryConfig, connect};

use crate::support::{PATIENCE, cluster, config, expect_numbers, numbered, private, shared};

fn kept(url: &str, prefix: &str) -> Config {
    let mut config = config(url, prefix);
    config.history = Some(HistoryConfig { bytes: 64 << 20, ..HistoryConfig::default() });
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_history_nothing_is_lost_over_a_restart() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options()).await;
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let near = cluster(kept(broker.url(), "kept"));
    let a = near.node().await?;
    let b = near.build().over(connect(kept(&proxy.url(broker.url()), "kept")).await?).join().await?;
    a.await_peers(1, PATIENCE).await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    for number in 0..300 {
        match number {
            100 => proxy.cut(),
            200 => {
                broker.stop().await.unwrap();
                broker.restart().await.unwrap();
            }
            _ => {}
        }
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    expect_numbers(&there, 300).await?;
    expect_numbers(&here, 300).await?;
    let offset = there.packets()[99].offset.clone().expect("what is kept has an offset");
    let missed = b.replay(offset, &[Room::from("r")]).await?;
    let numbers: Vec<_> =
        missed.iter().map(|missed| missed.payload.arguments::<(usize, String)>().unwrap().0).collect();
    assert_eq!(numbers, (100..300).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_want_another_history_than_there_is_are_refused() {
    let broker = shared().await;
    let first = connect(kept(broker.url(), "differing")).await.unwrap();
    let mut other = kept(broker.url(), "differing");
    other.history = other.history.map(|history| HistoryConfig { ttl: Duration::from_secs(7), ..history });
    let refusal = connect(other).await.unwrap_err();
    assert_eq!(refusal.kind(), ErrorKind::Config);
    assert!(refusal.to_string().contains("x-max-age"), "{refusal}");
    first.transport.close().await;
}
