//! The conformance suite, on a private Redis server or the one in `TRUNKLINE_REDIS_URL`.

use trunkline_brokers::Redis;
use trunkline_conformance::{Setup, suite};
use trunkline_core::{Capabilities, Error, ErrorKind, Membership, Result};
use trunkline_redis::Config;

/// Clusters are kept apart by their prefix.
fn setup(parameters: &'static str) -> Setup {
    Setup::new(move |cluster| async move {
        let mut config = Config::from_url(&with_parameters(&server().await?, parameters))?;
        config.prefix = cluster;
        trunkline_redis::connect(config).await
    })
}

async fn server() -> Result<String> {
    Redis::shared().await.map_err(|error| Error::new(ErrorKind::Disconnected, error.to_string()))
}

fn with_parameters(url: &str, parameters: &str) -> String {
    let separator = if url.contains('?') { '&' } else { '?' };
    format!("{url}{separator}{parameters}")
}

const CLASSIC: Capabilities = Capabilities {
    membership: Membership::Census,
    total_order: true,
    acknowledged_in_order: true,
    numbered: true,
    announced_leave: true,
    named_answers: true,
    all_rooms_request: true,
    room_interest: false,
    history: false,
    max_message_bytes: Some(16 << 20),
};

suite! { pubsub, super::setup("mode=pubsub"), capabilities = CLASSIC, skipped = 19 }
