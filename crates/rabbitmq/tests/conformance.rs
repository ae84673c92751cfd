//! The suite over a real RabbitMQ broker.

use std::time::Duration;

use trunkline_brokers::RabbitMq;
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_rabbitmq::{Config, HistoryConfig, connect};

const CAPABILITIES: Capabilities = Capabilities {
    membership: Membership::Heartbeats,
    total_order: true,
    acknowledged_in_order: true,
    numbered: true,
    announced_leave: true,
    named_answers: true,
    all_rooms_request: false,
    room_interest: true,
    history: false,
    // The default, without what a frame takes.
    max_message_bytes: Some((4 << 20) - 69),
};

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
    skipped = 20,
}

/// Many clusters share one broker: each keeps little.
fn history() -> HistoryConfig {
    HistoryConfig { bytes: 64 << 20, ..HistoryConfig::default() }
}

trunkline_conformance::suite! {
    with_history,
    Setup::new(|cluster| backend(cluster, |config| config.history = Some(history()))).limited_history(|cluster| {
        let limits = HistoryConfig { bytes: 64 << 10, session_ttl: Duration::from_secs(1), ..history() };
        backend(cluster, move |config| config.history = Some(limits))
    }),
    capabilities = Capabilities { room_interest: false, history: true, ..CAPABILITIES },
    skipped = 1,
}
