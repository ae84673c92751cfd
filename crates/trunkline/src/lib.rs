#![doc = include_str!("../README.md")]

#[cfg(feature = "memory")]
mod memory;
mod scheme;

pub use trunkline_core as core;
pub use trunkline_core::{
    Ack, AckCounts, AckSink, AckStream, Adapter, Backend, Capabilities, ClusterNode, DeliveryReport, DownReason,
    Emitter, Error, ErrorKind, Event, EventReply, Flags, Gap, GapCause, Incomplete, Local, Membership, MetricsSnapshot,
    Namespace, NodeConfig, NodeId, NodeKey, NodeMetrics, Offset, Payload, Probe, RequestError, Result, Room, RoomIndex,
    Session, SessionId, SocketId, SocketInfo, Target,
    model::METRICS_BUCKETS,
    transport::{Health, MissedBroadcast, RestoredSession},
};

use crate::scheme::Scheme;

/// Connects to the broker that a URL names, and returns the backend over it.
///
/// The scheme picks the backend: see [the table above](crate#urls). Options stand in the query. Connecting includes the
/// first connection to the broker; later ones are restored by the backend.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> trunkline::Result<()> {
/// let backend = trunkline::connect("memory://chat?history=on").await?;
/// assert!(backend.capabilities()?.history);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Config` for an unknown scheme or parameter, an ill-typed value, or a scheme whose feature is off: the message names
/// it and lists what is allowed. `Disconnected` or `Broker` if the broker cannot be reached or refuses. No message
/// contains the URL's password.
// Without a broker's feature nothing here awaits; the signature stays the same.
#[allow(clippy::unused_async)]
pub async fn connect(url: &str) -> Result<Backend> {
    match Scheme::of(url)? {
        #[cfg(feature = "memory")]
        Scheme::Memory => {
            let (name, config) = memory::from_url(url)?;
            core::memory::backend(&name, config)
        }
        #[cfg(feature = "mongodb")]
        Scheme::MongoDb => trunkline_mongodb::connect(trunkline_mongodb::Config::from_url(url)?).await,
        #[cfg(feature = "nats")]
        Scheme::Nats => trunkline_nats::connect(trunkline_nats::Config::from_url(url)?).await,
        #[cfg(feature = "postgres")]
        Scheme::Postgres => trunkline_postgres::connect(trunkline_postgres::Config::from_url(url)?).await,
        #[cfg(feature = "rabbitmq")]
        Scheme::RabbitMq => trunkline_rabbitmq::connect(trunkline_rabbitmq::Config::from_url(url)?).await,
        #[cfg(feature = "redis")]
        Scheme::Redis => trunkline_redis::connect(trunkline_redis::Config::from_url(url)?).await,
        #[allow(unreachable_patterns)]
        scheme => Err(scheme.feature_is_off()),
    }
}
