//! The conformance suite: on a single server (a private one, or that in `TRUNKLINE_REDIS_URL`), on a Redis Cluster,
//! through a Sentinel, and over TLS with a client certificate and a password.

use tokio::sync::OnceCell;
use trunkline_brokers::{ClientCertificate, Redis, RedisCluster, RedisSentinel};
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

/// Servers that a suite runs on.
#[derive(Clone, Copy, Debug)]
enum Servers {
    Single,
    Cluster,
    Sentinel,
    Tls,
}

impl Servers {
    /// Where it is. Started once.
    async fn url(self) -> trunkline_brokers::Result<String> {
        static CLUSTER: OnceCell<RedisCluster> = OnceCell::const_new();
        static SENTINEL: OnceCell<RedisSentinel> = OnceCell::const_new();
        static TLS: OnceCell<Redis> = OnceCell::const_new();
        Ok(match self {
            Self::Single => Redis::shared().await?,
            Self::Cluster => format!("{}?cluster=on", CLUSTER.get_or_try_init(RedisCluster::start).await?.url()),
            Self::Sentinel => {
                let sentinel = SENTINEL.get_or_try_init(RedisSentinel::start).await?;
                format!("{}?sentinel={}", sentinel.url(), sentinel.service())
            }
            Self::Tls => {
                let options = Redis::options().user("app", "s3cret").tls(ClientCertificate::Required);
                let server = TLS.get_or_try_init(|| options.start()).await?;
                let paths = server.certificates().map(|all| (all.authority(), all.client(), all.client_key()));
                let (ca, certificate, key) = paths.unwrap_or_default();
                let (ca, certificate, key) = (ca.display(), certificate.display(), key.display());
                format!("{}?tls_ca={ca}&tls_cert={certificate}&tls_key={key}", server.url())
            }
        })
    }

    async fn connect(self, cluster: String, parameters: &str) -> Result<Backend> {
        let url = self.url().await.map_err(|error| Error::new(ErrorKind::Disconnected, error.to_string()))?;
        backend(&url, cluster, parameters).await
    }
}

fn plain(servers: Servers, parameters: &'static str) -> Setup {
    Setup::new(move |cluster| servers.connect(cluster, parameters))
}

fn streams(servers: Servers, parameters: &'static str) -> Setup {
    let limited = move |cluster| servers.connect(cluster, "mode=streams&max_len=1000&session_ttl=1s");
    plain(servers, parameters).limited_history(limited)
}

/// The same transport in another place: a tenth of the messages will do.
const TENTH: usize = 10;

const LIMIT: usize = 16 << 20;

const CLASSIC: Capabilities = Capabilities::new(Membership::BrokerCount)
    .with_total_order(true)
    .with_acknowledged_in_order(true)
    .with_numbered(true)
    .with_announced_leave(true)
    .with_named_answers(true)
    .with_all_rooms_request(true)
    .with_max_message_bytes(Some(LIMIT));

/// Acknowledged broadcasts travel over pub/sub, plain ones through the stream.
const STREAMS: Capabilities =
    CLASSIC.with_acknowledged_in_order(false).with_all_rooms_request(false).with_history(true);

suite! { pubsub, plain(Servers::Single, "mode=pubsub"), capabilities = CLASSIC, skipped = 25 }

suite! {
    pubsub_rooms,
    plain(Servers::Single, "subscription=rooms").scaled_down_by(TENTH),
    capabilities = CLASSIC.with_numbered(false).with_room_interest(true),
    skipped = 32,
}

suite! { pubsub_cluster, plain(Servers::Cluster, "").scaled_down_by(TENTH), capabilities = CLASSIC, skipped = 25 }

suite! {
    pubsub_tls,
    plain(Servers::Tls, "specific_response_channel=on").scaled_down_by(TENTH),
    capabilities = CLASSIC,
    skipped = 25,
}

suite! { streams_single, streams(Servers::Single, "mode=streams"), capabilities = STREAMS, skipped = 2 }

suite! {
    streams_cluster,
    streams(Servers::Cluster, "mode=streams&streams=3&sharded_pubsub=on").scaled_down_by(TENTH),
    capabilities = STREAMS,
    skipped = 2,
}

suite! {
    streams_sentinel,
    streams(Servers::Sentinel, "mode=streams&sharded_pubsub=on").scaled_down_by(TENTH),
    capabilities = STREAMS,
    skipped = 2,
}
