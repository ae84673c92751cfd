//! The conformance suite, on a private Redis server or the one in `TRUNKLINE_REDIS_URL`.

use trunkline_brokers::Redis;
use trunkline_conformance::{Setup, suite};
use trunkline_core::{Backend, Capabilities, Error, ErrorKind, Membership, Result};
use trunkline_redis::{Config, Mode};

/// The backend of a cluster, which is kept apart from others by its names.
async fn backend(url: &str, cluster: String, parameters: &str) -> Result<Backend> {
    let separator = if url.contains('?') { '&' } else { '?' };
    let mut config = Config::from_url(&format!("{url}{separator}{parameters}"))?;
    if let Mode::Streams(streams) = &mut config.mode {
        streams.stream.clone_from(&cluster);
        streams.session_prefix = format!("{cluster}:session:");
    }
    config.prefix = cluster;
    trunkline_redis::connect(config).await
}

/// On the server that all tests share.
async fn shared(cluster: String, parameters: &str) -> Result<Backend> {
    let url = Redis::shared().await.map_err(|error| Error::new(ErrorKind::Disconnected, error.to_string()))?;
    backend(&url, cluster, parameters).await
}

fn plain(parameters: &'static str) -> Setup {
    Setup::new(move |cluster| shared(cluster, parameters))
}

fn streams(parameters: &'static str) -> Setup {
    plain(parameters).limited_history(|cluster| shared(cluster, "mode=streams&max_len=1000&session_ttl=1s"))
}

const LIMIT: usize = 16 << 20;

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
    max_message_bytes: Some(LIMIT),
};

/// Acknowledged broadcasts travel over pub/sub, plain ones through the stream.
const STREAMS: Capabilities =
    Capabilities { acknowledged_in_order: false, all_rooms_request: false, history: true, ..CLASSIC };

suite! { pubsub, plain("mode=pubsub"), capabilities = CLASSIC, skipped = 19 }

suite! { streams_, streams("mode=streams"), capabilities = STREAMS, skipped = 2 }
