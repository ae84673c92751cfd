//! Servers that leave in good order, slow down or hand over.

use std::time::{Duration, Instant};

use trunkline_brokers::{Nats, NatsCluster, Proxy};
use trunkline_conformance::kit::eventually;
use trunkline_core::{Target, model::Delivery};
use trunkline_nats::HistoryConfig;

use crate::member::{Member, config, is_connected, is_gap};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_lame_duck_mode_is_left_before_it_closes_and_nothing_is_lost() {
    let cluster = NatsCluster::start().await.unwrap();
    let lame = &cluster.nodes()[0];
    let sender = Member::join(config(cluster.nodes()[1].url())).await;
    // It learns the addresses of the others from this server.
    let mut patient = config(lame.url());
    // A busy machine must not look like a lost server: that would be a gap.
    patient.ping_interval = Duration::from_secs(10);
    let mut receiver = Member::join(patient).await;
    let mut left = None;
    // Traffic goes on before, while and after it turns from one server to the other.
    for number in 0.. {
        if number == 100 {
            lame.lame_duck().unwrap();
        }
        sender.emit(Target::all(), number).await.unwrap();
        assert_eq!(receiver.number().await, number);
        if receiver.backend.transport.health().reconnects > 0 {
            let since: &mut Instant = left.get_or_insert_with(Instant::now);
            if since.elapsed() > Duration::from_secs(2) {
                break;
            }
        }
    }
    assert!(lame.pid().is_some(), "the server is still there when it is left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_are_reached_where_the_application_says_and_not_where_they_say() {
    let cluster = NatsCluster::start().await.unwrap();
    let mut proxies = Vec::new();
    for node in cluster.nodes() {
        proxies.push(Proxy::start(node.port()).await.unwrap());
    }
    let pairs = cluster.nodes().iter().zip(&proxies);
    let pairs: Vec<_> =
        pairs.map(|(node, proxy)| format!("127.0.0.1:{}%3D127.0.0.1:{}", node.port(), proxy.port())).collect();
    let url = format!("nats://127.0.0.1:{}?announce={}", proxies[0].port(), pairs.join(","));
    let mut member = Member::join(config(&url)).await;
    proxies[0].refuse();
    proxies[0].cut();
    member.find(|it| matches!(it, Delivery::Lost(_))).await;
    member.find(is_connected).await;
    assert!(proxies[1].accepted() + proxies[2].accepted() > 0, "it goes through another proxy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_consumer_that_the_server_cuts_off_learns_of_a_gap_and_goes_on() {
    let server = Nats::options().configuration("max_pending: 1MB\nwrite_deadline: \"200ms\"\n").start().await.unwrap();
    let proxy = Proxy::start(server.port()).await.unwrap();
    let sender = Member::join(config(server.url())).await;
    let mut slow = config(&format!("nats://127.0.0.1:{}", proxy.port()));
    // So that it is the server who notices.
    slow.ping_interval = Duration::from_secs(30);
    let mut slow = Member::join(slow).await;
    proxy.stall();
    for number in 0..20_000 {
        sender.emit_padded(Target::all(), number, 1000).await.unwrap();
    }
    proxy.resume();
    slow.find(|it| matches!(it, Delivery::Lost(_))).await;
    slow.find(is_connected).await;
    slow.find(is_gap).await;
    sender.emit(Target::all(), 20_000).await.unwrap();
    while slow.number().await != 20_000 {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_subscription_drops_is_a_gap() {
    let server = Nats::start().await.unwrap();
    let sender = Member::join(config(server.url())).await;
    let mut small = config(server.url());
    small.pending_batches = 1;
    let mut small = Member::join(small).await;
    // More batches than fit, as each is full of its one message.
    let flood = tokio::spawn(async move {
        for number in 0..2000 {
            sender.emit_padded(Target::all(), number, 60_000).await.unwrap();
        }
    });
    small.find(is_gap).await;
    flood.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_the_leader_of_the_history_moves() {
    let cluster = NatsCluster::start().await.unwrap();
    let mut with_history = config(&cluster.url());
    with_history.history = Some(HistoryConfig { replicas: 3, ..HistoryConfig::default() });
    // Three servers on a busy machine take their time to agree on a stream.
    with_history.connect_timeout = Duration::from_secs(20);
    let (sender, mut receiver) = (Member::join(with_history.clone()).await, Member::join(with_history).await);
    let client = async_nats::connect(cluster.nodes()[1].url()).await.unwrap();
    let mut moved = 0;
    for number in 0..600 {
        sender.emit(Target::all(), number).await.unwrap();
        if number % 200 == 100 {
            moved += step_down(&client).await;
        }
    }
    assert!(moved > 0, "the leader has moved");
    sender.emit(Target::all(), u64::MAX).await.unwrap();
    assert_eq!(receiver.numbers_until(u64::MAX).await, (0..600).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_is_set_up_while_the_leader_of_the_cluster_changes() {
    let cluster = NatsCluster::start().await.unwrap();
    let frozen = leader(&cluster.nodes()[0]).await.unwrap();
    let other = &cluster.nodes()[(frozen + 1) % 3];
    // The others drop what they are asked until they have elected another leader.
    cluster.nodes()[frozen].freeze().unwrap();
    let mut with_history = config(other.url());
    with_history.history = Some(HistoryConfig { replicas: 3, ..HistoryConfig::default() });
    with_history.connect_timeout = Duration::from_secs(40);
    let joined = tokio::spawn(Member::join(with_history));
    let is_elected = || async { leader(other).await.is_some_and(|elected| elected != frozen) };
    eventually(Duration::from_secs(30), || "no leader was elected".into(), is_elected).await.unwrap();
    cluster.nodes()[frozen].thaw().unwrap();
    joined.await.unwrap().emit(Target::all(), 1).await.unwrap();
}

/// The index of the server that leads the cluster's JetStream.
async fn leader(server: &Nats) -> Option<usize> {
    let page: serde_json::Value = serde_json::from_str(&server.page("/jsz").await.unwrap()).unwrap();
    let name = page["meta_cluster"]["leader"].as_str()?;
    name.strip_prefix('n').and_then(|index| index.parse().ok())
}

/// Asks the leaders of all streams to step down:
/// <https://docs.nats.io/reference/reference-protocols/nats_api_reference>. How many did.
async fn step_down(client: &async_nats::Client) -> usize {
    let names = client.request("$JS.API.STREAM.NAMES", "".into()).await.unwrap();
    let names: serde_json::Value = serde_json::from_slice(&names.payload).unwrap();
    let mut moved = 0;
    for name in names["streams"].as_array().unwrap() {
        let subject = format!("$JS.API.STREAM.LEADER.STEPDOWN.{}", name.as_str().unwrap());
        let answer = client.request(subject, "".into()).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap();
        moved += usize::from(answer["success"] == true);
    }
    moved
}
