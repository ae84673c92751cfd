//! A private broker.

use std::ops::Deref;

use trunkline_brokers::{Broker, MongoDb, Nats, Postgres, RabbitMq, Redis};

use crate::{Failure, subject::BrokerKind};

/// Stops with its owner.
pub(crate) struct Running(Box<dyn Deref<Target = Broker> + Send + Sync>);

impl Running {
    pub(crate) async fn start(kind: BrokerKind) -> Result<Self, Failure> {
        Ok(Self(match kind {
            BrokerKind::Redis => Box::new(Redis::start().await?),
            BrokerKind::Mongodb => Box::new(MongoDb::start().await?),
            BrokerKind::Postgres => Box::new(Postgres::start().await?),
            BrokerKind::Rabbitmq => Box::new(RabbitMq::start().await?),
            BrokerKind::Nats => Box::new(Nats::start().await?),
        }))
    }

    pub(crate) fn url(&self) -> &str {
        self.0.url()
    }

    /// The process whose processor time, with that of its descendants, is the broker's.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.0.pid()
    }
}
