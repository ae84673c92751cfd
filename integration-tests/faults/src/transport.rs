//! The transports under test: a broker, and the parameters of its URL.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A transport under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    RedisClassic,
    RedisSharded,
    RedisStreams,
    Mongodb,
    Postgres,
    PostgresHistory,
    Rabbitmq,
    RabbitmqHistory,
    Nats,
    NatsHistory,
}

/// A broker program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BrokerKind {
    Redis,
    Mongodb,
    Postgres,
    Rabbitmq,
    Nats,
}

impl Transport {
    pub(crate) fn broker(self) -> BrokerKind {
        match self {
            Self::RedisClassic | Self::RedisSharded | Self::RedisStreams => BrokerKind::Redis,
            Self::Mongodb => BrokerKind::Mongodb,
            Self::Postgres | Self::PostgresHistory => BrokerKind::Postgres,
            Self::Rabbitmq | Self::RabbitmqHistory => BrokerKind::Rabbitmq,
            Self::Nats | Self::NatsHistory => BrokerKind::Nats,
        }
    }

    /// Whether the broker keeps messages, so that a node reads on from where it was.
    pub(crate) fn has_history(self) -> bool {
        matches!(
            self,
            Self::RedisStreams | Self::Mongodb | Self::PostgresHistory | Self::RabbitmqHistory | Self::NatsHistory
        )
    }

    /// URL of a node, from the URL at which it reaches the broker.
    pub(crate) fn url(self, broker: &str) -> String {
        let parameters = match self {
            Self::RedisClassic => "mode=pubsub",
            Self::RedisSharded => "mode=sharded",
            Self::RedisStreams => "mode=streams&max_len=100000",
            // Otherwise its clients go to the address that the replica set names, past the proxy.
            Self::Mongodb => "directConnection=true",
            Self::Postgres | Self::Rabbitmq | Self::Nats => return broker.to_owned(),
            Self::PostgresHistory => "history=on&history_messages=100000",
            Self::RabbitmqHistory | Self::NatsHistory => "history=on",
        };
        format!("{broker}{}{parameters}", if broker.contains('?') { '&' } else { '?' })
    }

    /// Name on the command line and in the table.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_appended_to_any_url() {
        assert_eq!(Transport::RedisClassic.url("redis://127.0.0.1:1"), "redis://127.0.0.1:1?mode=pubsub");
        assert_eq!(Transport::Mongodb.url("mongodb://h/?a=b"), "mongodb://h/?a=b&directConnection=true");
        assert_eq!(Transport::Nats.url("nats://h"), "nats://h");
    }
}
