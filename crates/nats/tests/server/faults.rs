//! Servers that are killed and frozen, and connections that are cut.

use std::{future::Future, time::Duration};

use trunkline_brokers::{Nats, NatsCluster, Proxy};
use trunkline_conformance::kit::eventually;
use trunkline_core::{Emitter, ErrorKind, Payload, Room, Target, model::Delivery};
use trunkline_nats::{HistoryConfig, connect};

use crate::member::{Member, config, is_connected, is_gap};

/// Two nodes, a room at the second one, and something that interrupts both of them.
async fn everything_works_again<F: Future<Output = ()>>(url: &str, interrupt: impl FnOnce() -> F) {
    let (sender, mut receiver) = (Member::join(config(url)).await, Member::join(config(url)).await);
    receiver.backend.interest.as_ref().unwrap().room_created(&receiver.node, &"r".into()).await.unwrap();
    sender.emit(Target::room("r"), 1).await.unwrap();
    assert_eq!(receiver.number().await, 1);
    interrupt().await;
    receiver.find(is_connected).await;
    receiver.find(is_gap).await;
    sender.emit(Target::room("r"), 3).await.unwrap();
    while receiver.number().await != 3 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_again_after_the_server_was_killed() {
    let server = Nats::start().await.unwrap();
    everything_works_again(server.url(), async || {
        server.kill().await.unwrap();
        server.restart().await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_again_after_connections_were_cut() {
    let server = Nats::start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    everything_works_again(&format!("nats://127.0.0.1:{}", proxy.port()), async || proxy.cut()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_counts_as_lost_and_works_again_when_it_thaws() {
    let server = Nats::start().await.unwrap();
    let mut member = Member::join(config(server.url())).await;
    server.freeze().unwrap();
    member.find(|it| matches!(it, Delivery::Lost(_))).await;
    server.thaw().unwrap();
    member.find(is_connected).await;
    member.find(is_gap).await;
    let sender = Member::join(config(server.url())).await;
    sender.emit(Target::all(), 1).await.unwrap();
    assert_eq!(member.number().await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_published_while_the_connection_stalls_arrives_once_and_in_order() {
    let server = Nats::start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let mut receiver = Member::join(config(server.url())).await;
    let mut sender = Member::join(config(&format!("nats://127.0.0.1:{}", proxy.port()))).await;
    for number in 1..=100 {
        sender.emit(Target::all(), number).await.unwrap();
    }
    proxy.stall();
    for number in 101..=200 {
        sender.emit(Target::all(), number).await.unwrap();
    }
    sender.find(|it| matches!(it, Delivery::Lost(_))).await;
    for number in 201..=300 {
        sender.emit(Target::all(), number).await.unwrap();
    }
    proxy.cut();
    proxy.resume();
    for number in 1..=300 {
        assert_eq!(receiver.number().await, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_server_is_away_a_full_queue_is_an_error_at_once() {
    let server = Nats::start().await.unwrap();
    let mut config = config(server.url());
    config.outbox.bytes = 10_000;
    let mut member = Member::join(config).await;
    server.kill().await.unwrap();
    member.find(|it| matches!(it, Delivery::Lost(_))).await;
    let error = loop {
        if let Err(error) = member.emit(Target::all(), 1).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::QueueFull);
    assert!(!member.backend.transport.health().connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_servers_may_be_killed() {
    let cluster = NatsCluster::start().await.unwrap();
    let first = cluster.nodes()[0].url().to_owned();
    let (sender, mut receiver) = (Member::join(config(&cluster.url())).await, Member::join(config(&first)).await);
    cluster.nodes()[0].kill().await.unwrap();
    receiver.find(is_connected).await;
    let mut number = 0;
    // The servers take a moment to tell each other who wants what.
    let heard = async { while receiver.number().await == 0 {} };
    let sending = async {
        loop {
            number += 1;
            sender.emit(Target::all(), number).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        () = heard => {}
        () = sending => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_history_nothing_is_lost_over_a_restart() {
    let server = Nats::start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let mut near = config(server.url());
    near.history = Some(HistoryConfig::default());
    let mut far = config(&format!("nats://127.0.0.1:{}", proxy.port()));
    far.history = near.history;
    let (sender, mut receiver) = (Member::join(near).await, Member::join(far).await);
    for number in 1..=300 {
        sender.emit(Target::room(Room::new(format!("r{}", number % 7))), number).await.unwrap();
        match number {
            100 => proxy.cut(),
            200 => {
                server.kill().await.unwrap();
                server.restart().await.unwrap();
            }
            _ => {}
        }
    }
    for number in 1..=300 {
        assert_eq!(receiver.number().await, number);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_lost_before_peers_count_as_silent() {
    let server = Nats::start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let mut config = config(&proxy.url(server.url()));
    // The default.
    config.ping_interval = Duration::from_secs(5);
    let mut member = Member::join(config).await;
    proxy.stall();
    let start = std::time::Instant::now();
    member.find(|it| matches!(it, Delivery::Lost(_))).await;
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    let health = member.backend.transport.health();
    assert!(!health.connected && health.reason.is_some(), "{health:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_does_not_permit_is_counted_and_told() {
    let forbidden = "authorization { users = [ { user: app, password: secret, \
                     permissions: { publish: { deny: [ \"*.*.room.>\" ] } } } ] }";
    let server = Nats::options().configuration(forbidden).start().await.unwrap();
    let member_url = server.url().replace("nats://", "nats://app:secret@");
    let member = Member::join(config(&member_url)).await;
    // Each refusal is told, some time after the message was sent.
    let is_counted = async || {
        member.emit(Target::room("r"), 0).await.unwrap();
        member.metrics.snapshot().publish_errors > 0
    };
    eventually(Duration::from_secs(30), || "nothing was counted".into(), is_counted).await.unwrap();
    let health = member.backend.transport.health();
    assert!(health.refused_messages > 0 && health.refusal.is_some(), "{health:?}");
    let emitter = Emitter::new(&connect(config(&member_url)).await.unwrap());
    let is_told = async || {
        emitter.emit(Target::room("r"), Payload::event("e", &()).unwrap()).await.unwrap();
        let flushed = emitter.flush().await;
        flushed.is_err_and(|error| error.kind() == ErrorKind::Broker && error.to_string().contains("not permitted"))
    };
    eventually(Duration::from_secs(30), || "no flush failed".into(), is_told).await.unwrap();
}

/// A node with a history, and the server's JetStream.
async fn with_history(server: &Nats) -> (Member, async_nats::jetstream::Context) {
    let mut config = config(server.url());
    config.history = Some(HistoryConfig::default());
    let member = Member::join(config).await;
    (member, async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_was_deleted_is_made_again() {
    let server = Nats::start().await.unwrap();
    let (sender, _) = with_history(&server).await;
    let (mut receiver, jetstream) = with_history(&server).await;
    sender.emit(Target::all(), 1).await.unwrap();
    assert_eq!(receiver.number().await, 1);
    jetstream.delete_stream("trunkline-trunkline").await.unwrap();
    for number in 2..=20 {
        sender.emit(Target::all(), number).await.unwrap();
    }
    while receiver.number().await != 20 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_is_a_server_that_is_away() {
    let server = Nats::start().await.unwrap();
    let (mut sender, jetstream) = with_history(&server).await;
    let mut receiver = with_history(&server).await.0;
    let mut stream = jetstream.get_stream("trunkline-trunkline").await.unwrap();
    let limits = stream.info().await.unwrap().config.clone();
    let mut full = limits.clone();
    (full.max_messages, full.discard) = (1, async_nats::jetstream::stream::DiscardPolicy::New);
    jetstream.update_stream(full).await.unwrap();
    // There is room for one batch.
    sender.emit(Target::all(), 1).await.unwrap();
    assert_eq!(receiver.number().await, 1);
    for number in 2..=10 {
        sender.emit(Target::all(), number).await.unwrap();
    }
    sender.find(|it| matches!(it, Delivery::Lost(_))).await;
    let health = sender.backend.transport.health();
    assert!(!health.connected && health.reason.is_some(), "{health:?}");
    jetstream.update_stream(limits).await.unwrap();
    for number in 2..=10 {
        assert_eq!(receiver.number().await, number);
    }
    assert_eq!(sender.metrics.snapshot().blocked, 1);
}
