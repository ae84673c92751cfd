//! The suite over a real NATS server.

use trunkline_brokers::Nats;
use trunkline_conformance::Setup;
use trunkline_core::{Backend, Capabilities, Membership, Result};
use trunkline_nats::{Config, connect};

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
    // The server's default max_payload, without what a frame takes.
    max_message_bytes: Some((1 << 20) - 69),
};

async fn backend(cluster: String) -> Result<Backend> {
    let url = Nats::shared().await.expect("a NATS server");
    let mut config = Config::from_url(&url)?;
    config.prefix = cluster;
    connect(config).await
}

trunkline_conformance::suite! {
    plain,
    Setup::new(backend),
    capabilities = CAPABILITIES,
    skipped = 0,
}
