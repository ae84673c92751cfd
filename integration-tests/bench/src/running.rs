//! A private broker.

use trunkline_brokers::{Broker, Nats, Postgres, Redis};

use crate::{Failure, subject::BrokerKind};

/// Stops with its owner.
pub(crate) enum Running {
    Redis(Redis),
    Postgres(Postgres),
    Nats(Nats),
}

impl Running {
    pub(crate) async fn start(kind: BrokerKind) -> Result<Self, Failure> {
        Ok(match kind {
            BrokerKind::Redis => Self::Redis(Redis::start().await?),
            BrokerKind::Postgres => Self::Postgres(Postgres::start().await?),
            BrokerKind::Nats => Self::Nats(Nats::start().await?),
        })
    }

    fn broker(&self) -> &Broker {
        match self {
            Self::Redis(broker) => broker,
            Self::Postgres(broker) => broker,
            Self::Nats(broker) => broker,
        }
    }

    pub(crate) fn url(&self) -> &str {
        self.broker().url()
    }

    /// The process whose processor time, with that of its descendants, is the broker's.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.broker().pid()
    }
}
