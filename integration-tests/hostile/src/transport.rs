//! The transports, and the brokers below them.

use std::{fmt, ops::Deref};

use clap::ValueEnum;
use trunkline_brokers::{Broker, MongoDb, Nats, Postgres, RabbitMq, Redis};

use crate::{Failure, forge::Dialect};

/// A backend in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Transport {
    Redis,
    RedisSharded,
    RedisStreams,
    Mongodb,
    MongodbTtl,
    Postgres,
    PostgresHistory,
    Rabbitmq,
    RabbitmqHistory,
    Nats,
    NatsHistory,
}

/// A broker process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerKind {
    Redis,
    MongoDb,
    Postgres,
    RabbitMq,
    Nats,
}

impl Transport {
    pub(crate) fn broker(self) -> BrokerKind {
        match self {
            Self::Redis | Self::RedisSharded | Self::RedisStreams => BrokerKind::Redis,
            Self::Mongodb | Self::MongodbTtl => BrokerKind::MongoDb,
            Self::Postgres | Self::PostgresHistory => BrokerKind::Postgres,
            Self::Rabbitmq | Self::RabbitmqHistory => BrokerKind::RabbitMq,
            Self::Nats | Self::NatsHistory => BrokerKind::Nats,
        }
    }

    pub(crate) fn dialect(self) -> Dialect {
        match self {
            Self::Redis => Dialect::Classic,
            Self::Mongodb | Self::MongodbTtl => Dialect::MongoDb,
            _ => Dialect::Envelope,
        }
    }

    /// Tells the clusters on one broker apart. Redis streams use it as name of the stream, too.
    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Self::Redis => "classic",
            Self::RedisSharded => "sharded",
            Self::RedisStreams => "streams",
            Self::Mongodb => "capped",
            Self::MongodbTtl => "ttl",
            Self::Postgres | Self::Rabbitmq | Self::Nats => "hostile",
            Self::PostgresHistory | Self::RabbitmqHistory | Self::NatsHistory => "hostilehistory",
        }
    }

    /// URL of the nodes.
    pub(crate) fn url(self, broker: &str) -> String {
        let prefix = self.prefix();
        let parameters = match self {
            Self::Redis => format!("mode=pubsub&prefix={prefix}"),
            Self::RedisSharded => format!("mode=sharded&prefix={prefix}"),
            Self::RedisStreams => format!("mode=streams&prefix={prefix}&stream={prefix}"),
            Self::Mongodb => format!("collection={prefix}&capped_bytes=64MiB"),
            Self::MongodbTtl => format!("collection={prefix}&ttl=1h"),
            Self::Postgres | Self::Rabbitmq | Self::Nats => format!("prefix={prefix}"),
            Self::PostgresHistory | Self::RabbitmqHistory | Self::NatsHistory => format!("prefix={prefix}&history=on"),
        };
        let separator = if broker.contains('?') { '&' } else { '?' };
        format!("{broker}{separator}{parameters}")
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

/// A private broker, which stops when it is dropped.
pub(crate) type RunningBroker = Box<dyn Deref<Target = Broker> + Send + Sync>;

pub(crate) async fn start(kind: BrokerKind) -> Result<RunningBroker, Failure> {
    Ok(match kind {
        BrokerKind::Redis => Box::new(Redis::start().await?),
        BrokerKind::MongoDb => Box::new(MongoDb::start().await?),
        BrokerKind::Postgres => Box::new(Postgres::start().await?),
        BrokerKind::RabbitMq => Box::new(RabbitMq::start().await?),
        BrokerKind::Nats => Box::new(Nats::start().await?),
    })
}
