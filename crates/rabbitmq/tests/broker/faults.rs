//! What happens when connections and brokers break: nothing hangs, nothing is repeated, and what is missing is said.

use std::time::{Duration, Instant};

use trunkline_brokers::{Proxy, RabbitMq};
use trunkline_conformance::kit::{Failure, TestNode};
use trunkline_core::{Emitter, ErrorKind, Event, GapCause, Room, Target};
use trunkline_rabbitmq::{Config, connect};

use crate::support::{TIMEOUT, cluster, config, expect_numbers, listed, numbered, numbers, private, shared, until};

/// Two nodes that know each other.
async fn pair(config: &Config) -> Result<[TestNode; 2], Failure> {
    let nodes = cluster(config.clone()).nodes().await?;
    let [a, b] = &nodes;
    a.await_peers(1, TIMEOUT).await?;
    b.await_peers(1, TIMEOUT).await?;
    Ok(nodes)
}

fn is_loss(event: &Event) -> bool {
    matches!(event, Event::Lost(_))
}

fn is_gap(event: &Event) -> bool {
    matches!(event, Event::Gap(_))
}

/// Rooms, answers and order are as before, after something interrupted the second node at least.
async fn everything_works_again(config: &Config, interrupt: impl AsyncFnOnce(&TestNode)) -> Result<(), Failure> {
    let [a, b] = pair(config).await?;
    let there = b.socket(["r"]).await?;
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    there.wait_for(1).await?;
    let gaps = b.events();
    interrupt(&b).await;
    b.wait_for_event(gaps, is_gap, "of a gap").await?;
    // A node that heard nothing of the other for too long hears of it again.
    until("both know each other", async || a.await_peers(1, TIMEOUT).await.is_ok()).await;
    until("a is heard", async || {
        let _ = a.broadcast(Target::room("r"), numbered(1, 10)).await;
        numbers(&there).last() == Some(&1)
    })
    .await;
    b.await_peers(1, TIMEOUT).await?;
    assert_eq!(a.fetch_sockets(Target::room("r")).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_again_after_the_broker_was_killed() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options()).await;
    everything_works_again(&config(broker.url(), "killed"), async |_| {
        broker.kill().await.unwrap();
        broker.restart().await.unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_again_after_the_broker_was_frozen() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options()).await;
    everything_works_again(&config(broker.url(), "frozen"), async |b| {
        let losses = b.events();
        broker.freeze().unwrap();
        b.wait_for_event(losses, is_loss, "of the loss").await.unwrap();
        broker.thaw().unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_again_after_the_broker_closed_connections() -> Result<(), Failure> {
    let broker = shared().await;
    everything_works_again(&config(broker.url(), "closed"), async |_| {
        let list = broker.ctl(&["list_connections", "pid", "client_properties"]).await.unwrap();
        let pids =
            list.lines().filter(|line| line.contains("trunkline closed ")).filter_map(|line| line.split_once('\t'));
        let mut closed = 0;
        for (pid, _) in pids {
            broker.ctl(&["close_connection", pid, "for a test"]).await.unwrap();
            closed += 1;
        }
        assert!(closed >= 2, "{list}");
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_works_again_after_connections_were_cut() -> Result<(), Failure> {
    let broker = shared().await;
    let proxy = Proxy::start(broker.port()).await.unwrap();
    everything_works_again(&config(&proxy.url(broker.url()), "cut"), async |_| proxy.cut()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_while_the_connection_is_away_arrives_once_and_in_order() -> Result<(), Failure> {
    let broker = shared().await;
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let near = cluster(config(broker.url(), "away"));
    let far = connect(config(&proxy.url(broker.url()), "away")).await?;
    let (b, a) = (near.node().await?, near.build().over(far).join().await?);
    a.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    let mut losses = Some(a.events());
    for number in 0..300 {
        match number {
            100 => proxy.stall(),
            200 => {
                proxy.cut();
                proxy.refuse();
                a.wait_for_event(losses.take().unwrap(), is_loss, "of the loss").await?;
            }
            _ => {}
        }
        a.broadcast(Target::room("r"), numbered(number, 10)).await?;
    }
    proxy.resume();
    expect_numbers(&there, 300).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_holds_publishes_back_and_loses_none() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options()).await;
    let mut config = config(broker.url(), "alarm");
    config.outbox.bytes = 100_000;
    config.outbox.push_timeout = Duration::from_millis(500);
    let [a, b] = pair(&config).await?;
    let there = b.socket(["r"]).await?;
    broker.ctl(&["set_vm_memory_high_watermark", "0"]).await.unwrap();
    // The broker stops to read from a connection when something is published there.
    let mut sent = 0;
    let refusal = loop {
        match a.broadcast(Target::room("r"), numbered(sent, 1000)).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000_000, "nothing is held back");
    };
    assert_eq!(refusal.kind(), ErrorKind::QueueFull);
    until("the alarm is counted", async || a.metrics().blocked > 0).await;
    let health = a.backend().transport.health();
    assert!(!health.connected && health.queued_bytes > 50_000, "{health:?}");
    assert!(health.reason.is_some() && health.since.is_some(), "{health:?}");
    a.fetch_sockets(Target::all()).await.expect_err("a node that cannot ask does not pass for the whole cluster");
    broker.ctl(&["set_vm_memory_high_watermark", "0.4"]).await.unwrap();
    expect_numbers(&there, sent).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stuck_node_lost_in_the_broker_is_counted() -> Result<(), Failure> {
    let broker = shared().await;
    let proxy = Proxy::start(broker.port()).await.unwrap();
    let near = cluster(config(broker.url(), "stuck"));
    let mut stuck = config(&proxy.url(broker.url()), "stuck");
    (stuck.queue_batches, stuck.prefetch, stuck.ping_interval) = (5, 1, Duration::from_secs(30));
    let a = near.node().await?;
    let b = near.build().over(connect(stuck).await?).join().await?;
    a.await_peers(1, TIMEOUT).await?;
    let there = b.socket(["r"]).await?;
    // What is lost before anything of a room was heard could not be told from what was sent before the subscription.
    a.broadcast(Target::room("r"), numbered(0, 100)).await?;
    until("the first one arrives", async || numbers(&there) == [0]).await;
    let gaps = b.events();
    proxy.stall();
    for number in 1..20_000 {
        a.broadcast(Target::room("r"), numbered(number, 100)).await?;
    }
    until("everything is confirmed", async || a.backend().transport.health().queued_bytes == 0).await;
    proxy.resume();
    let hole = |event: &Event| matches!(event, Event::Gap(gap) if gap.cause == GapCause::Hole);
    b.wait_for_event(gaps, hole, "of the hole").await?;
    a.broadcast(Target::room("r"), numbered(20_000, 100)).await?;
    until("the last one arrives", async || numbers(&there).last() == Some(&20_000)).await;
    let arrived = numbers(&there);
    assert!(arrived.is_sorted() && arrived.len() < 20_000);
    assert_eq!(b.metrics().missed, 20_001 - arrived.len() as u64);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_leaves_nothing_behind_and_is_not_waited_for() -> Result<(), Failure> {
    let broker = shared().await;
    let cluster = cluster(config(broker.url(), "dying"));
    let a = cluster.node().await?;
    let b = cluster.build().own_process().fast_failure_detection().join().await?;
    let dead = b.id().clone();
    let id = dead.to_string();
    a.await_peers(1, TIMEOUT).await?;
    b.socket((0..1000).map(|room| Room::new(format!("room {room}")))).await?;
    b.kill().await?;
    let queues = async || listed(broker, &["list_queues", "name"], "dying").await;
    until("the queue is gone", async || !queues().await.iter().any(|queue| queue.contains(&id))).await;
    assert_eq!(queues().await.len(), 1);
    let start = Instant::now();
    // It may only be cut off, for all that the broker tells: until its silence is noticed, it is missing.
    let incomplete = a.fetch_sockets(Target::all()).await.unwrap_err().into_incomplete().unwrap();
    assert_eq!((incomplete.missing, incomplete.received.len()), (vec![dead], 0));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}: long before its silence was noticed", start.elapsed());
    until("it is left out", async || a.fetch_sockets(Target::all()).await.is_ok()).await;
    let connections = broker.ctl(&["list_connections", "client_properties"]).await.unwrap();
    assert_eq!(connections.lines().filter(|line| line.contains("trunkline dying ")).count(), 2, "{connections}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_a_client_certificate_and_a_password() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options().user("app", "s3cret").tls()).await;
    let certificates = broker.certificates().unwrap();
    let url = format!(
        "{}?tls_ca={}&tls_cert={}&tls_key={}",
        broker.url(),
        certificates.authority().display(),
        certificates.client().display(),
        certificates.client_key().display()
    );
    let [a, b] = pair(&config(&url, "secret")).await?;
    let there = b.socket(["r"]).await?;
    a.broadcast(Target::room("r"), numbered(0, 10)).await?;
    expect_numbers(&there, 1).await?;
    let refusal = async |url: &str| connect(config(url, "secret")).await.unwrap_err();
    let wrong = refusal(&url.replace("s3cret", "wr0ng")).await;
    assert_eq!(wrong.kind(), ErrorKind::Config, "{wrong:?}");
    assert!(!format!("{wrong:?}").contains("wr0ng"), "{wrong:?}");
    let stranger = refusal(broker.url()).await;
    assert_eq!(stranger.kind(), ErrorKind::Config, "an unknown authority: {stranger:?}");
    let nowhere = refusal(&url.replace("?", "/nowhere?")).await;
    assert_eq!(nowhere.kind(), ErrorKind::Config, "an unknown virtual host: {nowhere:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_does_not_permit_is_counted_and_told() -> Result<(), Failure> {
    let (broker, _turn) = private(RabbitMq::options().user("app", "s3cret")).await;
    let backend = connect(config(broker.url(), "mute")).await?;
    let emitter = Emitter::new(&backend);
    emitter.emit(Target::room("r"), numbered(0, 10)).await?;
    emitter.flush().await?;
    broker.ctl(&["set_permissions", "app", ".*", "^$", ".*"]).await.unwrap();
    // A channel remembers what is permitted: the next one asks again.
    broker.ctl(&["close_all_connections", "permissions"]).await.unwrap();
    let refused = async || {
        let _ = emitter.emit(Target::room("r"), numbered(1, 10)).await;
        emitter.flush().await.is_err_and(|error| error.kind() == ErrorKind::Broker)
    };
    until("what is refused is told", refused).await;
    let health = backend.transport.health();
    assert!(health.refused_messages > 0 && health.refusal.is_some(), "{health:?}");
    broker.ctl(&["set_permissions", "app", ".*", ".*", ".*"]).await.unwrap();
    until("what is permitted again is taken", async || {
        let _ = emitter.emit(Target::room("r"), numbered(2, 10)).await;
        emitter.flush().await.is_ok()
    })
    .await;
    Ok(emitter.close().await?)
}
