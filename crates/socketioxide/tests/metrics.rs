//! What the bridge exports of a server's sockets, against its table in `docs/metrics.md`.

// Helpers of tests unwrap like the tests themselves.
#![allow(clippy::unwrap_used)]

use std::{collections::BTreeMap, time::Duration};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use socketioxide::{SocketIo, socket::DisconnectReason};
use trunkline_core::memory::{self, MemoryConfig};
use trunkline_socketioxide::{Cluster, ClusterSocket, Trunkline};

const DOCUMENTED: &str = include_str!("../../../docs/metrics.md");

/// The samples of a scrape, by their name with the labels as Prometheus writes them.
fn scrape(handle: &PrometheusHandle) -> BTreeMap<String, f64> {
    let text = handle.render();
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_documented_is_exported_with_namespaces_by_their_pattern() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let backend = memory::backend("bridge-metrics", MemoryConfig::default()).unwrap();
    let cluster = Cluster::builder(backend).namespace_pattern("/rooms/{name}").build();
    let (_layer, io) = SocketIo::builder().with_adapter::<Trunkline>(cluster.clone()).build_layer();
    for namespace in ["/rooms/a", "/rooms/b", "/plain"] {
        io.ns(namespace, async |_: ClusterSocket| {}).await.unwrap();
    }
    let handle = cluster.of("/plain").unwrap();
    handle.count_connect();
    handle.count_connect();
    handle.count_disconnect(DisconnectReason::MultipleHttpPollingError);
    // Levels are exported once a second; the clock is a simulated one.
    tokio::time::sleep(Duration::from_secs(2)).await;

    let scraped = scrape(&prometheus);
    let (_, of_bridge) = DOCUMENTED.split_once("## From the bridge").unwrap();
    let rows: Vec<Vec<_>> = of_bridge
        .lines()
        .filter(|line| line.starts_with("| `trunkline_"))
        .map(|row| row.trim_matches('|').split(" | ").map(|cell| cell.trim().replace('`', "")).collect())
        .collect();
    assert!(rows.len() >= 7, "{rows:?}");
    let types = prometheus.render();
    for row in &rows {
        let [name, kind, _, more, ..] = row.as_slice() else { panic!("{row:?}") };
        assert!(types.contains(&format!("# TYPE {name} {kind}\n")), "{name}");
        for namespace in ["/rooms/{name}", "/plain"] {
            let labels = format!("{name}{{backend=\"memory\",namespace=\"{namespace}\"");
            let has_more = |sample: &str| more == "–" || sample.contains(&format!("{more}=\""));
            assert!(scraped.keys().any(|sample| sample.starts_with(&labels) && has_more(sample)), "{labels}");
        }
    }
    assert!(!scraped.keys().any(|sample| sample.contains("/rooms/a")), "a dynamic namespace by its name");
    let value = |sample: &str| scraped[&format!("{sample}}}")];
    assert_eq!(value("trunkline_connects_total{backend=\"memory\",namespace=\"/plain\""), 2.0);
    let of_reason = "trunkline_disconnects_total{backend=\"memory\",namespace=\"/plain\",reason=";
    assert_eq!(value(&format!("{of_reason}\"transport_error\"")), 1.0);
    assert_eq!(value(&format!("{of_reason}\"ping_timeout\"")), 0.0);
    assert_eq!(value("trunkline_sockets{backend=\"memory\",namespace=\"/plain\""), 0.0);
}
