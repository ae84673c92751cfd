//! What a run needs to know of a transport, and the broker below it.

use std::ops::Deref;

use trunkline_brokers::{
    Broker, MongoDb, Nats, Postgres, RabbitMq, Redis,
    transports::{BrokerKind, Transport},
};

use crate::{Failure, forge::Dialect};

pub(crate) fn dialect(transport: Transport) -> Dialect {
    match transport {
        Transport::RedisClassic => Dialect::Classic,
        Transport::Mongodb | Transport::MongodbTtl => Dialect::MongoDb,
        _ => Dialect::Envelope,
    }
}

/// Tells the clusters on one broker apart. Redis streams use it as name of the stream, too.
pub(crate) fn prefix(transport: Transport) -> &'static str {
    match transport {
        Transport::RedisClassic => "classic",
        Transport::RedisSharded => "sharded",
        Transport::RedisStreams => "streams",
        Transport::Mongodb => "capped",
        Transport::MongodbTtl => "ttl",
        Transport::Postgres | Transport::Rabbitmq | Transport::Nats => "hostile",
        Transport::PostgresHistory | Transport::RabbitmqHistory | Transport::NatsHistory => "hostilehistory",
    }
}

/// URL of the nodes.
pub(crate) fn url(transport: Transport, broker: &str) -> String {
    let prefix = prefix(transport);
    let (own, stream, collection) =
        (format!("prefix={prefix}"), format!("stream={prefix}"), format!("collection={prefix}"));
    match transport {
        Transport::RedisStreams => transport.url(broker, &[&own, &stream]),
        Transport::Mongodb => transport.url(broker, &[&collection, "capped_bytes=64MiB"]),
        Transport::MongodbTtl => transport.url(broker, &[&collection]),
        _ => transport.url(broker, &[&own]),
    }
}

/// A private broker, which stops when it is dropped.
pub(crate) type RunningBroker = Box<dyn Deref<Target = Broker> + Send + Sync>;

pub(crate) async fn start(kind: BrokerKind) -> Result<RunningBroker, Failure> {
    Ok(match kind {
        BrokerKind::Redis => Box::new(Redis::start().await?),
        BrokerKind::Mongodb => Box::new(MongoDb::start().await?),
        BrokerKind::Postgres => Box::new(Postgres::start().await?),
        BrokerKind::Rabbitmq => Box::new(RabbitMq::start().await?),
        BrokerKind::Nats => Box::new(Nats::start().await?),
    })
}
