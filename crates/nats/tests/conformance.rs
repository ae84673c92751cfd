//! The suite over a real NATS server.

use std::time::Duration;

use tokio::sync::OnceCell;
use trunkline_brokers::{ClientCertificate, Nats};
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_nats::{Config, HistoryConfig, connect};

const CAPABILITIES: Capabilities = Capabilities::new(Membership::Heartbeats)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_room_interest(true)
    // The server's default max_payload, without what a batch takes.
    .with_max_message_bytes(Some((1 << 20) - 69));

/// A node of the cluster with this name, with connections of its own.
async fn backend(cluster: String, change: impl FnOnce(&mut Config)) -> Result<Backend> {
    let url = Nats::shared().await.expect("a NATS server");
    let mut config = Config::from_url(&url)?;
    config.prefix = cluster;
    change(&mut config);
    connect(config).await
}

trunkline_conformance::suite! {
    plain,
    Setup::new(|cluster| backend(cluster, |_| ())),
    capabilities = CAPABILITIES,
    skipped = 27,
}

/// Many clusters share one server: each keeps little, and in memory.
fn history() -> HistoryConfig {
    HistoryConfig { bytes: 64 << 20, in_memory: true, ..HistoryConfig::default() }
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| backend(cluster, |config| config.history = Some(history()))).limited_history(|cluster| {
        let limits = HistoryConfig { bytes: 64 << 10, session_ttl: Duration::from_secs(1), ..history() };
        backend(cluster, move |config| config.history = Some(limits))
    }),
    capabilities = CAPABILITIES.with_room_interest(false).with_history(true).with_max_message_bytes(Some((1 << 20) - 165)),
    skipped = 1,
}

/// The same server for all cases, with TLS, a client certificate and a password.
async fn over_tls(cluster: String) -> Result<Backend> {
    static SERVER: OnceCell<Nats> = OnceCell::const_new();
    let options = Nats::options().user("app", "s3cret").tls(ClientCertificate::Required);
    let server = SERVER.get_or_init(|| async { options.start().await.expect("a NATS server with TLS") }).await;
    let files = server.certificates().expect("a server with TLS has certificates");
    let url = format!(
        "{}?prefix={cluster}&tls_ca={}&tls_cert={}&tls_key={}",
        server.url(),
        files.authority().display(),
        files.client().display(),
        files.client_key().display()
    );
    connect(Config::from_url(&url)?).await
}

trunkline_conformance::suite! {
    with_tls,
    Setup::new(over_tls),
    capabilities = CAPABILITIES,
    skipped = 27,
}
