//! What an operator's tools ask a node: metrics for Prometheus, and whether it lives and is ready.

use std::{error::Error, sync::OnceLock, time::Duration};

use axum::{Router, routing::get};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use trunkline::METRICS_BUCKETS;
use trunkline_socketioxide::Cluster;

static PROMETHEUS: OnceLock<PrometheusHandle> = OnceLock::new();

/// Installs the recorder of this process. Before the first namespace is opened, so that its metrics are registered
/// there.
pub(crate) fn install() -> Result<(), Box<dyn Error>> {
    let builder = PrometheusBuilder::new();
    let prometheus = builder.set_buckets_for_metric(Matcher::Prefix("trunkline_".into()), &METRICS_BUCKETS)?;
    let handle = prometheus.install_recorder()?;
    let kept = PROMETHEUS.get_or_init(|| handle);
    tokio::spawn(async {
        loop {
            tokio::time::sleep(UPKEEP).await;
            // Otherwise the samples of histograms gather until the next scrape.
            kept.run_upkeep();
        }
    });
    Ok(())
}

/// `/metrics` of the whole process, `/livez` and `/readyz` of one node.
pub(crate) fn routes(cluster: &Cluster) -> Router {
    let (live, ready) = (cluster.clone(), cluster.clone());
    Router::new()
        .route("/metrics", get(async || PROMETHEUS.get().map(PrometheusHandle::render).unwrap_or_default()))
        .route("/livez", get(async move || live.livez()))
        .route("/readyz", get(async move || ready.readyz()))
}

const UPKEEP: Duration = Duration::from_secs(5);
