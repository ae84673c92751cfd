//! The suite over a real RabbitMQ broker.

use std::time::Duration;

use tokio::sync::OnceCell;
use trunkline_brokers::RabbitMq;
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_rabbitmq::{Config, HistoryConfig, connect};

const CAPABILITIES: Capabilities = Capabilities::new(Membership::Heartbeats)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_room_interest(true)
    // The default, without what a batch takes.
    .with_max_message_bytes(Some((4 << 20) - 69));

/// A node of the cluster with this name, with connections of its own.
async fn backend(cluster: String, change: impl FnOnce(&mut Config)) -> Result<Backend> {
    let url = RabbitMq::shared().await.expect("a RabbitMQ broker");
    let mut config = Config::from_url(&url)?;
    config.prefix = cluster;
    // A hundred connections at once, on a machine that does other things too.
    config.connect_timeout = Duration::from_secs(30);
    change(&mut config);
    connect(config).await
}

trunkline_conformance::suite! {
    plain,
    Setup::new(|cluster| backend(cluster, |_| ())),
    capabilities = CAPABILITIES,
    skipped = 27,
}

/// Many clusters share one broker: each keeps little.
fn history() -> HistoryConfig {
    HistoryConfig { bytes: 64 << 20, ..HistoryConfig::default() }
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| backend(cluster, |config| config.history = Some(history()))).limited_history(|cluster| {
        let limits = HistoryConfig { bytes: 96 << 10, session_ttl: Duration::from_secs(1), ..history() };
        backend(cluster, move |config| config.history = Some(limits))
    }),
    capabilities = CAPABILITIES.with_room_interest(false).with_history(true),
    skipped = 1,
}

/// One broker for all cases, with TLS, a client certificate and a password.
async fn over_tls(cluster: String) -> Result<Backend> {
    static BROKER: OnceCell<RabbitMq> = OnceCell::const_new();
    let options = RabbitMq::options().user("app", "s3cret").tls();
    let broker = BROKER.get_or_init(|| async { options.start().await.expect("a RabbitMQ broker with TLS") }).await;
    let files = broker.certificates().expect("a broker with TLS has certificates");
    let url = format!(
        "{}?prefix={cluster}&tls_ca={}&tls_cert={}&tls_key={}&connect_timeout=30s",
        broker.url(),
        files.authority().display(),
        files.client().display(),
        files.client_key().display()
    );
    connect(Config::from_url(&url)?).await
}

trunkline_conformance::suite! {
    with_tls,
    Setup::new(over_tls).scaled_down_by(4),
    capabilities = CAPABILITIES,
    skipped = 27,
}
