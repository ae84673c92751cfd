//! What nodes export, as a scrape of Prometheus sees it, against the tables of `docs/metrics.md`.

use std::collections::{BTreeMap, BTreeSet};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use trunkline_conformance::{
    Setup,
    kit::{Failure, TestCluster, eventually},
};
use trunkline_core::{
    Session, SessionId, SocketId, Target,
    memory::{self, HistoryLimits, MemoryConfig},
    model::METRICS_BUCKETS,
};

const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");

fn recorder() -> PrometheusRecorder {
    let builder = PrometheusBuilder::new();
    let prefix = Matcher::Prefix("trunkline_".into());
    builder.set_buckets_for_metric(prefix, &METRICS_BUCKETS).expect("there are buckets").build_recorder()
}

fn cluster() -> TestCluster {
    TestCluster::new(&Setup::new(|cluster| async move { memory::backend(&cluster, MemoryConfig::default()) }))
}

/// The samples of a scrape: by their name with the labels as Prometheus writes them.
fn scrape(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let text = handle.render();
    let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    samples
        .map(|line| line.rsplit_once(' ').expect("a sample has a value"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// Sum of the samples of a metric whose labels contain all of these.
fn sum(scraped: &BTreeMap<String, f64>, name: &str, labels: &[&str]) -> f64 {
    let of_metric = scraped.iter().filter(|(sample, _)| sample.split('{').next() == Some(name));
    of_metric.filter(|(sample, _)| labels.iter().all(|label| sample.contains(label))).map(|(_, value)| value).sum()
}

/// Cells of the rows of the tables in which the first cell is code, of what every node exports.
fn rows() -> impl Iterator<Item = Vec<String>> {
    let of_nodes = DOCUMENTED.split("## From the bridge").next().unwrap_or_default();
    let rows = of_nodes.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
}

#[tokio::test]
async fn what_is_documented_is_exported_and_nothing_else() -> Result<(), Failure> {
    let recorder = recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let config = MemoryConfig { history: Some(HistoryLimits::default()) };
    let cluster = TestCluster::new(&Setup::new(move |name| async move { memory::backend(&name, config) }));
    let [a] = cluster.nodes().await?;
    // What is kept has an age from now on; a node asks for it when it joins.
    a.emit(Target::all(), "kept").await?;
    let [b] = cluster.nodes().await?;
    a.wait_for_peers(1).await?;
    a.fetch_sockets(Target::all()).await?;
    let is_there = |name: &str| sum(&scrape(&handle), name, &[]) > 0.0;
    let timeout = cluster.timeout();
    let all = "a heartbeat has come back, and the levels are known";
    eventually(
        timeout,
        || all.into(),
        async || {
            is_there("trunkline_broker_echo_seconds_count")
                && is_there("trunkline_peers")
                && is_there("trunkline_history_reach_seconds")
        },
    )
    .await?;
    drop(b);

    let scraped = handle.render();
    let types = scraped.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let exported: BTreeMap<&str, &str> = types.collect();
    let documented: Vec<_> = rows().filter(|row| row[0].starts_with("trunkline_")).collect();
    assert!(documented.len() > 20, "{documented:?}");
    for row in &documented {
        let [name, kind, _, more_labels, ..] = row.as_slice() else { panic!("{row:?}") };
        assert_eq!(exported.get(name.as_str()), Some(&kind.as_str()), "{name}");
        let sample = scraped
            .lines()
            .find(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name}_count{{")))
            .expect("a sample");
        let names = sample.split(['{', ',']).skip(1).filter_map(|label| label.split_once('=')).map(|(name, _)| name);
        let found: BTreeSet<_> = names.collect();
        let more = more_labels.split(", ").filter(|label| *label != "–");
        assert_eq!(found, ["backend", "namespace"].into_iter().chain(more).collect(), "{name}");
    }
    let names: BTreeSet<_> = documented.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(exported.keys().copied().collect::<BTreeSet<_>>(), names);
    let reasons: BTreeSet<_> = scraped.split("reason=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    let listed: BTreeSet<_> =
        rows().filter(|row| !row[0].starts_with("trunkline_")).map(|row| row[0].clone()).collect();
    assert_eq!(reasons, listed.iter().map(String::as_str).collect());
    Ok(())
}

#[tokio::test]
async fn requests_to_the_history_are_counted_by_their_outcome() -> Result<(), Failure> {
    let recorder = recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let limits = HistoryLimits { messages: 2, ..HistoryLimits::default() };
    let config = MemoryConfig { history: Some(limits) };
    let cluster = TestCluster::new(&Setup::new(move |name| async move { memory::backend(&name, config) }));
    let node = cluster.build().namespace("/kept").join().await?;
    let start = node.offset().await?;
    node.emit(Target::all(), "one").await?;
    assert_eq!(node.replay(start.clone(), &[]).await?.len(), 1);
    let (secret, socket) = (SessionId::new("secret")?, SocketId::new("socket")?);
    node.persist_session(Session::new(secret.clone(), socket, Vec::new())).await?;
    assert!(node.restore_session(secret.clone(), start.clone()).await?.is_some());
    assert!(node.restore_session(secret, start.clone()).await?.is_none());
    for _ in 0..3 {
        node.emit(Target::all(), "more").await?;
    }
    node.replay(start, &[]).await.expect_err("the history is shorter");
    let scraped = scrape(&handle);
    let count = |kind: &str, outcome: &str| {
        let labels = ["namespace=\"/kept\"", &format!("kind=\"{kind}\",outcome=\"{outcome}\"")];
        sum(&scraped, "trunkline_history_requests_total", &labels)
    };
    assert_eq!((count("replay", "complete"), count("replay", "lost")), (1.0, 1.0));
    assert_eq!((count("restore", "complete"), count("restore", "unknown")), (1.0, 1.0));
    assert_eq!((count("persist", "complete"), count("persist", "failed")), (1.0, 0.0));
    assert_eq!(sum(&scraped, "trunkline_replayed_messages_total", &["namespace=\"/kept\""]), 2.0);
    Ok(())
}

#[tokio::test]
async fn counts_are_those_of_callers_and_clients() -> Result<(), Failure> {
    let recorder = recorder();
    let handle = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let cluster = cluster();
    let build = || cluster.build().namespace("/counted");
    let (a, b) = (build().join().await?, build().join().await?);
    let room = "counted-room";
    let (here, there) = (a.socket([room]).await?, b.socket([room]).await?);
    for number in 0..10 {
        a.emit(Target::room(room), "tick").await?;
        here.wait_for(number + 1).await?;
        there.wait_for(number + 1).await?;
    }
    assert_eq!(a.fetch_sockets(Target::all()).await?.len(), 2);
    let here = "namespace=\"/counted\"";
    let level = |name: &str, label: &str| sum(&scrape(&handle), name, &[here, label]);
    let all = || "the recorder has been given everything".into();
    eventually(cluster.timeout(), all, async || {
        level("trunkline_connected", "") == 1.0
            && level("trunkline_peers", "by_name") == 1.0
            && level("trunkline_received_messages_total", "kind=\"broadcast\"") >= 10.0
            && level("trunkline_received_messages_total", "kind=\"answer\"") >= 1.0
    })
    .await?;
    let scraped = scrape(&handle);
    let count = |name: &str, label: &str| sum(&scraped, name, &[here, "backend=\"memory\"", label]);
    assert_eq!(count("trunkline_published_messages_total", "kind=\"broadcast\""), 10.0);
    assert_eq!(count("trunkline_received_messages_total", "kind=\"broadcast\""), 10.0);
    assert_eq!(count("trunkline_published_bytes_total", "kind=\"broadcast\""), 10.0 * "[\"tick\"]".len() as f64);
    assert_eq!(count("trunkline_socket_packets_total", ""), 20.0);
    assert_eq!(count("trunkline_requests_total", "kind=\"fetch_sockets\",outcome=\"complete\""), 1.0);
    assert_eq!(count("trunkline_request_duration_seconds_count", "kind=\"fetch_sockets\""), 1.0);
    assert_eq!(count("trunkline_received_messages_total", "kind=\"answer\""), 1.0);
    assert_eq!(count("trunkline_gaps_total", ""), 0.0);
    Ok(())
}
