//! Links that are slow: what takes long goes on as long as something arrives.

use trunkline_brokers::Proxy;
use trunkline_conformance::kit::Failure;
use trunkline_core::Target;

use crate::support::{TIMEOUT, Wire, backend, cluster, expect_numbers, is_lost, numbered, over_all, send, server};

over_all! {
    a_big_message_leaves_over_a_slow_link,
}

const QUICK: &str = "response_timeout=2s&connect_timeout=5s";

/// Much longer than an answer may take.
async fn a_big_message_leaves_over_a_slow_link(wire: Wire) -> Result<(), Failure> {
    let server = server().await;
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.node().await?;
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), QUICK).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    let there = a.socket(["r"]).await?;
    proxy.throttle(1 << 20);
    b.broadcast(Target::room("r"), numbered(0, 6 << 20)).await?;
    expect_numbers(&there, 1).await?;
    assert_eq!((b.health().reconnects, a.metrics().repeats), (0, 0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_far_behind_catches_up_over_a_slow_link() -> Result<(), Failure> {
    let (wire, server) = (Wire::Streams, server().await);
    let proxy = Proxy::start(server.port()).await.unwrap();
    let cluster = cluster(wire, server.url(), "");
    let a = cluster.node().await?;
    let parameters = format!("{QUICK}&block=200ms");
    let b = cluster.build().over(backend(wire, &proxy.url(server.url()), &parameters).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    let lost = b.events();
    send(&a, 0..1).await?;
    let offset = there.wait_for(1).await?[0].offset.clone().unwrap();
    proxy.refuse();
    proxy.cut();
    b.wait_for_event(lost, is_lost, "of the loss").await?;
    for number in 1..40 {
        a.broadcast(Target::room("r"), numbered(number, 256 << 10)).await?;
    }
    here.wait_for(40).await?;
    proxy.resume();
    proxy.throttle(2 << 20);
    expect_numbers(&there, 40).await?;
    assert_eq!(b.replay(offset, &["r".into()]).await?.len(), 39);
    assert_eq!((b.metrics().missed, b.metrics().repeats), (0, 0));
    Ok(())
}
