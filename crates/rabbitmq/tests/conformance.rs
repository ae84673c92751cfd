//! The suite over a real RabbitMQ broker.

use trunkline_brokers::RabbitMq;
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_rabbitmq::{Config, connect};

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
async fn backend(cluster: String) -> Result<Backend> {
    let url = RabbitMq::shared().await.expect("a RabbitMQ broker");
    let mut config = Config::from_url(&url)?;
    config.prefix = cluster;
    connect(config).await
}

trunkline_conformance::suite! {
    plain,
    Setup::new(backend),
    capabilities = CAPABILITIES,
    skipped = 20,
}
