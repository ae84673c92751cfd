//! The transports of this repository, for programs that try all of them.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A backend in one of its modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Redis pub/sub, as the classic adapter uses it.
    RedisClassic,
    /// Redis sharded pub/sub.
    RedisSharded,
    /// Redis streams.
    RedisStreams,
    /// MongoDB with a capped collection.
    Mongodb,
    /// MongoDB with a collection from which an index removes old documents.
    MongodbTtl,
    /// PostgreSQL without history.
    Postgres,
    /// PostgreSQL with history.
    PostgresHistory,
    /// RabbitMQ without history.
    Rabbitmq,
    /// RabbitMQ with history.
    RabbitmqHistory,
    /// NATS without history.
    Nats,
    /// NATS with history.
    NatsHistory,
}

/// A broker program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// Redis.
    Redis,
    /// MongoDB.
    Mongodb,
    /// PostgreSQL.
    Postgres,
    /// RabbitMQ.
    Rabbitmq,
    /// NATS.
    Nats,
}

impl Transport {
    /// All of them, in the order in which they are tried.
    #[must_use]
    pub fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// Broker below the transport.
    #[must_use]
    pub fn broker(self) -> BrokerKind {
        match self {
            Self::RedisClassic | Self::RedisSharded | Self::RedisStreams => BrokerKind::Redis,
            Self::Mongodb | Self::MongodbTtl => BrokerKind::Mongodb,
            Self::Postgres | Self::PostgresHistory => BrokerKind::Postgres,
            Self::Rabbitmq | Self::RabbitmqHistory => BrokerKind::Rabbitmq,
            Self::Nats | Self::NatsHistory => BrokerKind::Nats,
        }
    }

    /// Whether the broker keeps messages, so that a node reads on from where it was.
    #[must_use]
    pub fn has_history(self) -> bool {
        !matches!(self, Self::RedisClassic | Self::RedisSharded | Self::Postgres | Self::Rabbitmq | Self::Nats)
    }

    /// URL of a node, from the URL at which it reaches the broker, with more parameters, as `name=value`.
    #[must_use]
    pub fn url(self, broker: &str, more: &[&str]) -> String {
        let own = match self {
            Self::RedisClassic => Some("mode=pubsub"),
            Self::RedisSharded => Some("mode=sharded"),
            Self::RedisStreams => Some("mode=streams"),
            Self::MongodbTtl => Some("ttl=1h"),
            Self::PostgresHistory | Self::RabbitmqHistory | Self::NatsHistory => Some("history=on"),
            Self::Mongodb | Self::Postgres | Self::Rabbitmq | Self::Nats => None,
        };
        let mut url = broker.to_owned();
        for parameter in own.iter().chain(more) {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(parameter);
        }
        url
    }
}

/// The name on the command line.
impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.to_possible_value().as_ref().map_or("", |value| value.get_name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_appended_to_any_url() {
        let url = Transport::RedisClassic.url("redis://127.0.0.1:1", &["prefix=a"]);
        assert_eq!(url, "redis://127.0.0.1:1?mode=pubsub&prefix=a");
        assert_eq!(Transport::Mongodb.url("mongodb://h/?a=b", &["c=d"]), "mongodb://h/?a=b&c=d");
        assert_eq!(Transport::Nats.url("nats://h", &[]), "nats://h");
    }

    #[test]
    fn names_are_those_of_the_records() {
        for transport in Transport::all() {
            assert_eq!(serde_json::to_value(transport).unwrap(), transport.to_string());
        }
    }
}
