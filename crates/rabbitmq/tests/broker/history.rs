//! The history over faults.

use std::time::Duration;

use trunkline_brokers::{Proxy, RabbitMq};
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::{ErrorKind, Event, Payload, Room, Target};
use trunkline_rabbitmq::{Config, HistoryConfig, connect};

use crate::support::{PATIENCE, cluster, config, expect_numbers, numbered, numbers, private, shared, until};

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

/// Three nodes with two sockets each see each other again and again.
async fn expect_whole(nodes: &[TestNode; 3]) {
    until("everyone knows everyone", async || {
        for node in nodes {
            if node.peers().len() != 2 {
                return false;
            }
        }
        true
    })
    .await;
    for node in nodes.iter().cycle().take(9) {
        assert_eq!(node.fetch_sockets(Target::all()).await.unwrap().len(), 6);
        let answers = node.server_side_emit_with_ack(Payload::event("who", &()).unwrap(), None).await.unwrap();
        assert_eq!(answers.len(), 2);
    }
}

async fn three_of(config: &Config) -> Result<[TestNode; 3], Failure> {
    let nodes: [TestNode; 3] = cluster(config.clone()).nodes().await?;
    for node in &nodes {
        node.answer_server_side(Some(Payload::event("me", &()).unwrap()));
        node.socket(["r"]).await?;
        node.socket(["r"]).await?;
        node.await_peers(2, PATIENCE).await?;
    }
    Ok(nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_history_no_node_is_given_up_after_the_broker_was_restarted() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options()).await;
    let nodes = three_of(&kept(broker.url(), "whole")).await?;
    expect_whole(&nodes).await;
    let losses = nodes[0].events();
    broker.stop().await.unwrap();
    nodes[0].wait_for_event(losses, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
    assert!(nodes[0].health().reason.is_some());
    let back = nodes[0].events();
    broker.restart().await.unwrap();
    nodes[0].wait_for_event(back, |event| matches!(event, Event::Connected), "of the return").await?;
    // Requests while nodes come back one after the other are what probes them.
    let _ = nodes[0].fetch_sockets(Target::all()).await;
    expect_whole(&nodes).await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_history_no_node_is_given_up_after_connections_were_cut() -> Result<(), Failure> {
    let broker = shared().await;
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let nodes = three_of(&kept(&proxy.url(broker.url()), "reset")).await?;
    for _ in 0..3 {
        let back = nodes[0].events();
        proxy.cut();
        let _ = nodes[1].fetch_sockets(Target::all()).await;
        nodes[0].wait_for_event(back, |event| matches!(event, Event::Connected), "of the return").await?;
        let _ = nodes[0].fetch_sockets(Target::all()).await;
        expect_whole(&nodes).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_is_made_again_with_one_gap() -> Result<(), Failure> {
    let broker = shared().await;
    let [a, b] = cluster(kept(broker.url(), "deleted")).nodes().await?;
    a.await_peers(1, PATIENCE).await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&there, 1).await?;
    for queue_or_exchange in ["amqqueue_delete", "exchange"] {
        let before = numbers(&there).len();
        let script = match queue_or_exchange {
            "exchange" => {
                "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"trunkline.deleted\">>), false, <<\"test\">>), ok."
            }
            _ => {
                "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"trunkline.deleted.log\">>)), \
                 rabbit_amqqueue:delete(Q, false, false, <<\"test\">>), ok."
            }
        };
        let lost = a.events();
        broker.ctl(&["eval", script]).await.unwrap();
        a.broadcast(Target::room("r"), numbered(before, 10)).await?;
        a.wait_for_event(lost, |event| matches!(event, Event::Lost(_)), "of the loss").await?;
        until("own and other sockets are served again", async || {
            a.broadcast(Target::room("r"), numbered(1000, 10)).await.unwrap();
            numbers(&here).len() > before + 1 && numbers(&there).len() > before + 1
        })
        .await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_when_it_was_long_is_read_from_its_new_beginning() -> Result<(), Failure> {
    let broker = shared().await;
    let [a, b] = cluster(kept(broker.url(), "long")).nodes().await?;
    a.await_peers(1, PATIENCE).await?;
    let (here, there) = (a.socket(["r"]).await?, b.socket(["r"]).await?);
    const LONG: usize = 300;
    for number in 0..LONG {
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
        // One entry each.
        there.wait_for(number + 1).await?;
    }
    let (lost_here, lost_there) = (a.events(), b.events());
    let (back_here, back_there) = (a.events(), b.events());
    let script = "{ok, Q} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"trunkline.long.log\">>)), \
                  rabbit_amqqueue:delete(Q, false, false, <<\"test\">>), ok.";
    broker.ctl(&["eval", script]).await.unwrap();
    a.broadcast(Target::room("r"), numbered(LONG, 10)).await?;
    let is_lost = |event: &Event| matches!(event, Event::Lost(_));
    let is_back = |event: &Event| matches!(event, Event::Connected);
    a.wait_for_event(lost_here, is_lost, "of the loss").await?;
    b.wait_for_event(lost_there, is_lost, "of the loss").await?;
    a.wait_for_event(back_here, is_back, "of the return").await?;
    b.wait_for_event(back_there, is_back, "of the return").await?;
    // Far fewer than the old stream had: nobody waits until the new one is as long.
    for number in LONG + 1..LONG + 4 {
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    expect_numbers(&there, LONG + 4).await?;
    expect_numbers(&here, LONG + 4).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_segment_is_no_gap() -> Result<(), Failure> {
    let broker = shared().await;
    let mut config = kept(broker.url(), "segments");
    // Segments of 64 KiB.
    config.history = config.history.map(|history| HistoryConfig { bytes: 512 << 10, ..history });
    let [a, b] = cluster(config).nodes().await?;
    a.await_peers(1, PATIENCE).await?;
    let there = b.socket(["r"]).await?;
    for number in 0..200 {
        a.broadcast(Target::room("r"), numbered(number, 5_000)).await?;
        there.wait_for(number + 1).await?;
    }
    expect_numbers(&there, 200).await?;
    assert_eq!((b.metrics().gaps, a.metrics().gaps), (0, 0));
    Ok(())
}
